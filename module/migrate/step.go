// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/minigate/minigate/module/store"
)

const (
	// tolerance is by how much the ends of two equal records may differ. Stores
	// count the time that is left, and the clocks of two machines are not one.
	tolerance = 2 * time.Second

	// never is how far away an end is that is as good as none. Stores differ in
	// what they make of one.
	never = 50 * 365 * 24 * time.Hour
)

// outcome is what copying a record came to.
type outcome int

const (
	unchanged outcome = iota
	written
	removed
	differs // still, although it was written or removed
)

// care is how much is looked at when a record is copied.
type care int

const (
	overwrite care = iota // nothing: it is written anyway
	compare               // whether it has to be written
	check                 // and whether it was
)

// step makes the record of key equal.
func (c *Copier) step(ctx context.Context, key string, with care) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	c.gate.RLock()
	defer c.gate.RUnlock()
	if c.ended {
		return unchanged, ErrEnded
	}
	return c.equalize(ctx, key, with)
}

// equalize is step for who holds the gate.
func (c *Copier) equalize(ctx context.Context, key string, with care) (outcome, error) {
	unlock, err := c.locks.Lock(ctx, key, nil)
	if err != nil {
		return unchanged, err
	}
	defer unlock()
	want, err := find(ctx, c.from, key)
	if err != nil {
		return unchanged, fmt.Errorf("reading the source: %w", err)
	}
	if with != overwrite {
		if same, err := c.has(ctx, key, want); same || err != nil {
			return unchanged, err
		}
	}
	done, err := c.write(ctx, key, want)
	if err != nil || with != check {
		return done, err
	}
	if same, err := c.has(ctx, key, want); !same || err != nil {
		return differs, err
	}
	return done, nil
}

// has reports whether the destination has the same under key; nil is nothing.
func (c *Copier) has(ctx context.Context, key string, want *store.Entry) (bool, error) {
	have, err := find(ctx, c.to, key)
	if err != nil {
		return false, fmt.Errorf("reading the destination: %w", err)
	}
	return equal(want, have), nil
}

// write writes what the source has at the destination; nil is nothing.
func (c *Copier) write(ctx context.Context, key string, want *store.Entry) (outcome, error) {
	if ttl, alive := timeLeft(want); alive {
		if err := c.to.Put(ctx, key, want.Value, ttl); err != nil {
			return unchanged, fmt.Errorf("writing to the destination: %w", err)
		}
		return written, nil
	}
	if err := c.to.Delete(ctx, key); err != nil {
		return unchanged, fmt.Errorf("removing at the destination: %w", err)
	}
	return removed, nil
}

// find returns what s has under key; nil for nothing.
func find(ctx context.Context, s store.Store, key string) (*store.Entry, error) {
	found, err := s.Lookup(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &found, nil
}

// timeLeft returns how long a record is to be kept, in the way of store.Put, and
// whether it is to be kept at all.
func timeLeft(e *store.Entry) (ttl time.Duration, alive bool) {
	switch {
	case e == nil:
		return 0, false
	case e.Expires.IsZero():
		return 0, true
	}
	ttl = time.Until(e.Expires)
	return ttl, ttl > 0
}

// equal reports whether two records, nil for none, are the same in what matters.
// One that is about to expire may be gone on one side.
func equal(a, b *store.Entry) bool {
	if a == nil || b == nil {
		return aboutToEnd(a) && aboutToEnd(b)
	}
	return bytes.Equal(a.Value, b.Value) && sameEnd(a.Expires, b.Expires)
}

func aboutToEnd(e *store.Entry) bool {
	return e == nil || (!e.Expires.IsZero() && time.Until(e.Expires) < tolerance)
}

func sameEnd(a, b time.Time) bool {
	if endless(a) || endless(b) {
		return endless(a) && endless(b)
	}
	return a.Sub(b).Abs() <= tolerance
}

func endless(t time.Time) bool { return t.IsZero() || time.Until(t) > never }
