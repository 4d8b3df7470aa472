// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/minigate/minigate/module/store"
)

const (
	// watchPause is the time between two attempts to watch a store.
	watchPause = time.Second

	// maxChanged is how many changed records are remembered. Where there are more,
	// all are copied again.
	maxChanged = 1 << 20
)

// Watch copies like Copy, and then goes on to copy what others write to the
// source, as the source tells of it, until ctx is done or a gateway begins to use
// the destination, which is ErrTaken. What others write is copied a moment later,
// not before they are answered.
//
// copied is called whenever the destination has become equal to the source, and
// lost when the source does not tell of changes any more; everything is then
// copied again as soon as it does.
func (c *Copier) Watch(ctx context.Context, copied func(), lost func(error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var guard sync.WaitGroup
	defer guard.Wait()
	guard.Go(func() { c.watchDestination(ctx, cancel) })
	for {
		err := c.watchSource(ctx, copied)
		if ctx.Err() != nil {
			cancel(nil)
			return context.Cause(ctx)
		}
		var unwatched *unwatchedError
		if !errors.As(err, &unwatched) {
			cancel(nil)
			return err
		}
		lost(unwatched.reason)
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
}

// unwatchedError says that the source does not tell of changes.
type unwatchedError struct{ reason error }

func (e *unwatchedError) Error() string { return "watching the source: " + e.reason.Error() }

// watchSource copies all, and then what changes, until either cannot be done any
// more.
func (c *Copier) watchSource(ctx context.Context, copied func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	started, changes := make(chan struct{}), newChanges()
	watching.Go(func() {
		cancel(&unwatchedError{c.from.Watch(ctx, "", store.Observer{
			Started: func() { close(started) },
			Changed: changes.add,
		})})
	})
	select {
	case <-started:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := c.Copy(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	if err := c.catchUp(ctx, changes); err != nil {
		return err
	}
	copied()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes.some:
		}
		if err := c.catchUp(ctx, changes); err != nil {
			return err
		}
	}
}

// catchUp copies the records that have changed.
func (c *Copier) catchUp(ctx context.Context, changes *changes) error {
	keys, tooMany := changes.take()
	if tooMany {
		return &unwatchedError{errors.New("more has changed than can be remembered")}
	}
	todo := make(chan string)
	var working sync.WaitGroup
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for range min(workers, len(keys)) {
		working.Go(func() {
			for key := range todo {
				if ctx.Err() != nil {
					continue
				}
				if _, err := c.step(ctx, key, compare); err != nil {
					cancel(err)
					continue
				}
				c.counts.followed.Add(1)
			}
		})
	}
	for key := range keys {
		todo <- key
	}
	close(todo)
	working.Wait()
	return context.Cause(ctx)
}

// watchDestination ends ctx when a gateway begins to use the destination.
func (c *Copier) watchDestination(ctx context.Context, cancel context.CancelCauseFunc) {
	look := make(chan struct{}, 1)
	ask := func() {
		select {
		case look <- struct{}{}:
		default: // one is enough
		}
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		for ctx.Err() == nil {
			_ = c.to.Watch(ctx, nodePrefix, store.Observer{Started: ask, Changed: func(string) { ask() }})
			select {
			case <-ctx.Done():
			case <-time.After(watchPause):
			}
		}
	})
	for {
		select {
		case <-ctx.Done():
			return
		case <-look: // a key has come, or gone
			if taken, err := InUse(ctx, c.to); err == nil && taken {
				cancel(ErrTaken)
			}
		}
	}
}

// changes are the keys of records that have changed, each once.
type changes struct {
	mu      sync.Mutex
	keys    map[string]struct{}
	tooMany bool
	some    chan struct{} // has room for the word that there are some
}

func newChanges() *changes {
	return &changes{keys: make(map[string]struct{}), some: make(chan struct{}, 1)}
}

// add notes a key. It does not block.
func (c *changes) add(key string) {
	if isPassing(key) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys[key] = struct{}{}; len(c.keys) > maxChanged {
		clear(c.keys)
		c.tooMany = true
	}
	select {
	case c.some <- struct{}{}:
	default:
	}
}

// take returns what was noted since it was called before, and whether that was
// too much to note.
func (c *changes) take() (keys map[string]struct{}, tooMany bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys, tooMany = c.keys, c.tooMany
	c.keys, c.tooMany = make(map[string]struct{}), false
	return keys, tooMany
}
