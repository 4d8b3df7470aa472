// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/session"
	"github.com/minigate/minigate/module/store"
	"github.com/minigate/minigate/plugin/stores/memory"
)

var alice = identity.Identity{Platform: "wechat", Program: "wxA", OpenID: "oAlice", UnionID: "uAlice"}

// author is alice in one of her sessions.
func author(session string) Author {
	return Author{Subject: alice.Subject(), Identity: alice, SessionID: session}
}

// clock is a time that tests move.
type clock struct{ atomic.Int64 }

func (c *clock) now() time.Time           { return time.Unix(c.Load(), 0) }
func (c *clock) advance(by time.Duration) { c.Add(int64(by / time.Second)) }

// watchedStore counts and fails calls on demand, and remembers the last ttl.
type watchedStore struct {
	store.Store
	writes  atomic.Int64
	failing atomic.Bool
	unsure  atomic.Bool // writes are made, and fail nevertheless
	ttl     atomic.Int64
}

var errDown = errors.New("the store is down")

func (s *watchedStore) Get(ctx context.Context, key string) ([]byte, error) {
	if s.failing.Load() {
		return nil, errDown
	}
	return s.Store.Get(ctx, key)
}

func (s *watchedStore) Update(ctx context.Context, key string, change store.Change) error {
	if s.failing.Load() {
		return errDown
	}
	err := s.Store.Update(ctx, key, func(old []byte) ([]byte, time.Duration, error) {
		value, ttl, err := change(old)
		if err == nil {
			s.writes.Add(1)
			s.ttl.Store(int64(ttl))
		}
		return value, ttl, err
	})
	if s.unsure.Load() && err == nil {
		return errDown
	}
	return err
}

// fixture is a manager on a store of its own.
type fixture struct {
	*Manager
	tb    testing.TB
	clock *clock
	store *watchedStore

	mu       sync.Mutex
	changed  []string
	warnings []error
}

func newFixture(tb testing.TB, keep time.Duration) *fixture {
	tb.Helper()
	opened, err := new(memory.Opener).Open(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { opened.Close() })
	f := &fixture{tb: tb, clock: new(clock), store: &watchedStore{Store: opened}}
	f.clock.Store(1_800_000_000)
	f.Manager = NewManager(Options{
		Store: f.store, Keys: ring(tb, 1), Keep: keep, Now: f.clock.now,
		Changed: func(subject string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.changed = append(f.changed, subject)
		},
		Warn: func(_ string, err error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.warnings = append(f.warnings, err)
		},
	})
	return f
}

// ring returns a keyring of keys that are told apart by a number.
func ring(tb testing.TB, keys ...byte) *keyring.Ring {
	tb.Helper()
	var masters [][]byte
	for _, k := range keys {
		masters = append(masters, bytes.Repeat([]byte{k}, keyring.KeySize))
	}
	r, err := keyring.New(masters...)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// name returns a change that states a nickname.
func name(nickname string) func(*Profile) error {
	return func(p *Profile) error {
		p.Stated.Nickname = nickname
		return nil
	}
}

func (f *fixture) get() *Profile {
	f.tb.Helper()
	p, err := f.Get(f.tb.Context(), alice.Subject())
	if err != nil {
		f.tb.Fatal(err)
	}
	return p
}

func (f *fixture) change(session string, change func(*Profile) error) *Profile {
	f.tb.Helper()
	p, err := f.Change(f.tb.Context(), author(session), change)
	if err != nil {
		f.tb.Fatal(err)
	}
	return p
}

func (f *fixture) erase(sessions ...string) string {
	f.tb.Helper()
	avatar, err := f.Erase(f.tb.Context(), alice.Subject(), sessions)
	if err != nil {
		f.tb.Fatal(err)
	}
	return avatar
}

func (f *fixture) sweep(want int) {
	f.tb.Helper()
	if n, err := f.Sweep(f.tb.Context()); err != nil || n != want {
		f.tb.Errorf("Sweep wrote %d records, want %d; error %v", n, want, err)
	}
}

// raw returns what the store holds for alice; nil for nothing.
func (f *fixture) raw() []byte {
	f.tb.Helper()
	value, err := f.store.Get(f.tb.Context(), Key(alice.Subject()))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		f.tb.Fatal(err)
	}
	return value
}

// put writes a record for alice as an attacker with the key could, or a faulty
// gateway.
func (f *fixture) put(plain any) {
	f.tb.Helper()
	encoded, err := json.Marshal(plain)
	if err != nil {
		f.tb.Fatal(err)
	}
	sealed, err := f.Keys.Seal(encoded)
	if err != nil {
		f.tb.Fatal(err)
	}
	f.putRaw(sealed)
}

func (f *fixture) putRaw(value []byte) {
	f.tb.Helper()
	if err := f.store.Put(f.tb.Context(), Key(alice.Subject()), value, 0); err != nil {
		f.tb.Fatal(err)
	}
}

func TestKeyIsWatchedWithSessions(t *testing.T) {
	if key := Key("s"); key != session.RecordPrefix+"s/profile" || store.CheckKey(key) != nil {
		t.Errorf("key is %q", key)
	}
}
