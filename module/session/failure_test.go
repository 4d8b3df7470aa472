// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/session"
	"github.com/minigate/minigate/module/store"
)

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
	if _, _, err := f.Create(t.Context(), session.Login{User: alice}); !errors.Is(err, errDown) {
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

// Whoever keeps a session in use without a request is told when to look again: each
// time once, and never too late.
func TestListener(t *testing.T) {
	f := newFixture(t, func(o *session.Options) { o.Lifetime, o.Idle = time.Hour, 30*time.Minute })
	var told []string
	f.Cache.Listen(session.Listener{
		Changed:    func(subject string) { told = append(told, "changed "+subject) },
		Trusted:    func() { told = append(told, "trusted") },
		Distrusted: func(until time.Time) { told = append(told, "distrusted for "+until.Sub(f.clock.now()).String()) },
	})
	expect := func(want ...string) {
		t.Helper()
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		told = nil
	}
	s, _ := f.create(alice)
	expect()
	if until := f.GoodUntil(s); !until.Equal(f.clock.now().Add(3 * time.Minute)) {
		t.Errorf("good until %s", until)
	}
	f.clock.advance(58 * time.Minute)
	if until := f.GoodUntil(s); !until.Equal(f.clock.now().Add(2 * time.Minute)) {
		t.Errorf("near its end, good until %s", until)
	}
	if err := f.Revoke(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	expect("changed " + alice.Subject())
	if until := f.Cache.BelievedUntil(); until.Before(f.clock.now().Add(24 * time.Hour)) {
		t.Errorf("believed until %s", until)
	}
	f.Cache.Distrust(f.clock.now())
	f.Cache.Distrust(f.clock.now())
	expect("distrusted for 30s")
	if until := f.Cache.BelievedUntil(); !until.Equal(f.clock.now().Add(30 * time.Second)) {
		t.Errorf("believed until %s", until)
	}
	f.Cache.Trust()
	f.Cache.Distrust(f.clock.now())
	expect("trusted", "distrusted for 30s")
}

// A store that is dead for long is not trusted for long, however often that is
// said.
func TestDistrustIsCountedOnce(t *testing.T) {
	f := newFixture(t, nil)
	_, token := f.create(alice)
	f.store.failing.Store(true)
	for range 40 {
		f.Cache.Distrust(f.clock.now())
		f.clock.advance(time.Second)
	}
	if _, _, err := f.Validate(t.Context(), token); !errors.Is(err, errDown) {
		t.Errorf("after 40 s: %v", err)
	}
}

// Whoever is busy all the time is not signed out because the store takes no
// writes.
func TestBusySessionOutlivesStore(t *testing.T) {
	f := newFixture(t, func(o *session.Options) { o.Idle = 100 * time.Second })
	_, token := f.create(alice)
	f.store.failing.Store(true)
	for range 60 {
		f.clock.advance(5 * time.Second)
		if _, _, err := f.Validate(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		f.Wait()
	}
	f.clock.advance(101 * time.Second)
	if _, _, err := f.Validate(t.Context(), token); !errors.Is(err, errDown) {
		t.Errorf("idle, and the store cannot be asked: %v", err)
	}
	f.store.failing.Store(false)
	if _, _, err := f.Validate(t.Context(), token); !errors.Is(err, session.ErrExpired) {
		t.Errorf("idle: %v", err)
	}
}

// A logout whose client does not wait for the answer is done all the same.
func TestRevokeOutlivesItsRequest(t *testing.T) {
	f := newFixture(t, nil)
	s, token := f.create(alice)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Revoke(gone, s); err != nil {
		t.Fatal(err)
	}
	f.expect(token, session.ErrRevoked)
}

// What a user no longer has is not kept in memory.
func TestStaleEntriesGo(t *testing.T) {
	f := newFixture(t, nil)
	var tokens []string
	for range 50 {
		_, token := f.create(alice)
		tokens = append(tokens, token)
	}
	if err := f.RevokeAll(t.Context(), alice.Subject()); err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens {
		f.expect(token, session.ErrRevoked)
	}
	if n := f.Cache.Len(); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

// A longer idle time helps those who are signed in, too.
func TestIdleRaised(t *testing.T) {
	f := newFixture(t, func(o *session.Options) { o.Idle = 2 * time.Second })
	_, token := f.create(alice)
	longer := newFixtureOn(t, f.store, f.clock, func(o *session.Options) { o.Keys, o.Idle = f.Keys, time.Hour })
	for range 20 {
		f.clock.advance(time.Minute)
		if _, _, err := longer.Validate(t.Context(), token); err != nil {
			t.Fatal(err)
		}
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
	if _, _, err := f.Create(t.Context(), session.Login{User: alice}); err == nil {
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
	err := f.store.Scan(t.Context(), "", func(e store.Entry) error {
		key, value := e.Key, e.Value
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
		busy.Go(func() { _, _, _ = f.Create(context.Background(), session.Login{User: alice}) })
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
