// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/session"
	"github.com/minigate/minigate/module/store"
	"github.com/minigate/minigate/plugin/stores/memory"
)

// records are some at one place. Several configurations may lead to them, as to a Redis
// that has two names.
type records struct {
	store.Store
	opened atomic.Int64
	down   atomic.Bool
}

func newRecords(t *testing.T) *records {
	s, err := new(memory.Opener).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &records{Store: s}
}

// way is a configuration that leads to records.
type way struct {
	*records
	name string
}

func (w way) Identity() string { return fmt.Sprintf("%s %p", w.name, w.records) }

func (w way) Open(context.Context) (store.Store, error) {
	w.opened.Add(1)
	return &visit{records: w.records}, nil
}

var errPlaceDown = errors.New("connection refused")

// visit is an open store.
type visit struct {
	*records
	closed atomic.Bool
}

func (v *visit) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if v.down.Load() || v.closed.Load() {
		return errPlaceDown
	}
	return v.Store.Put(ctx, key, value, ttl)
}

func (v *visit) Delete(ctx context.Context, key string) error {
	if v.down.Load() || v.closed.Load() {
		return errPlaceDown
	}
	return v.Store.Delete(ctx, key)
}

func (v *visit) Close() error {
	if v.closed.CompareAndSwap(false, true) {
		v.opened.Add(-1)
	}
	return nil
}

// loaded is a configuration that is in use.
type loaded struct {
	t *testing.T
	*state
	*session.Manager
	name string
}

// load acquires a state as a configuration does.
func load(t *testing.T, w way, keys *keyring.Ring) (*loaded, error) {
	t.Helper()
	st, err := acquireState(t.Context(), w, keys)
	if err != nil {
		return nil, err
	}
	return &loaded{t, st, session.NewManager(session.Options{Store: st.store, Keys: keys, Cache: st.cache}), w.Identity()}, nil
}

func mustLoad(t *testing.T, w way, keys *keyring.Ring) *loaded {
	t.Helper()
	l, err := load(t, w, keys)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// unload is the end of a configuration.
func (l *loaded) unload() {
	l.t.Helper()
	l.Wait()
	if _, err := states.Delete(l.name); err != nil {
		l.t.Errorf("the end of %s: %v", l.name, err)
	}
}

func (l *loaded) signIn(user string) string {
	l.t.Helper()
	_, token, err := l.Create(l.t.Context(), session.Login{User: identity.Identity{Platform: "wechat", Program: "wxA", OpenID: user}})
	if err != nil {
		l.t.Fatal(err)
	}
	return token
}

func (l *loaded) is(token string, want error) {
	l.t.Helper()
	if _, _, err := l.Validate(l.t.Context(), token); !errors.Is(err, want) {
		l.t.Errorf("at %s the session is %v, want %v", l.name, err, want)
	}
}

func (l *loaded) signOut(token string) {
	l.t.Helper()
	s, _, err := l.Validate(l.t.Context(), token)
	if err == nil {
		err = l.Revoke(l.t.Context(), s)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *loaded) migrateTo(w way) error {
	_, err := l.state.migrate(l.t.Context(), migrationOrder{opener: w, from: "here", to: "there"})
	return err
}

func (l *loaded) phase() string { return l.migration().status().State }

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
