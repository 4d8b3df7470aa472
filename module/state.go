// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/migrate"
	"github.com/minigate/minigate/module/session"
	"github.com/minigate/minigate/module/store"
)

// states holds what outlives a config reload, by the identity of the store:
// the old configuration and the new one share it while both are alive.
var states = caddy.NewUsagePool()

// state is an open store, the warm cache in front of it, the connections that
// sessions opened, and the exchanges that are under way.
type state struct {
	store       store.Store     // the mirror
	mirror      *migrate.Mirror // of home, unless a migration has moved it
	home        store.Store
	cache       *session.Cache
	connections *connections
	exchanges   *exchanges
	probe       *probe
	ctx         context.Context // ends with the state
	cancel      context.CancelFunc
	// refusals are what users may hand over that is refused, and questions what
	// they may have the platform be asked about their session keys.
	refusals, questions *budget
	uploads             *uploads
	nodes               *nodes        // nil where the store is this process's alone
	refreshes           chan struct{} // has room for those under way
	// latest are the sessions of the configuration that used the state last.
	latest atomic.Pointer[session.Manager]

	// release closes home, if nobody else needs it; nil if it is the state's alone.
	release func() error

	migrating struct {
		sync.Mutex
		latest *migration
	}

	background struct {
		sync.Mutex
		closed bool
		tasks  sync.WaitGroup
	}

	// resealed is when all lasting records were last found to be sealed with the
	// active key; nil if that is not known.
	resealed atomic.Pointer[resealing]

	// maintenance is what the last round of maintenance was for, and when.
	maintenance struct {
		sync.Mutex
		of string
		at time.Time
	}
}

// openTimeout bounds the opening of a store.
const openTimeout = 30 * time.Second

// watchPause is the time between two attempts to watch a store.
const watchPause = time.Second

// acquireState returns the state of the store that opener opens, whose records
// keys are for. The caller releases it by states.Delete(opener.Identity()).
func acquireState(ctx context.Context, opener store.Opener, keys *keyring.Ring) (*state, error) {
	value, _, err := states.LoadOrNew(opener.Identity(), func() (caddy.Destructor, error) {
		ctx, cancel := context.WithTimeout(ctx, openTimeout)
		defer cancel()
		opened, _, release, err := acquireStore(ctx, opener)
		if err != nil {
			return nil, err
		}
		s := newState(opened)
		s.release = release
		if err := takeOver(ctx, s, opener.Identity(), keys); err != nil {
			return nil, errors.Join(err, s.Destruct())
		}
		if isShared(opener) {
			s.nodes = newNodes(opened)
			s.run(func() { s.nodes.run(s.ctx) })
		}
		return s, nil
	})
	if err != nil {
		return nil, err
	}
	st, ok := value.(*state)
	if !ok {
		return nil, errors.New("the store could not be opened")
	}
	return st, nil
}

func newState(opened store.Store) *state {
	ctx, cancel := context.WithCancel(context.Background())
	mirror := migrate.NewMirror(opened)
	s := &state{
		store:     mirror,
		mirror:    mirror,
		home:      opened,
		cache:     session.NewCache(),
		exchanges: newExchanges(ctx),
		probe:     newProbe(),
		ctx:       ctx,
		cancel:    cancel,
		refusals:  newBudget(maxRefusals, refusalWindow),
		questions: newBudget(maxQuestions, recheckPause),
		uploads:   newUploads(),
		refreshes: make(chan struct{}, maxRefreshes),
	}
	s.connections = newConnections(connectionOptions{
		ctx: ctx, run: s.run, validate: s.validate, believedUntil: s.cache.BelievedUntil, ended: s.connectionEnded, metrics: processMetrics,
	})
	s.cache.Listen(session.Listener{
		Changed: s.connections.changed, AllChanged: s.connections.checkAll,
		Trusted: s.connections.trusted, Distrusted: s.connections.distrusted,
	})
	s.run(func() { s.cache.Run(ctx) })
	s.run(func() { s.watch(ctx) })
	return s
}

// run runs task in the background, until the state is done away with, which
// waits for it. It reports whether there was time for it.
func (s *state) run(task func()) bool {
	s.background.Lock()
	defer s.background.Unlock()
	if s.background.closed {
		return false
	}
	s.background.tasks.Go(task)
	return true
}

// Destruct implements caddy.Destructor.
func (s *state) Destruct() error {
	s.connections.close()
	s.background.Lock()
	s.background.closed = true
	s.background.Unlock()
	s.cancel()
	s.exchanges.wait()
	s.background.tasks.Wait()
	s.leaveMigrations()
	if s.release != nil {
		return s.release()
	}
	if err := s.home.Close(); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}

// watch keeps the warm cache true to what other nodes write.
func (s *state) watch(ctx context.Context) {
	for {
		err := s.store.Watch(ctx, session.WatchPrefix, store.Observer{
			Started: s.cache.Trust,
			Changed: s.cache.Changed,
		})
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, migrate.ErrMoved) {
			continue
		}
		s.cache.Distrust(time.Now())
		// The logger of the configuration in use, which this outlives.
		caddy.Log().Named("miniprogram").Warn("store does not tell about changes", zap.Error(err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchPause):
		}
	}
}

// sessions returns the sessions of the configuration in use, as far as that has
// this state. A connection may outlive the configuration that it came by, and
// one that failed to load has no say.
func (s *state) sessions() *session.Manager {
	if loaded, err := caddy.ActiveContext().AppIfConfigured("miniprogram"); err == nil {
		if app, ok := loaded.(*App); ok {
			if rt := app.running.Load(); rt != nil && rt.state == s {
				return rt.sessions
			}
		}
	}
	return s.latest.Load()
}

// errNoConfiguration says that no configuration has used the state.
var errNoConfiguration = errors.New("no configuration is in use")

// validate validates the session of an open connection, and returns until when
// that will do.
func (s *state) validate(ctx context.Context, token string) (until time.Time, err error) {
	sessions := s.sessions()
	if sessions == nil {
		return time.Time{}, errNoConfiguration
	}
	valid, _, err := sessions.Validate(ctx, token)
	if err != nil {
		return time.Time{}, err
	}
	return sessions.GoodUntil(valid), nil
}

// connectionEnded tells the operator of a connection that was ended.
func (s *state) connectionEnded(subject, word string) {
	c := caddy.Log().Named("miniprogram").Check(zapcore.DebugLevel, "connection ended with its session")
	if sessions := s.sessions(); c != nil && sessions != nil {
		c.Write(zap.String("user", sessions.Keys.Digest(subject)), zap.String("error", word))
	}
}
