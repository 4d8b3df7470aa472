// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/minigate/minigate/module/provider"
)

// answerKept is for how long the outcome of an exchange is kept for the client
// that brought the code: the network stack of mini-programs sends a request
// again on its own when an answer is late.
const answerKept = 10 * time.Second

// codeUse says what a code is exchanged for.
type codeUse int

const (
	forLogin codeUse = iota
	forPhone
	forProfile
)

// exchangeKey names a code. It does not hold it.
type exchangeKey struct {
	use     codeUse
	program string
	code    [sha256.Size]byte
}

func newExchangeKey(use codeUse, program, code string) exchangeKey {
	return exchangeKey{use, program, sha256.Sum256([]byte(code))}
}

// attempt is one exchange, under way or ended.
type attempt struct {
	client string
	done   chan struct{} // closed when result and err are set
	result any
	err    error
}

// exchanges sees to it that each code is exchanged once: requests that
// bring the same code while it is under way, or within 10 seconds after, get
// the same answer, if they come from the same client. It is safe for concurrent
// use.
//
// An exchange runs to its end whatever becomes of the request that began it:
// once the code was sent it is spent, and the session that it bought must not
// get lost.
type exchanges struct {
	ctx     context.Context // ends the exchanges when the process does without them
	now     func() time.Time
	running sync.WaitGroup

	mu       sync.Mutex
	attempts map[exchangeKey]*attempt
	ended    []endedAttempt // oldest first
	sweeping bool           // whether a timer will forget them
}

type endedAttempt struct {
	key   exchangeKey
	until time.Time
}

func newExchanges(ctx context.Context) *exchanges {
	return &exchanges{ctx: ctx, now: time.Now, attempts: make(map[exchangeKey]*attempt)}
}

// errForeignCode says that another client brought the code first.
var errForeignCode = errors.New("the code was brought by another client before")

// once returns the outcome of exchanging a code of a program, which this client
// brought. exchange is called if nobody exchanged the code before; its context
// does not end with ctx. T must survive being encoded as JSON, for other gateways
// that share the store.
func once[T any](ctx context.Context, rt *runtime, use codeUse, program, code, client string, exchange func(context.Context) (T, error)) (T, error) {
	key := newExchangeKey(use, program, code)
	result, err := rt.state.exchanges.do(ctx, key, client, func(ctx context.Context) (any, error) {
		if rt.cluster != nil {
			return exchangeOnce(ctx, rt.cluster, key, client, exchange)
		}
		return exchange(ctx)
	})
	typed, _ := result.(T)
	return typed, err
}

func (e *exchanges) do(ctx context.Context, key exchangeKey, client string, exchange func(context.Context) (any, error)) (any, error) {
	e.mu.Lock()
	e.forget()
	a, known := e.attempts[key]
	if !known {
		a = &attempt{client: client, done: make(chan struct{})}
		e.attempts[key] = a
		e.running.Go(func() {
			detached, cancel := context.WithCancel(context.WithoutCancel(ctx))
			defer cancel()
			defer context.AfterFunc(e.ctx, cancel)()
			result, err := contained(detached, exchange)
			e.end(key, a, result, err)
		})
	}
	e.mu.Unlock()

	if a.client != client {
		return nil, errForeignCode
	}
	select {
	case <-a.done:
		return a.result, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// contained runs exchange and makes an error of a panic: it runs outside the
// request that the server would contain it in.
func contained(ctx context.Context, exchange func(context.Context) (any, error)) (result any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic of type %T while exchanging a code", cause)
		}
	}()
	return exchange(ctx)
}

// end publishes the outcome of an attempt.
func (e *exchanges) end(key exchangeKey, a *attempt, result any, err error) {
	a.result, a.err = result, err
	close(a.done)
	e.mu.Lock()
	defer e.mu.Unlock()
	if unspent(err) {
		delete(e.attempts, key)
		return
	}
	e.ended = append(e.ended, endedAttempt{key, e.now().Add(answerKept)})
	e.sweepLater()
}

// sweepLater sees to it that outcomes, which have tokens and telephone numbers in
// them, are forgotten also if no other code comes. The caller holds e.mu.
func (e *exchanges) sweepLater() {
	if e.sweeping || len(e.ended) == 0 {
		return
	}
	e.sweeping = true
	time.AfterFunc(answerKept, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.sweeping = false
		e.forget()
		if e.ctx.Err() == nil {
			e.sweepLater()
		}
	})
}

// unspent reports whether the platform has certainly not seen the code.
func unspent(err error) bool {
	var notSent notSentError
	var e *provider.Error
	return errors.As(err, &notSent) ||
		(errors.As(err, &e) && (e.Reason == provider.CodeMalformed || (e.Reason == provider.Unavailable && !provider.MayHaveSeen(err))))
}

// forget removes the attempts that ended long enough ago.
func (e *exchanges) forget() {
	now := e.now()
	n := 0
	for n < len(e.ended) && !now.Before(e.ended[n].until) {
		delete(e.attempts, e.ended[n].key)
		n++
	}
	e.ended = e.ended[n:]
}

// wait returns when no exchange is under way.
func (e *exchanges) wait() { e.running.Wait() }
