// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
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

// clock is a time that tests move.
type clock struct{ atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.Store(time.Now().Unix())
	return c
}

func (c *clock) now() time.Time           { return time.Unix(c.Load(), 0) }
func (c *clock) advance(by time.Duration) { c.Add(int64(by / time.Second)) }

// countingStore counts and fails calls on demand.
type countingStore struct {
	store.Store
	gets, updates atomic.Int64
	failing       atomic.Bool
}

var errDown = errors.New("the store is down")

func (s *countingStore) Get(ctx context.Context, key string) ([]byte, error) {
	s.gets.Add(1)
	if s.failing.Load() {
		return nil, errDown
	}
	return s.Store.Get(ctx, key)
}

func (s *countingStore) Update(ctx context.Context, key string, change store.Change) error {
	s.updates.Add(1)
	if s.failing.Load() {
		return errDown
	}
	return s.Store.Update(ctx, key, change)
}

// fixture is a manager on a store of its own.
type fixture struct {
	*session.Manager
	t     *testing.T
	clock *clock
	store *countingStore
}

func newFixture(t *testing.T, change func(*session.Options)) *fixture {
	t.Helper()
	opened, err := new(memory.Opener).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	return newFixtureOn(t, &countingStore{Store: opened}, newClock(), change)
}

func newFixtureOn(t *testing.T, s *countingStore, c *clock, change func(*session.Options)) *fixture {
	t.Helper()
	keys, err := keyring.New(bytes.Repeat([]byte{1}, keyring.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	options := session.Options{Store: s, Keys: keys, Cache: session.NewCache(), Now: c.now}
	if change != nil {
		change(&options)
	}
	m := session.NewManager(options)
	t.Cleanup(m.Wait)
	return &fixture{m, t, c, s}
}

// cold returns a second node on the same store: nothing is warm there.
func (f *fixture) cold() *fixture {
	return newFixtureOn(f.t, f.store, f.clock, func(o *session.Options) {
		o.Keys, o.Lifetime, o.Idle, o.PerUser = f.Keys, f.Lifetime, f.Idle, f.PerUser
	})
}

func (f *fixture) create(user identity.Identity) (*session.Session, string) {
	f.t.Helper()
	s, token, err := f.Create(f.t.Context(), session.Login{User: user, PlatformKey: "platform-key"})
	if err != nil {
		f.t.Fatal(err)
	}
	return s, token
}

// expect validates token, warm and cold, and compares the error.
func (f *fixture) expect(token string, want error) {
	f.t.Helper()
	for name, node := range map[string]*fixture{"this node": f, "another node": f.cold()} {
		if _, _, err := node.Validate(f.t.Context(), token); !errors.Is(err, want) {
			f.t.Errorf("%s: error is %v, want %v", name, err, want)
		}
	}
}

func TestCreateAndValidate(t *testing.T) {
	f := newFixture(t, nil)
	made, token := f.create(alice)
	f.store.gets.Store(0)
	s, warm, err := f.Validate(t.Context(), token)
	if err != nil || !warm || s != made {
		t.Errorf("warm: %v, %v, %v", s, warm, err)
	}
	if f.store.gets.Load() != 0 {
		t.Error("a new session is not in the warm cache")
	}
	node := f.cold()
	s, warm, err = node.Validate(t.Context(), token)
	if err != nil || warm || s.ID != made.ID || s.Identity != alice || !s.IssuedAt().Equal(made.IssuedAt()) {
		t.Errorf("cold: %+v, %v, %v", s, warm, err)
	}
	if _, warm, err = node.Validate(t.Context(), token); err != nil || !warm {
		t.Errorf("second time: warm %v, %v", warm, err)
	}
	if strings.Contains(token, alice.OpenID) {
		t.Error("the token shows the openid")
	}
}

// T25: the lifetime is enforced to the second, and by what the configuration
// says now, not by what it said at login.
func TestLifetime(t *testing.T) {
	f := newFixture(t, func(o *session.Options) { o.Lifetime, o.Idle = time.Hour, 24*time.Hour })
	_, token := f.create(alice)
	f.clock.advance(time.Hour - time.Second)
	f.expect(token, nil)
	shorter := newFixtureOn(t, f.store, f.clock, func(o *session.Options) {
		o.Keys, o.Cache, o.Lifetime = f.Keys, f.Cache, 30*time.Minute
	})
	if _, _, err := shorter.Validate(t.Context(), token); !errors.Is(err, session.ErrExpired) {
		t.Errorf("after the lifetime was cut: %v", err)
	}
	longer := newFixtureOn(t, f.store, f.clock, func(o *session.Options) { o.Keys, o.Lifetime = f.Keys, 48*time.Hour })
	f.clock.advance(time.Second)
	f.expect(token, session.ErrExpired)
	if _, _, err := longer.Validate(t.Context(), token); !errors.Is(err, session.ErrExpired) {
		t.Errorf("a lifetime is never extended, but: %v", err)
	}
}

// A session that is used stays, one that is not used ends, and use is written
// at most once per tenth of the idle time.
func TestIdle(t *testing.T) {
	f := newFixture(t, func(o *session.Options) { o.Idle = 10 * time.Hour })
	_, token := f.create(alice)
	_, unused := f.create(identity.Identity{Platform: "wechat", Program: "wxA", OpenID: "oBob"})
	before := f.store.updates.Load()
	for range 30 {
		f.clock.advance(30 * time.Minute)
		for range 10 {
			if _, _, err := f.Validate(t.Context(), token); err != nil {
				t.Fatal(err)
			}
		}
		f.Wait()
	}
	if writes := f.store.updates.Load() - before; writes < 10 || writes > 16 {
		t.Errorf("%d writes in 15 hours, want at most one an hour", writes)
	}
	f.expect(token, nil)
	f.expect(unused, session.ErrExpired)
	f.clock.advance(11 * time.Hour)
	f.expect(token, session.ErrExpired)
}

// A clock that is set back must neither end sessions nor make them immortal.
func TestClockSetBack(t *testing.T) {
	f := newFixture(t, func(o *session.Options) { o.Lifetime = time.Hour })
	_, token := f.create(alice)
	f.clock.advance(-24 * time.Hour)
	f.expect(token, nil)
	_, second := f.create(alice)
	f.expect(second, nil)
	f.clock.advance(24*time.Hour + 2*time.Hour)
	f.expect(token, session.ErrExpired)
	f.expect(second, session.ErrExpired)
}

// T32: a session that was ended is dead at once, its neighbours are not.
func TestRevoke(t *testing.T) {
	f := newFixture(t, nil)
	first, firstToken := f.create(alice)
	_, secondToken := f.create(alice)
	_, bob := f.create(identity.Identity{Platform: "wechat", Program: "wxA", OpenID: "oBob"})
	if err := f.Revoke(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	f.expect(firstToken, session.ErrRevoked)
	f.expect(secondToken, nil)
	if err := f.Revoke(t.Context(), first); err != nil {
		t.Errorf("ending it twice: %v", err)
	}
	if err := f.RevokeAll(t.Context(), first.Subject); err != nil {
		t.Fatal(err)
	}
	f.expect(secondToken, session.ErrRevoked)
	f.expect(bob, nil)
	if keys, err := f.StoredKeys(t.Context(), first.Subject); err != nil || len(keys) != 0 {
		t.Errorf("session keys are left: %v, %v", keys, err)
	}
	_, third := f.create(alice)
	f.expect(third, nil)
}

func TestPerUser(t *testing.T) {
	f := newFixture(t, func(o *session.Options) { o.PerUser = 3 })
	var tokens []string
	for range 5 {
		_, token := f.create(alice)
		tokens = append(tokens, token)
		f.clock.advance(time.Second)
	}
	for i, token := range tokens {
		if i < 2 {
			f.expect(token, session.ErrRevoked)
		} else {
			f.expect(token, nil)
		}
	}
}

// T31: a login that shows a session gets a new one; the old one ends if it is
// the same user's and is left alone if it is not.
func TestReplace(t *testing.T) {
	f := newFixture(t, nil)
	old, oldToken := f.create(alice)
	bob := identity.Identity{Platform: "wechat", Program: "wxA", OpenID: "oBob"}
	if _, _, err := f.Create(t.Context(), session.Login{User: bob, Replaces: old}); err != nil {
		t.Fatal(err)
	}
	f.expect(oldToken, nil)
	s, token, err := f.Create(t.Context(), session.Login{User: alice, Replaces: old})
	if err != nil || s.ID == old.ID || token == oldToken {
		t.Fatalf("%v, %v", s, err)
	}
	f.expect(oldToken, session.ErrRevoked)
	f.expect(token, nil)
}

// A clock that is set back must not make one session of two sign-ins.
func TestNoJoinWhenTheClockIsSetBack(t *testing.T) {
	f := newFixture(t, nil)
	first, _ := f.create(alice)
	f.clock.advance(-time.Hour)
	if second, _ := f.create(alice); second.ID == first.ID {
		t.Error("the session of before was handed out again")
	}
}

// A page of a legacy client that begins with forty requests signs in forty
// times: that is one session, so that it does not push out the user's others.
func TestJoin(t *testing.T) {
	f := newFixture(t, func(o *session.Options) { o.PerUser = 2 })
	_, other := f.create(alice)
	f.clock.advance(time.Hour)
	join := func(key string) (*session.Session, string) {
		t.Helper()
		s, token, err := f.Create(t.Context(), session.Login{User: alice, PlatformKey: key, Join: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return s, token
	}
	first, token := join("k1")
	for range 40 {
		if s, same := join("k2"); s.ID != first.ID || same != token {
			t.Fatal("a session of its own")
		}
	}
	f.expect(token, nil)
	f.expect(other, nil)
	if keys, err := f.StoredKeys(t.Context(), first.Subject); err != nil || keys[0].Key != "k2" {
		t.Errorf("keys are %v, %v", keys, err)
	}
	f.clock.advance(10 * time.Second)
	if s, _ := join("k3"); s.ID == first.ID {
		t.Error("joined too late")
	}
}

// A unionid that the platform tells later reaches the sessions that are there,
// and one that it told once is not forgotten.
func TestUnionIDComesLater(t *testing.T) {
	f := newFixture(t, nil)
	without := alice
	without.UnionID = ""
	_, token := f.create(without)
	f.create(alice)
	s, _, err := f.Validate(t.Context(), token)
	if err != nil || s.Identity.UnionID != "uAlice" {
		t.Errorf("%+v, %v", s, err)
	}
	if s, _ := f.create(without); s.Identity.UnionID != "uAlice" {
		t.Errorf("forgotten: %+v", s.Identity)
	}
}
