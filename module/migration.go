// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/migrate"
	"github.com/minigate/minigate/module/store"
)

// migrationPhase is how far a migration has come.
type migrationPhase string

const (
	// migrationCopying is until everything is copied and verified.
	migrationCopying migrationPhase = "copying"
	// migrationFollowing is from then on: what is written is written twice.
	migrationFollowing migrationPhase = "following"
	// migrationMoved is when a configuration with the other store was loaded. The
	// one before has its records there as well, until it is gone.
	migrationMoved migrationPhase = "moved"
	// migrationReturning is when that configuration is gone again, because it could
	// not be loaded, and what was written with it is copied back.
	migrationReturning migrationPhase = "returning"
	// migrationBroken is when the copy is not equal any more, or never was.
	migrationBroken migrationPhase = "broken"
	// migrationEnded is when nothing is left of it.
	migrationEnded migrationPhase = "ended"
)

// migrationRetry is the time between two attempts to return.
const migrationRetry = 5 * time.Second

var (
	errMigrating      = errors.New("a migration is under way")
	errOtherMigration = errors.New("a migration to another store is followed; stop it first")
	errHasMoved       = errors.New("a configuration with the other store is loaded; the migration ends with the one before")
	errOpenHere       = errors.New("this gateway has the destination open; if it used it until a moment ago, try again")
	errSourceShared   = errors.New("other gateways use the source, too, and write to it directly; stop them, or copy with --follow")
	errIncomplete     = errors.New("this store is the destination of a migration that is not complete; wait until it is verified")
	errBroken         = errors.New("this store is the destination of a migration that is broken; run it again, or stop it")
)

// migration copies the store of a state into another one while it is in use, see
// package migrate, and has the state move there when a configuration with that
// store is loaded.
type migration struct {
	source   *state
	from, to string // the kinds of the stores, for people
	identity string // of the destination
	began    time.Time

	// mu orders what changes the phase.
	mu          sync.Mutex
	phase       migrationPhase
	failure     error
	verified    time.Time // when everything was
	copier      *migrate.Copier
	destination store.Store // nil where it is not open
	release     []func()    // gives back what belongs to it, the last first

	// takers are those who use the destination now. It is changed with mu held, and
	// read by those who write, who must not wait for it.
	takers atomic.Pointer[[]*state]

	// cancel ends what is done in the background, and done is closed then.
	cancel context.CancelFunc
	done   chan struct{}
}

// migrations are those of all states.
var migrations struct {
	sync.Mutex
	all []*migration
}

// migrationOrder is what a migration is asked for.
type migrationOrder struct {
	opener   store.Opener
	from, to string
	// check looks at the source before anything is copied; or nil.
	check func(context.Context, store.Store) error
}

// migrate copies the store of s, verifies the copy, and follows from then on. A
// migration to the same place that is followed already is begun anew. If ctx is
// done before everything is verified, the migration is broken.
func (s *state) migrate(ctx context.Context, order migrationOrder) (*migration, error) {
	if err := s.aloneAtStore(ctx); err != nil {
		return nil, err
	}
	m := &migration{
		source: s, from: order.from, to: order.to, identity: order.opener.Identity(),
		began: time.Now(), phase: migrationCopying, done: make(chan struct{}),
	}
	ctx, m.cancel = context.WithCancel(ctx)
	defer m.cancel()
	if err := s.replaceMigration(m); err != nil {
		return nil, err
	}
	// It ends with the state, which waits for it.
	defer context.AfterFunc(s.ctx, m.cancel)()
	failed := make(chan error, 1)
	if !s.run(func() {
		defer close(m.done)
		failed <- m.copyAll(ctx, order)
	}) {
		close(m.done)
		failed <- migrate.ErrEnded
	}
	err := <-failed
	if err != nil {
		m.breakOff(err)
	} else {
		s.run(m.guardSource)
	}
	if s.ctx.Err() != nil {
		m.end() // nobody else does any more
	}
	return m, err
}

// aloneAtStore checks that no other gateway uses the store: what it wrote would not
// be followed.
func (s *state) aloneAtStore(ctx context.Context) error {
	if s.nodes == nil {
		return nil
	}
	others, err := s.nodes.announce(ctx)
	if err == nil && len(others) > 0 {
		err = errSourceShared
	}
	return err
}

// guardSource breaks the migration off if another gateway begins to use the source
// while it is followed.
func (m *migration) guardSource() {
	if m.source.nodes == nil {
		return
	}
	ticker := time.NewTicker(nodePause)
	defer ticker.Stop()
	for {
		select {
		case <-m.source.ctx.Done():
			return
		case <-ticker.C:
		}
		m.mu.Lock()
		following := m.phase == migrationFollowing
		m.mu.Unlock()
		if !following {
			return
		}
		if m.source.nodes.count() > 1 {
			m.breakOff(errSourceShared)
			return
		}
	}
}

// replaceMigration makes m the migration of s.
func (s *state) replaceMigration(m *migration) error {
	s.migrating.Lock()
	defer s.migrating.Unlock()
	if old := s.migrating.latest; old != nil {
		old.mu.Lock()
		phase, identity := old.phase, old.identity
		old.mu.Unlock()
		switch {
		case phase == migrationCopying:
			return errMigrating
		case phase == migrationMoved, phase == migrationReturning:
			return errHasMoved
		case phase == migrationFollowing && identity != m.identity:
			return errOtherMigration
		}
		old.end()
	}
	s.migrating.latest = m
	migrations.Lock()
	defer migrations.Unlock()
	migrations.all = append(migrations.all, m)
	return nil
}

// stopMigration ends the migration of s, if there is one.
func (s *state) stopMigration() error {
	s.migrating.Lock()
	defer s.migrating.Unlock()
	old := s.migrating.latest
	if old == nil {
		return nil
	}
	old.mu.Lock()
	phase := old.phase
	old.mu.Unlock()
	if phase == migrationMoved || phase == migrationReturning {
		return errHasMoved
	}
	old.end()
	s.migrating.latest = nil
	return nil
}

// migration returns the latest migration of s; nil if there is none.
func (s *state) migration() *migration {
	s.migrating.Lock()
	defer s.migrating.Unlock()
	return s.migrating.latest
}

// copyAll does the work of migrate.
func (m *migration) copyAll(ctx context.Context, order migrationOrder) error {
	original := m.source.home
	if order.check != nil {
		if err := order.check(ctx, original); err != nil {
			return err
		}
	}
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	destination, before, release, err := acquireStore(opening, order.opener)
	if err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	m.own(func() {
		if err := release(); err != nil {
			m.logger().Error("destination of a migration is not closed as it should be", zap.Error(err))
		}
	})
	if before {
		return errOpenHere
	}
	unlock, err := migrate.Claim(ctx, original, destination)
	if err != nil {
		return err
	}
	m.own(unlock)
	c := migrate.New(original, destination, m.brokenBy)
	m.mu.Lock()
	m.copier, m.destination = c, destination
	m.mu.Unlock()
	if err := m.source.mirror.Follow(c); err != nil {
		return err
	}
	if err := c.Copy(ctx); err != nil {
		return errors.Join(err, c.Broken())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := c.Broken(); err != nil {
		return err
	}
	m.phase, m.verified = migrationFollowing, time.Now()
	return nil
}

// own has release called when the migration has ended.
func (m *migration) own(release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.release = append(m.release, release)
}

// brokenBy is called when a write could not be followed. The one who wrote waits.
func (m *migration) brokenBy(err error) {
	m.source.run(func() { m.breakOff(err) })
}

// breakOff gives the migration up because of err. The copy stays as far as it
// is.
func (m *migration) breakOff(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase != migrationCopying && m.phase != migrationFollowing {
		return
	}
	m.phase, m.failure = migrationBroken, err
	m.cancel()
	m.letGo()
	m.logger().Error("migration is broken: not everything is at the destination; run it again", zap.String("to", m.to), zap.Error(err))
}

// letGo has the source follow no more, and gives back what belongs to the
// migration. The caller holds m.mu.
func (m *migration) letGo() {
	if m.copier != nil {
		m.source.mirror.Leave(m.copier)
	}
	for _, release := range slices.Backward(m.release) {
		release()
	}
	m.release, m.destination = nil, nil
}

// leaveMigrations ends the migration of s, and those that have moved to s.
func (s *state) leaveMigrations() {
	if m := s.migration(); m != nil {
		m.end()
	}
	migrations.Lock()
	all := slices.Clone(migrations.all)
	migrations.Unlock()
	for _, m := range all {
		m.leftBy(s)
	}
}

// end ends the migration, wherever it is.
func (m *migration) end() {
	m.mu.Lock()
	cancel, done := m.cancel, m.done
	m.mu.Unlock()
	cancel()
	<-done
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase == migrationEnded {
		return
	}
	m.phase = migrationEnded
	m.letGo()
	migrations.Lock()
	defer migrations.Unlock()
	migrations.all = slices.DeleteFunc(migrations.all, func(other *migration) bool { return other == m })
}

// logger returns the logger of the configuration in use, which a migration
// outlives.
func (m *migration) logger() *zap.Logger { return caddy.Log().Named("miniprogram") }

// migrationStatus is what the admin endpoint tells of a migration.
type migrationStatus struct {
	State string `json:"state"`
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
	// Began and Verified are when it did, and when everything was.
	Began    time.Time       `json:"began,omitzero"`
	Verified time.Time       `json:"verified_at,omitzero"`
	Counts   *migrate.Counts `json:"counts,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// status tells how far the migration has come. m may be nil.
func (m *migration) status() migrationStatus {
	if m == nil {
		return migrationStatus{State: "none"}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := migrationStatus{State: string(m.phase), From: m.from, To: m.to, Began: m.began.UTC(), Verified: m.verified.UTC()}
	if m.copier != nil {
		counts := m.copier.Counts()
		s.Counts = &counts
		if m.phase == migrationCopying && m.copier.Phase() != migrate.Copying {
			s.State = "verifying"
		}
	}
	if m.verified.IsZero() {
		s.Verified = time.Time{}
	}
	if m.failure != nil {
		s.Error = fmt.Sprint(m.failure)
	}
	return s
}
