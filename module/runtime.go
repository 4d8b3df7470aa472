// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/avatar"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/profile"
	"github.com/minigate/minigate/module/session"
	"github.com/minigate/minigate/module/store"
)

// runtime is what requests need. It is immutable.
type runtime struct {
	state    *state
	sessions *session.Manager
	keys     *keyring.Ring
	// pseudonyms are the ids of users on sites that want them.
	pseudonyms *pseudonyms
	directory  *directory
	bringers   *bringers
	profiles   *profile.Manager
	avatars    avatar.Keeper
	assertions *assertionKeys
	// cluster is nil where the store is this process's alone.
	cluster *cluster
}

// release gives up the state. While others use it, late requests of this
// configuration may do so, too. The caller holds a.mu.
func (a *App) release() error {
	key := a.acquired
	if key == nil {
		return nil
	}
	a.acquired = nil
	if a.joined != nil {
		a.joined.part(a.keys)
	}
	if users, _ := states.References(key); users == 1 {
		if rt := a.running.Swap(nil); rt != nil {
			rt.sessions.Wait()
		}
	}
	if _, err := states.Delete(key); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}

// errStopped says that a request came for a configuration that is gone.
var errStopped = errors.New("this configuration is no longer in use")

// runtime returns what requests need and makes it the first time: at Start, or
// before it, where the http app begins to serve first.
func (a *App) runtime() (*runtime, error) {
	if rt := a.running.Load(); rt != nil {
		return rt, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if rt := a.running.Load(); rt != nil {
		return rt, nil
	}
	if a.stopped {
		return nil, errStopped
	}
	rt, err := a.open()
	if err != nil {
		return nil, err
	}
	a.running.Store(rt)
	return rt, nil
}

// open acquires the state and makes what depends on it.
func (a *App) open() (*runtime, error) {
	if a.keys == nil {
		master, err := storedMaster(a.ctx, a.ctx.Storage())
		if err != nil {
			return nil, err
		}
		if a.keys, err = keyring.New(master); err != nil {
			return nil, fmt.Errorf("seal key: %w", err)
		}
	}
	st, err := acquireState(a.ctx, a.opener, a.keys)
	if err != nil {
		return nil, err
	}
	a.acquired = a.opener.Identity()
	if st.nodes != nil {
		if err := st.nodes.join(a.ctx, a.keys); err != nil {
			a.acquired = nil
			_, closing := states.Delete(a.opener.Identity())
			return nil, errors.Join(err, closing)
		}
		a.joined = st.nodes
	}
	sessions := session.NewManager(session.Options{
		Store:    a.metrics.timed(st.store),
		Keys:     a.keys,
		Cache:    st.cache,
		Lifetime: time.Duration(a.Session.Lifetime),
		Idle:     time.Duration(a.Session.Idle),
		PerUser:  a.Session.PerUser,
		Warn: func(digest string, err error) {
			a.logger.Warn("session record", zap.String("user", digest), zap.Error(err))
		},
	})
	st.latest.Store(sessions)
	keep := time.Duration(a.Profile.Keep)
	rt := &runtime{
		state:      st,
		sessions:   sessions,
		keys:       a.keys,
		pseudonyms: &pseudonyms{store: st.store, keys: a.keys},
		directory: &directory{
			store: st.store, keys: a.keys, now: time.Now,
			warn: func(err error) { a.logger.Warn("user directory", zap.Error(err)) },
		},
		bringers: &bringers{store: st.store, keys: a.keys},
		profiles: profile.NewManager(profile.Options{
			Store: a.metrics.timed(st.store), Keys: a.keys, Keep: keep,
			Changed: func(subject string) { st.cache.Invalidate(subject) },
			Warn: func(digest string, err error) {
				a.logger.Warn("profile record", zap.String("user", digest), zap.Error(err))
			},
		}),
		avatars: avatar.InStore(st.store, a.keys, keep),
		assertions: &assertionKeys{
			store: st.store, keys: a.keys, logger: a.logger, now: time.Now, gate: make(chan struct{}, 1),
			run: func(task func(context.Context)) bool { return st.run(func() { task(st.ctx) }) },
		},
	}
	if a.Profile.Avatars != "" {
		rt.avatars = movedAvatars{avatar.InDirectory(a.Profile.Avatars, keep), rt.avatars}
	}
	if isShared(a.opener) {
		rt.cluster = &cluster{store: st.store, keys: a.keys, logger: a.logger}
	}
	return rt, nil
}

// isShared reports whether other processes use the data of a store, too.
func isShared(opener store.Opener) bool {
	shared, ok := opener.(store.Shared)
	return ok && shared.Shared()
}
