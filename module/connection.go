// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// endPatience and shutdownPatience are the ending.patience of connections that
	// are ended, and of those that nobody can answer for any more.
	endPatience      = time.Second
	shutdownPatience = 100 * time.Millisecond
)

// Close codes of WebSockets.
const (
	closeGoingAway     = 1001
	closeTryAgainLater = 1013
	closeUnauthorized  = 4401 // private use; 401 in the only range there is
)

// shutdown is the reason why connections end that outlive their state.
const shutdown = "shutdown"

// connectionOptions are what connections need of the state that they belong to.
type connectionOptions struct {
	ctx context.Context
	// run runs a task in the background, and reports whether there is time for it.
	run func(task func()) bool
	// validate validates a session, and returns until when that will do.
	validate func(ctx context.Context, token string) (until time.Time, err error)
	// believedUntil is that of the cache.
	believedUntil func() time.Time
	// ended is told of each connection that was ended.
	ended   func(subject, word string)
	metrics *metrics
}

// connections are the WebSockets and event streams that sessions opened. Each
// ends with its session: whenever the session may have ended, it is validated
// again, with the token that opened the connection. As long as it is open it
// counts as use of the session.
//
// It is safe for concurrent use, and nothing waits for it.
type connections struct {
	connectionOptions

	count    atomic.Int64 // of those that are open
	failedAt atomic.Int64 // when the store could not tell, in unix nanoseconds

	mu      sync.Mutex
	closed  bool
	users   map[string]*userConnections
	urgent  []*userConnections // a change was reported
	queue   []*userConnections
	workers int
	doubt   *time.Timer // nil while the store tells about changes
}

// userConnections are the open connections of one user. Its fields are guarded
// by connections.mu.
type userConnections struct {
	open      map[*connection]struct{}
	timer     *time.Timer // for the next check
	queued    priority
	checking  bool
	again     bool      // something changed while they were checked
	troubleAt time.Time // since when they cannot be validated
}

// priority says which queue something is in.
type priority int

const (
	notQueued priority = iota
	ordinary
	urgent
)

// connection is one open connection.
type connection struct {
	registry       *connections
	subject, token string
	end            func(ending)
}

func newConnections(options connectionOptions) *connections {
	return &connections{connectionOptions: options, users: make(map[string]*userConnections)}
}

// add adds a connection that the session with this token opened. It is checked
// at once: the session may have ended since the request was let through. end is
// called at most once, by a goroutine of its own; the caller calls remove when
// the connection is closed.
func (r *connections) add(subject, token string, end func(ending)) *connection {
	c := &connection{registry: r, subject: subject, token: token, end: end}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		go end(ending{shutdown, closeGoingAway, shutdownPatience})
		return c
	}
	user := r.users[subject]
	if user == nil {
		user = &userConnections{open: make(map[*connection]struct{}, 1)}
		r.users[subject] = user
	}
	user.open[c] = struct{}{}
	r.count.Add(1)
	r.metrics.connectionsOpen.Inc()
	r.enqueue(user, urgent)
	return c
}

// remove takes a connection out, and reports whether it was there.
func (c *connection) remove() bool {
	c.registry.mu.Lock()
	defer c.registry.mu.Unlock()
	return c.registry.removeLocked(c)
}

// removeLocked does the work of connection.remove. The caller holds r.mu.
func (r *connections) removeLocked(c *connection) bool {
	user := r.users[c.subject]
	if user == nil {
		return false
	}
	if _, there := user.open[c]; !there {
		return false
	}
	delete(user.open, c)
	r.count.Add(-1)
	r.metrics.connectionsOpen.Dec()
	if len(user.open) == 0 {
		delete(r.users, c.subject)
		if user.timer != nil {
			user.timer.Stop()
		}
	}
	return true
}

// end ends a connection.
func (r *connections) end(c *connection, word string, code uint16) {
	if !c.remove() {
		return // it has ended by itself
	}
	r.metrics.connectionsClosed.WithLabelValues(word).Inc()
	r.ended(c.subject, word)
	task := func() { c.end(ending{word, code, endPatience}) }
	if !r.run(task) {
		go task()
	}
}

// close ends all connections, because nobody can tell any more whether their
// sessions go on.
func (r *connections) close() {
	r.mu.Lock()
	r.closed = true
	if r.doubt != nil {
		r.doubt.Stop()
	}
	var open []*connection
	for _, user := range r.users {
		for c := range user.open {
			open = append(open, c)
		}
	}
	for _, c := range open {
		r.removeLocked(c)
	}
	r.mu.Unlock()
	var endings sync.WaitGroup
	for _, c := range open {
		r.metrics.connectionsClosed.WithLabelValues(shutdown).Inc()
		endings.Go(func() { c.end(ending{shutdown, closeGoingAway, shutdownPatience}) })
	}
	endings.Wait()
}
