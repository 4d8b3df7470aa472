// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"fmt"
	"sync"

	"github.com/minigate/minigate/module/store"
)

// Copy copies all records of the source, removes those of the destination that
// are not at the source, and then compares both sides. It can be called again at
// any time, also after one that was cut off, and then writes what differs.
//
// It returns nil if the destination is equal to the source, but for what changed
// at the source since its record was compared. The error wraps ErrUnverified where
// a record differs in spite of having been written.
func (c *Copier) Copy(ctx context.Context) error {
	c.phase.Store(int32(Copying))
	err := c.each(ctx, c.from, func(ctx context.Context, key string) error {
		c.counts.read.Add(1)
		return c.count(c.step(ctx, key, false))
	})
	if err != nil {
		return fmt.Errorf("copying: %w", err)
	}
	err = c.each(ctx, c.to, func(ctx context.Context, key string) error {
		done, err := c.step(ctx, key, false)
		if done == unchanged {
			return err // counted when it was read at the source
		}
		return c.count(done, err)
	})
	if err != nil {
		return fmt.Errorf("removing what is not at the source: %w", err)
	}
	return c.verify(ctx)
}

// count counts a step of copying.
func (c *Copier) count(done outcome, err error) error {
	if err != nil {
		return err
	}
	switch done {
	case written:
		c.counts.written.Add(1)
	case removed:
		c.counts.removed.Add(1)
	default:
		c.counts.unchanged.Add(1)
	}
	return nil
}

// verify compares both sides. A record that differs has changed meanwhile, or was
// not kept by the destination: it is copied once more, and compared.
func (c *Copier) verify(ctx context.Context) error {
	c.phase.Store(int32(Verifying))
	before := c.counts.failed.Load()
	compare := func(ctx context.Context, key string) (outcome, error) {
		done, err := c.step(ctx, key, true)
		switch {
		case err != nil:
		case done == differs:
			c.counts.failed.Add(1)
		case done != unchanged:
			c.counts.late.Add(1)
		}
		return done, err
	}
	err := c.each(ctx, c.from, func(ctx context.Context, key string) error {
		done, err := compare(ctx, key)
		if err == nil && done != differs {
			c.counts.verified.Add(1)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("verifying: %w", err)
	}
	err = c.each(ctx, c.to, func(ctx context.Context, key string) error {
		_, err := compare(ctx, key)
		return err
	})
	if err != nil {
		return fmt.Errorf("verifying: %w", err)
	}
	if failed := c.counts.failed.Load() - before; failed > 0 {
		return fmt.Errorf("%w: %d records differ although they were copied; does the destination throw records away?", ErrUnverified, failed)
	}
	c.phase.Store(int32(Done))
	return nil
}

// each calls do with all keys of s that are copied, several at once, until one
// returns an error.
func (c *Copier) each(ctx context.Context, s store.Store, do func(ctx context.Context, key string) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	keys := make(chan string, workers)
	var working sync.WaitGroup
	for range workers {
		working.Go(func() {
			for key := range keys {
				if ctx.Err() != nil {
					continue // the rest is not wanted
				}
				if err := do(ctx, key); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := s.Scan(ctx, "", func(e store.Entry) error {
		if isPassing(e.Key) {
			return nil
		}
		select {
		case keys <- e.Key:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	close(keys)
	working.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
