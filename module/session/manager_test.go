// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
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
	s, token, err := f.Create(f.t.Context(), user, "platform-key", nil)
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
	if keys, err := f.PlatformKeys(t.Context(), first.Subject); err != nil || len(keys) != 0 {
		t.Errorf("session keys are left: %q, %v", keys, err)
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
	if _, _, err := f.Create(t.Context(), bob, "", old); err != nil {
		t.Fatal(err)
	}
	f.expect(oldToken, nil)
	s, token, err := f.Create(t.Context(), alice, "", old)
	if err != nil || s.ID == old.ID || token == oldToken {
		t.Fatalf("%v, %v", s, err)
	}
	f.expect(oldToken, session.ErrRevoked)
	f.expect(token, nil)
}

// The platform replaces its session key when the user signs in again; data that
// the phone encrypted before may arrive after.
func TestPlatformKeys(t *testing.T) {
	f := newFixture(t, nil)
	keys := func() string {
		t.Helper()
		keys, err := f.PlatformKeys(t.Context(), alice.Subject())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(keys, " ")
	}
	for _, step := range []struct {
		key  string
		wait time.Duration
		want string
	}{
		{"k1", 0, "k1"},
		{"k1", time.Minute, "k1"},
		{"k2", time.Minute, "k2 k1"},
		{"k3", time.Minute, "k3 k2 k1"},
		{"k4", 4 * time.Minute, "k4 k3 k2"},
		{"k4", 90 * time.Second, "k4 k3"},
		{"k3", time.Minute, "k3 k4"},
		{"", 6 * time.Minute, "k3"},
	} {
		f.clock.advance(step.wait)
		if _, _, err := f.Create(t.Context(), alice, step.key, nil); err != nil {
			t.Fatal(err)
		}
		if got := keys(); got != step.want {
			t.Errorf("after %q: keys are %q, want %q", step.key, got, step.want)
		}
	}
	if keys, err := f.PlatformKeys(t.Context(), "nobody"); err != nil || keys != nil {
		t.Errorf("keys of nobody: %q, %v", keys, err)
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

// T43: a store that does not answer is no reason to let anyone in, nor to tell
// anyone that the session is gone.
func TestStoreDown(t *testing.T) {
	f := newFixture(t, nil)
	_, token := f.create(alice)
	node := f.cold()
	f.store.failing.Store(true)
	if _, _, err := f.Validate(t.Context(), token); err != nil {
		t.Errorf("a warm session: %v", err)
	}
	if _, _, err := node.Validate(t.Context(), token); !errors.Is(err, errDown) {
		t.Errorf("a cold session: %v", err)
	}
	if _, _, err := f.Create(t.Context(), alice, "", nil); !errors.Is(err, errDown) {
		t.Errorf("a login: %v", err)
	}
	f.store.failing.Store(false)
	f.expect(token, nil)
}

// When the store stops telling about changes, warm sessions go on for 30
// seconds; when it tells again, all are checked anew.
func TestDistrust(t *testing.T) {
	f := newFixture(t, nil)
	_, token := f.create(alice)
	f.Cache.Distrust(f.clock.now())
	f.clock.advance(29 * time.Second)
	if _, warm, err := f.Validate(t.Context(), token); err != nil || !warm {
		t.Errorf("after 29 s: warm %v, %v", warm, err)
	}
	f.clock.advance(2 * time.Second)
	f.store.failing.Store(true)
	if _, _, err := f.Validate(t.Context(), token); !errors.Is(err, errDown) {
		t.Errorf("after 31 s: %v", err)
	}
	f.store.failing.Store(false)
	f.Cache.Trust()
	if _, warm, err := f.Validate(t.Context(), token); err != nil || warm {
		t.Errorf("after the store is back: warm %v, %v", warm, err)
	}
}

// A record that was damaged on disk costs its user a new login and nothing
// else; the operator is told. One of a newer version is left as it is.
func TestUnusableRecords(t *testing.T) {
	var warned atomic.Int64
	f := newFixture(t, func(o *session.Options) { o.Warn = func(string, error) { warned.Add(1) } })
	s, token := f.create(alice)
	key := session.RecordPrefix + s.Subject
	sealed, err := f.store.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	put := func(value []byte) {
		t.Helper()
		if err := f.store.Put(t.Context(), key, value, 0); err != nil {
			t.Fatal(err)
		}
	}
	damaged := bytes.Clone(sealed)
	damaged[len(damaged)-10] ^= 1
	put(damaged)
	f.Cache.Invalidate(s.Subject)
	if _, _, err := f.Validate(t.Context(), token); !errors.Is(err, session.ErrInvalid) || warned.Load() != 1 {
		t.Errorf("damaged: %v, %d warnings", err, warned.Load())
	}
	_, fresh := f.create(alice)
	f.expect(fresh, nil)

	bob, bobToken := f.create(identity.Identity{Platform: "wechat", Program: "wxA", OpenID: "oBob"})
	if err := f.store.Put(t.Context(), session.RecordPrefix+bob.Subject, sealed, 0); err != nil {
		t.Fatal(err)
	}
	f.Cache.Invalidate(bob.Subject)
	if _, _, err := f.Validate(t.Context(), bobToken); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("another user's record in his place: %v", err)
	}

	newer, err := f.Keys.Seal([]byte(fmt.Sprintf(`{"v":2,"sub":"%s"}`, s.Subject)))
	if err != nil {
		t.Fatal(err)
	}
	put(newer)
	if _, _, err := f.cold().Validate(t.Context(), fresh); err == nil || errors.Is(err, session.ErrInvalid) || errors.Is(err, session.ErrRevoked) {
		t.Errorf("a newer version's record: %v", err)
	}
	if _, _, err := f.Create(t.Context(), alice, "", nil); err == nil {
		t.Error("a newer version's record is overwritten")
	}
	if kept, err := f.store.Get(t.Context(), key); err != nil || !bytes.Equal(kept, newer) {
		t.Errorf("a newer version's record is changed: %v", err)
	}
}

// What lies in the store tells a thief nothing.
func TestRecordsAreSealed(t *testing.T) {
	f := newFixture(t, nil)
	f.create(alice)
	err := f.store.Scan(t.Context(), "", func(key string, value []byte) error {
		for _, canary := range []string{"oAlice", "uAlice", "platform-key", "wxA"} {
			if strings.Contains(key+string(value), canary) {
				t.Errorf("%s is in the store in clear", canary)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Rotating keys signs nobody out; taking a key away signs out whom it signed
// in, warm or not.
func TestKeyRotation(t *testing.T) {
	f := newFixture(t, nil)
	_, token := f.create(alice)
	first, second := bytes.Repeat([]byte{1}, keyring.KeySize), bytes.Repeat([]byte{2}, keyring.KeySize)
	if err := f.Keys.Replace(second, first); err != nil {
		t.Fatal(err)
	}
	f.expect(token, nil)
	if err := f.Keys.Replace(second); err != nil {
		t.Fatal(err)
	}
	f.expect(token, session.ErrInvalid)
	_, fresh := f.create(alice)
	f.expect(fresh, nil)
}

// A logout that races with logins and validations is never undone: once
// RevokeAll has returned, no token of before is good.
func TestRevocationRaces(t *testing.T) {
	f := newFixture(t, func(o *session.Options) { o.PerUser = 100 })
	for range 20 {
		var tokens []string
		for range 4 {
			_, token := f.create(alice)
			tokens = append(tokens, token)
		}
		stop := make(chan struct{})
		var busy sync.WaitGroup
		for _, token := range tokens {
			busy.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						_, _, _ = f.Validate(context.Background(), token)
					}
				}
			})
		}
		busy.Go(func() { _, _, _ = f.Create(context.Background(), alice, "", nil) })
		if err := f.RevokeAll(t.Context(), alice.Subject()); err != nil {
			t.Fatal(err)
		}
		for _, token := range tokens {
			if _, _, err := f.Validate(t.Context(), token); !errors.Is(err, session.ErrRevoked) {
				t.Fatalf("after the logout: %v", err)
			}
		}
		close(stop)
		busy.Wait()
	}
}
