// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/migrate"
	"github.com/minigate/minigate/module/session"
	"github.com/minigate/minigate/module/store"
)

// When a configuration is loaded whose store is the destination of a migration,
// for a while two configurations serve: the one before, until its last request is
// answered, with the source, and the new one with the destination. Both write, and
// may write the same record. So the one before moves to the destination first,
// between two of its writes.
//
// If the new configuration cannot be loaded after all, what was written is copied
// back, and the one before moves back.

// takeOver moves all to s whose migration has the same data as destination. identity
// is that of the store, keys are those that its records will be read with.
func takeOver(ctx context.Context, s *state, identity string, keys *keyring.Ring) error {
	migrations.Lock()
	all := slices.Clone(migrations.all)
	migrations.Unlock()
	for _, m := range all {
		if m.source == s {
			continue
		}
		same, err := m.leadsTo(ctx, s.home, identity)
		if err != nil {
			return fmt.Errorf("finding out whether this store is the destination of a migration: %w", err)
		}
		if !same {
			continue
		}
		if err := m.take(ctx, s, keys); err != nil {
			return err
		}
	}
	return nil
}

// leadsTo reports whether the destination is the store s.
func (m *migration) leadsTo(ctx context.Context, s store.Store, identity string) (bool, error) {
	m.mu.Lock()
	destination, ended := m.destination, m.phase == migrationEnded
	m.mu.Unlock()
	switch {
	case ended:
		return false, nil
	case m.identity == identity, destination == s:
		return true, nil
	case destination == nil:
		return false, nil
	}
	// One Redis may be configured in two ways.
	return migrate.Same(ctx, destination, s)
}

// take moves the source to the destination, which s uses from now on.
func (m *migration) take(ctx context.Context, s *state, keys *keyring.Ring) error {
	m.stopReturning()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.phase {
	case migrationEnded:
		return nil
	case migrationCopying:
		return errIncomplete
	case migrationBroken:
		return errBroken
	case migrationFollowing:
		if err := checkSealKeys(ctx, m.destination, keys); err != nil {
			return err
		}
		source := m.source
		err := source.mirror.Move(m.copier, nil, m.written, func() {
			// From now on others write there as well, and nobody tells the cache
			// of the source of that.
			source.cache.Distrust(time.Now().Add(-session.StoreGrace))
		})
		if errors.Is(err, migrate.ErrEnded) || m.copier.Broken() != nil {
			return errBroken
		}
		if err != nil {
			return err
		}
		m.phase = migrationMoved
		m.logger().Info("the store is moved", zap.String("from", m.from), zap.String("to", m.to), zap.Any("counts", m.copier.Counts()))
	default: // it has moved already
	}
	takers := append(m.users(), s)
	m.takers.Store(&takers)
	return nil
}

// written is told of writes by those who still use the source, which has moved.
// Its users have no other way to learn of them if the store does not tell its own
// writes.
func (m *migration) written(key string) {
	if !strings.HasPrefix(key, session.WatchPrefix) {
		return
	}
	for _, s := range m.users() {
		s.cache.Changed(key)
	}
}

// users returns those who use the destination now.
func (m *migration) users() []*state {
	if takers := m.takers.Load(); takers != nil {
		return slices.Clone(*takers)
	}
	return nil
}

// leftBy is called when s is done away with. If nobody uses the destination any
// more, the source returns.
func (m *migration) leftBy(s *state) {
	m.mu.Lock()
	defer m.mu.Unlock()
	takers := m.users()
	if !slices.Contains(takers, s) {
		return
	}
	takers = slices.DeleteFunc(takers, func(other *state) bool { return other == s })
	m.takers.Store(&takers)
	if len(takers) > 0 || m.phase != migrationMoved {
		return
	}
	ctx, cancel := context.WithCancel(m.source.ctx)
	done := make(chan struct{})
	if !m.source.run(func() {
		defer close(done)
		defer cancel()
		m.goBack(ctx)
	}) {
		cancel()
		return
	}
	m.phase, m.cancel, m.done = migrationReturning, cancel, done
	m.logger().Warn("the configuration with the other store is gone; what was written with it is copied back", zap.String("from", m.to), zap.String("to", m.from))
}

// stopReturning leaves the source at the destination, if it is about to return.
func (m *migration) stopReturning() {
	m.mu.Lock()
	returning, cancel, done := m.phase == migrationReturning, m.cancel, m.done
	m.mu.Unlock()
	if returning {
		cancel()
		<-done
	}
}

// goBack copies back what was written at the destination, and moves the source
// back. Then the migration goes on as before.
func (m *migration) goBack(ctx context.Context) {
	for {
		err := m.tryBack(ctx)
		if err == nil {
			m.logger().Info("the store has moved back; the migration goes on", zap.String("to", m.to))
			m.source.run(m.guardSource)
			return
		}
		if ctx.Err() != nil {
			m.mu.Lock()
			m.phase = migrationMoved
			m.mu.Unlock()
			return
		}
		m.logger().Error("what was written is not copied back; the gateway works on the other store than its configuration says", zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(migrationRetry):
		}
	}
}

// tryBack is one attempt to go back.
func (m *migration) tryBack(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	original, mirror := m.source.home, m.source.mirror
	back := migrate.New(m.destination, original, func(error) { cancel() })
	if err := mirror.Follow(back); err != nil {
		return err
	}
	if err := back.Copy(ctx); err != nil {
		mirror.Leave(back)
		return errors.Join(err, back.Broken())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// The two are equal, and stay so with the copier that follows from now on.
	forward := migrate.New(original, m.destination, m.brokenBy)
	if err := mirror.Move(back, forward, nil, func() {}); err != nil {
		mirror.Leave(back)
		return err
	}
	m.phase, m.copier = migrationFollowing, forward
	return nil
}

// enoughRecords is how many records are looked at to see whether they can be read.
const enoughRecords = 100

// errOtherSealKey says that a copy would be of no use.
var errOtherSealKey = errors.New("the seal_key of the new configuration opens none of the records; it must have the key that they are sealed with")

// checkSealKeys checks that keys open records of s. Some may be sealed with a key
// that was taken away, but not all.
func checkSealKeys(ctx context.Context, s store.Store, keys *keyring.Ring) error {
	seen, opened, enough := 0, false, errors.New("enough")
	err := s.Scan(ctx, session.RecordPrefix, func(e store.Entry) error {
		seen++
		_, err := keys.Open(e.Value)
		if opened = err == nil; opened || seen == enoughRecords {
			return enough
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) {
		return fmt.Errorf("looking for records that the seal_key opens: %w", err)
	}
	if seen > 0 && !opened {
		return errOtherSealKey
	}
	return nil
}
