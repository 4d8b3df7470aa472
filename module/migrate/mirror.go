// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/minigate/minigate/module/store"
)

const (
	// followTimeout bounds for how long a write waits until it is repeated.
	followTimeout = 3 * time.Second

	// doubt is the time after which a record is copied again whose write failed:
	// the write may have been done all the same, and late.
	doubt = 11 * time.Second
)

var (
	// ErrMoved is what Watch returns when the store has moved.
	ErrMoved = errors.New("the store has moved")

	// errOtherCopier says that a store is followed by one copier at a time.
	errOtherCopier = errors.New("another copier is at work")
)

// Mirror is a store whose writes a copier can follow, and which can move to the
// copy while it is in use: no write that was acknowledged is lost on the way, and
// none is done twice.
//
// A write returns when the copy has it, too. If that fails, or takes too long,
// the write stands, and the copier is broken.
//
// A lock that is held while the store moves is held at the place where it was
// before, and keeps nobody out at the new one.
type Mirror struct {
	side atomic.Pointer[side]
}

// side is where a mirror has its records. It is immutable.
type side struct {
	store.Store
	copier *Copier // that follows writes; or nil
	// written is told of writes at a place that others use as well; or nil.
	written func(key string)
	home    bool          // whether this is the store that the mirror was made of
	left    chan struct{} // closed when the mirror moves
}

// NewMirror returns a mirror of s. Closing it closes the store that it is at.
func NewMirror(s store.Store) *Mirror {
	m := new(Mirror)
	m.side.Store(&side{Store: s, home: true, left: make(chan struct{})})
	return m
}

// Follow has c follow the writes from now on: those that have begun before, too,
// if they have not ended.
func (m *Mirror) Follow(c *Copier) error {
	for {
		old := m.side.Load()
		if old.copier != nil {
			return errOtherCopier
		}
		next := *old
		next.copier = c
		if m.side.CompareAndSwap(old, &next) {
			return nil
		}
	}
}

// Leave has c follow no more, and waits for what it is about. It does nothing
// where c does not follow.
func (m *Mirror) Leave(c *Copier) {
	for {
		old := m.side.Load()
		if old.copier != c {
			break
		}
		next := *old
		next.copier = nil
		if m.side.CompareAndSwap(old, &next) {
			break
		}
	}
	c.end()
}

// Move moves the mirror to the copy of c, which has followed until now and follows
// no more. The writes that are under way are done before. From then on next, which
// may be nil, follows, and written, which may be nil, is told of each write.
// before is called when nothing is written any more at the old place, and nothing
// yet at the new one.
func (m *Mirror) Move(c, next *Copier, written func(key string), before func()) error {
	c.gate.Lock()
	defer c.gate.Unlock()
	if err := c.Broken(); err != nil {
		return err
	}
	old := m.side.Load()
	if old.copier != c || c.ended {
		return ErrEnded
	}
	before()
	moved := &side{Store: c.to, copier: next, written: written, home: !old.home, left: make(chan struct{})}
	if !m.side.CompareAndSwap(old, moved) {
		return ErrEnded
	}
	c.ended = true
	close(old.left)
	return nil
}

// Get implements store.Store.
func (m *Mirror) Get(ctx context.Context, key string) ([]byte, error) {
	return m.side.Load().Get(ctx, key)
}

// Lookup implements store.Store.
func (m *Mirror) Lookup(ctx context.Context, key string) (store.Entry, error) {
	return m.side.Load().Lookup(ctx, key)
}

// Put implements store.Store.
func (m *Mirror) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	s := m.side.Load()
	if !s.alone() {
		return m.write(ctx, key, func(to store.Store) error { return to.Put(ctx, key, value, ttl) })
	}
	err := s.Put(ctx, key, value, ttl)
	if m.side.Load() == s {
		return err
	}
	return m.overtaken(ctx, s, key, err, func(to store.Store) error { return to.Put(ctx, key, value, ttl) })
}

// Update implements store.Store.
func (m *Mirror) Update(ctx context.Context, key string, change store.Change) error {
	s := m.side.Load()
	if !s.alone() {
		return m.write(ctx, key, func(to store.Store) error { return to.Update(ctx, key, change) })
	}
	err := s.Update(ctx, key, change)
	if m.side.Load() == s {
		return err
	}
	return m.overtaken(ctx, s, key, err, func(to store.Store) error { return to.Update(ctx, key, change) })
}

// Delete implements store.Store.
func (m *Mirror) Delete(ctx context.Context, key string) error {
	s := m.side.Load()
	if !s.alone() {
		return m.write(ctx, key, func(to store.Store) error { return to.Delete(ctx, key) })
	}
	err := s.Delete(ctx, key)
	if m.side.Load() == s {
		return err
	}
	return m.overtaken(ctx, s, key, err, func(to store.Store) error { return to.Delete(ctx, key) })
}

// write does a write that is followed, or that others are told of.
func (m *Mirror) write(ctx context.Context, key string, do func(store.Store) error) error {
	for {
		s := m.side.Load()
		if s.copier != nil {
			if err, done := s.copier.follow(ctx, s, key, do); done {
				return err
			}
			continue // the copier has just ended
		}
		err := do(s)
		return m.overtaken(ctx, s, key, err, do)
	}
}

// overtaken is the end of a write at s that began when no copier followed: one
// may have begun meanwhile. That the mirror has moved, too, takes a write that
// lasted longer than a whole migration; it is done again.
func (m *Mirror) overtaken(ctx context.Context, s *side, key string, err error, do func(store.Store) error) error {
	for {
		now := m.side.Load()
		if now.left != s.left {
			return m.write(ctx, key, do)
		}
		if now.copier == nil {
			now.tell(key)
			return err
		}
		if _, done := now.copier.follow(ctx, now, key, func(store.Store) error { return err }); done {
			return err
		}
	}
}

// alone reports whether nobody has to know of writes.
func (s *side) alone() bool { return s.copier == nil && s.written == nil }

// tell tells others of a write.
func (s *side) tell(key string) {
	if s.written != nil {
		s.written(key)
	}
}

// follow does a write and repeats it at the destination. It is not done where the
// copier has ended.
func (c *Copier) follow(ctx context.Context, s *side, key string, do func(store.Store) error) (err error, done bool) {
	c.gate.RLock()
	defer c.gate.RUnlock()
	if c.ended {
		return nil, false
	}
	err = do(s.Store)
	s.tell(key)
	if isPassing(key) || c.Broken() != nil {
		return err, true
	}
	// Whoever wrote may be gone: what is written is to be followed all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), followTimeout)
	defer cancel()
	with := overwrite
	if err != nil { // mostly a change that was refused
		with = compare
	}
	if _, failure := c.equalize(ctx, key, with); failure != nil {
		c.breakOff(failure)
		return err, true
	}
	c.counts.followed.Add(1)
	if err != nil {
		time.AfterFunc(doubt, func() { c.doubted(key) })
	}
	return err, true
}

// doubted copies a record again whose write has failed.
func (c *Copier) doubted(key string) {
	if _, err := c.step(context.Background(), key, compare); err != nil && !errors.Is(err, ErrEnded) {
		c.breakOff(err)
	}
}

// Scan implements store.Store.
func (m *Mirror) Scan(ctx context.Context, prefix string, visit func(store.Entry) error) error {
	return m.side.Load().Scan(ctx, prefix, visit)
}

// Watch implements store.Store. It ends with ErrMoved when the mirror moves. While
// the mirror is away from the store that it was made of it reports nothing: it is
// not started, because the one that it is at need not tell its own writes from
// those of others who share it.
func (m *Mirror) Watch(ctx context.Context, prefix string, observer store.Observer) error {
	s := m.side.Load()
	watching, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-s.left:
			cancel(ErrMoved)
		case <-ended:
		}
	}()
	var err error
	if s.home {
		err = s.Watch(watching, prefix, observer)
	} else {
		<-watching.Done()
		err = ctx.Err()
	}
	if errors.Is(context.Cause(watching), ErrMoved) {
		return ErrMoved
	}
	return err
}

// Lock implements store.Store.
func (m *Mirror) Lock(ctx context.Context, name string) (unlock func(), err error) {
	return m.side.Load().Lock(ctx, name)
}

// Close implements store.Store.
func (m *Mirror) Close() error { return m.side.Load().Close() }

// Interface guard
var _ store.Store = (*Mirror)(nil)
