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
	err := c.each(ctx, c.from, func(ctx context.Context, e store.Entry) error {
		c.counts.read.Add(1)
		// If it has changed since, whoever changed it sees to it.
		if same, err := c.has(ctx, e.Key, &e); same || err != nil {
			return c.count(unchanged, err)
		}
		return c.count(c.step(ctx, e.Key, overwrite))
	})
	if err != nil {
		return fmt.Errorf("copying: %w", err)
	}
	c.phase.Store(int32(Verifying))
	failed := c.counts.failed.Load()
	if err := c.clean(ctx); err != nil {
		return fmt.Errorf("removing what is not at the source: %w", err)
	}
	if err := c.verify(ctx); err != nil {
		return fmt.Errorf("verifying: %w", err)
	}
	if failed = c.counts.failed.Load() - failed; failed > 0 {
		return fmt.Errorf("%w: %d records differ although they were copied; does the destination throw records away?", ErrUnverified, failed)
	}
	c.phase.Store(int32(Done))
	return nil
}

// clean removes what is not at the source.
func (c *Copier) clean(ctx context.Context) error {
	return c.each(ctx, c.to, func(ctx context.Context, e store.Entry) error {
		found, err := find(ctx, c.from, e.Key)
		if err != nil {
			return fmt.Errorf("reading the source: %w", err)
		}
		if found != nil {
			return nil
		}
		done, err := c.step(ctx, e.Key, check)
		if done == unchanged {
			return err // it has ended, or come back
		}
		return c.count(done, err)
	})
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
	case differs:
		c.counts.failed.Add(1)
	default:
		c.counts.unchanged.Add(1)
	}
	return nil
}

// verify compares all records of the source. One that differs has changed
// meanwhile, or was not kept by the destination: it is copied once more, and
// compared.
func (c *Copier) verify(ctx context.Context) error {
	return c.each(ctx, c.from, func(ctx context.Context, e store.Entry) error {
		same, err := c.has(ctx, e.Key, &e)
		if err == nil && !same {
			var done outcome
			switch done, err = c.step(ctx, e.Key, check); {
			case err != nil:
			case done == differs:
				c.counts.failed.Add(1)
				return nil
			case done != unchanged:
				c.counts.late.Add(1)
			}
		}
		if err == nil {
			c.counts.verified.Add(1)
		}
		return err
	})
}

// each calls do with all records of s that are copied, several at once, until one
// returns an error.
func (c *Copier) each(ctx context.Context, s store.Store, do func(context.Context, store.Entry) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	found := make(chan store.Entry, workers)
	var working sync.WaitGroup
	for range workers {
		working.Go(func() {
			for e := range found {
				if ctx.Err() != nil {
					continue // the rest is not wanted
				}
				bounded, done := context.WithTimeout(ctx, stepTimeout)
				if err := do(bounded, e); err != nil {
					cancel(err)
				}
				done()
			}
		})
	}
	err := s.Scan(ctx, "", func(e store.Entry) error {
		if isPassing(e.Key) {
			return nil
		}
		select {
		case found <- e:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	close(found)
	working.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
