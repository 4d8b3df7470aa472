// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"time"

	"github.com/minigate/minigate/module/session"
)

const (
	// maxChecks is how many users' connections are checked at once.
	maxChecks = 64

	// checkPause is the time after which a connection is checked again, if not
	// before.
	checkPause = time.Minute

	// retryPause is the time after which a session is validated again that could
	// not be.
	retryPause = time.Second

	// doubtPause is the time between two checks of all connections while the store
	// does not tell about changes.
	doubtPause = 10 * time.Second

	// hurriedTimeout bounds the validation of a session where that of another has
	// just failed, and nothing is believed any more.
	hurriedTimeout = 250 * time.Millisecond
)

// changed has the connections of a user checked. What is added meanwhile is
// checked anyway.
func (r *connections) changed(subject string) {
	if r.count.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if user := r.users[subject]; user != nil {
		r.enqueue(user, urgent)
	}
}

// trusted has all connections checked, because changes may have been missed.
func (r *connections) trusted() {
	r.mu.Lock()
	if r.doubt != nil {
		r.doubt.Stop()
		r.doubt = nil
	}
	r.mu.Unlock()
	r.checkAll()
}

// checkAll has all connections checked, one after the other.
func (r *connections) checkAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, user := range r.users {
		r.enqueue(user, ordinary)
	}
}

// distrusted has all connections checked from then on, again and again: nobody
// tells when a session ends.
func (r *connections) distrusted(until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(until)+time.Millisecond, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.doubt != timer {
			return
		}
		for _, user := range r.users {
			r.enqueue(user, ordinary)
		}
		timer.Reset(doubtPause)
	})
	r.doubt = timer
}

// enqueue has the connections of a user checked. The caller holds r.mu.
func (r *connections) enqueue(user *userConnections, p priority) {
	switch {
	case r.closed:
		return
	case user.checking:
		user.again = true
		return
	case user.queued >= p:
		return
	}
	user.queued = p
	if p == urgent {
		r.urgent = append(r.urgent, user)
	} else {
		r.queue = append(r.queue, user)
	}
	if r.workers < maxChecks && r.run(r.work) {
		r.workers++
	}
}

// work checks what is queued, until that is nothing.
func (r *connections) work() {
	for {
		user, open := r.next()
		if user == nil {
			return
		}
		r.check(user, open)
	}
}

// next returns whose connections are to be checked, and which those are; nil if
// there are none.
func (r *connections) next() (*userConnections, []*connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		queue := &r.urgent
		if len(*queue) == 0 {
			queue = &r.queue
		}
		if len(*queue) == 0 {
			r.urgent, r.queue = nil, nil
			r.workers--
			return nil, nil
		}
		user := (*queue)[0]
		(*queue)[0] = nil
		*queue = (*queue)[1:]
		if user.queued == notQueued || len(user.open) == 0 {
			continue // it was in both queues, or is closed
		}
		user.queued, user.checking = notQueued, true
		open := make([]*connection, 0, len(user.open))
		for c := range user.open {
			open = append(open, c)
		}
		return user, open
	}
}

// verdict is what came of the validation of a session.
type verdict struct {
	until   time.Time
	word    string // why it has ended; empty if it has not
	trouble bool   // the store could not tell
}

// check validates the sessions that opened connections of a user, and ends the
// connections of those that have ended.
func (r *connections) check(user *userConnections, open []*connection) {
	verdicts := make(map[string]verdict, 1)
	until, trouble := time.Now().Add(checkPause), false
	for _, c := range open {
		v, known := verdicts[c.token]
		if !known {
			v = r.judge(c.token)
			verdicts[c.token] = v
		}
		if v.word != "" {
			r.end(c, v.word, closeUnauthorized)
			continue
		}
		trouble = trouble || v.trouble
		if v.until.Before(until) {
			until = v.until
		}
	}
	if trouble && r.hopeless(user) {
		for _, c := range open {
			if verdicts[c.token].trouble {
				r.end(c, errStore.Word, closeTryAgainLater)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !trouble {
		user.troubleAt = time.Time{}
	}
	user.checking = false
	switch {
	case len(user.open) == 0 || r.closed:
	case user.again:
		user.again = false
		r.enqueue(user, urgent)
	default:
		r.wake(user, time.Until(until))
	}
}

// judge validates the session with this token.
func (r *connections) judge(token string) verdict {
	ctx, now := r.ctx, time.Now()
	if now.After(r.believedUntil()) && now.UnixNano()-r.failedAt.Load() < int64(doubtPause) {
		// A store that hangs must not keep the last of many connections open for
		// as long as it takes to ask for each of them.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, hurriedTimeout)
		defer cancel()
	}
	until, err := r.validate(ctx, token)
	if err == nil {
		return verdict{until: until}
	}
	failure, operational := sessionError(err)
	if operational {
		r.failedAt.Store(time.Now().UnixNano())
		return verdict{until: time.Now().Add(retryPause), trouble: true}
	}
	return verdict{word: failure.Word}
}

// hopeless reports whether connections are to be ended that cannot be
// validated: by the rule that requests have, if what is known of sessions is not
// believed any more, and otherwise after as long a time.
func (r *connections) hopeless(user *userConnections) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if user.troubleAt.IsZero() {
		user.troubleAt = now
	}
	return r.ctx.Err() == nil && (now.After(r.believedUntil()) || now.Sub(user.troubleAt) >= session.StoreGrace)
}

// wake has the connections of a user checked after a time. The caller holds r.mu.
func (r *connections) wake(user *userConnections, after time.Duration) {
	after = max(after, 10*time.Millisecond)
	if user.timer != nil {
		user.timer.Reset(after)
		return
	}
	user.timer = time.AfterFunc(after, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(user.open) > 0 {
			r.enqueue(user, ordinary)
		}
	})
}
