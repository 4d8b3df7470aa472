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
)

// bob uses another program than alice.
var bob = identity.Identity{Platform: "wechat", Program: "wxB", OpenID: "oBob"}

func (f *fixture) revokeEveryone() {
	f.t.Helper()
	if err := f.RevokeEveryone(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) revokeProgram(platform, program string) {
	f.t.Helper()
	if err := f.RevokeProgram(f.t.Context(), platform, program); err != nil {
		f.t.Fatal(err)
	}
}

// After a break-in all are signed out with one write, warm or not; and whoever
// signs in again, be it in the same second, is not thrown out once more.
func TestRevokeEveryone(t *testing.T) {
	f := newFixture(t, nil)
	_, a := f.create(alice)
	_, b := f.create(bob)
	f.expect(a, nil)
	f.store.updates.Store(0)
	f.revokeEveryone()
	if n := f.store.updates.Load(); n != 1 {
		t.Errorf("%d writes", n)
	}
	f.expect(a, session.ErrRevoked)
	f.expect(b, session.ErrRevoked)
	_, again := f.create(alice)
	f.expect(again, nil)
	f.expect(a, session.ErrRevoked)
	f.revokeEveryone() // the same second once more
	f.expect(again, session.ErrRevoked)
	for range 3 {
		f.revokeEveryone()
	}
	_, again = f.create(alice)
	f.expect(again, nil)
	if d, err := f.Describe(t.Context(), alice.Subject()); err != nil || len(d.Sessions) != 1 {
		t.Errorf("kept of her: %+v, %v", d, err)
	}
}

// A program whose secret leaked loses its sessions, the others keep theirs. The
// same app id on another platform is another program.
func TestRevokeProgram(t *testing.T) {
	f := newFixture(t, nil)
	_, a := f.create(alice)
	_, b := f.create(bob)
	namesake := identity.Identity{Platform: "alipay", Program: alice.Program, OpenID: "o"}
	_, n := f.create(namesake)
	f.revokeProgram(alice.Platform, alice.Program)
	f.expect(a, session.ErrRevoked)
	f.expect(b, nil)
	f.expect(n, nil)
	_, a2 := f.create(alice)
	f.revokeProgram(bob.Platform, bob.Program)
	f.expect(a2, nil)
	f.expect(a, session.ErrRevoked)
	f.expect(b, session.ErrRevoked)
	f.revokeProgram(alice.Platform, alice.Program)
	f.expect(a2, session.ErrRevoked)
	f.expect(n, nil)
	f.revokeEveryone()
	f.expect(n, session.ErrRevoked)
	_, b2 := f.create(bob)
	f.expect(b2, nil)
}

// Nodes have clocks of their own: a session that began on a node whose clock is
// fast is ended all the same, and one that begins on a node whose clock is slow
// is not.
func TestCutoffsDoNotGoByTheClock(t *testing.T) {
	f := newFixture(t, nil)
	at := func(by time.Duration) *fixture {
		c := newClock()
		c.advance(by)
		return newFixtureOn(t, f.store, c, func(o *session.Options) { o.Keys = f.Keys })
	}
	fast, slow := at(time.Hour), at(-time.Hour)
	_, ahead := fast.create(alice)
	f.revokeEveryone()
	f.expect(ahead, session.ErrRevoked)
	fast.revokeEveryone()
	_, behind := slow.create(alice)
	f.expect(behind, nil)
	slow.revokeEveryone()
	f.Cache.Changed(session.CutoffKey) // as its store tells it
	f.expect(behind, session.ErrRevoked)
	// If the record is lost, its numbers do not come again.
	_, lost := f.create(alice)
	if err := f.store.Delete(t.Context(), session.CutoffKey); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(2 * time.Hour)
	f.revokeEveryone()
	f.expect(lost, session.ErrRevoked)
}

// A client that cannot show its session joins the one that has just begun, but
// not one that was ended: it would sign in again and again.
func TestCutoffIsNotJoined(t *testing.T) {
	f := newFixture(t, nil)
	old, _ := f.create(alice)
	f.cold().revokeEveryone() // this node has not heard of it yet
	s, token, err := f.Create(t.Context(), session.Login{User: alice, Join: time.Minute})
	if err != nil || s.ID == old.ID {
		t.Errorf("session %s, %v", s.ID, err)
	}
	f.expect(token, nil)
	if joined, _, err := f.Create(t.Context(), session.Login{User: alice, Join: time.Minute}); err != nil || joined.ID != s.ID {
		t.Errorf("a good one is not joined: %v", err)
	}
}

// The write of last use that is under way when all are signed out must not make
// its session warm again.
func TestCutoffWinsOverUse(t *testing.T) {
	f := newFixture(t, nil)
	s, token := f.create(alice)
	f.revokeEveryone()
	if err := f.WriteUse(t.Context(), token, s); err != nil {
		t.Fatal(err)
	}
	if _, warm, err := f.Validate(t.Context(), token); warm || !errors.Is(err, session.ErrRevoked) {
		t.Errorf("warm %v, %v", warm, err)
	}
}

// keyStore fails for one key.
type keyStore struct {
	store.Store
	key     string
	failing atomic.Bool
	gets    atomic.Int64
}

func (s *keyStore) Get(ctx context.Context, key string) ([]byte, error) {
	if key == s.key {
		s.gets.Add(1)
		if s.failing.Load() {
			return nil, errDown
		}
	}
	return s.Store.Get(ctx, key)
}

func newKeyStore(t *testing.T) (*fixture, *keyStore) {
	f := newFixture(t, nil)
	s := &keyStore{Store: f.store, key: session.CutoffKey}
	return newFixtureOn(t, &countingStore{Store: s}, f.clock, nil), s
}

// T43: if nobody can tell who was signed out, nobody is let in, and nobody is told
// that the session is gone.
func TestCutoffsCannotBeRead(t *testing.T) {
	f, s := newKeyStore(t)
	_, token := f.create(alice)
	s.failing.Store(true)
	node := f.cold()
	if _, _, err := node.Validate(t.Context(), token); !errors.Is(err, errDown) {
		t.Errorf("a cold session: %v", err)
	}
	if _, _, err := f.Create(t.Context(), session.Login{User: bob}); !errors.Is(err, errDown) {
		t.Errorf("a login: %v", err)
	}
	if _, err := node.List(t.Context(), session.Query{Limit: 1}); !errors.Is(err, errDown) {
		t.Errorf("a list: %v", err)
	}
	if _, err := node.EndAll(t.Context(), alice.Subject()); !errors.Is(err, errDown) {
		t.Errorf("an end: %v", err)
	}
	s.failing.Store(false)
	f.expect(token, nil)
}

// Cutoffs cost a cold session nothing, as long as the store tells about changes;
// when it does not, memory is believed for no longer than a warm session is.
func TestCutoffsAreRemembered(t *testing.T) {
	f, s := newKeyStore(t)
	var tokens []string
	for i := range 20 {
		_, token := f.create(identity.Identity{Platform: "wechat", Program: "wxA", OpenID: fmt.Sprint(i)})
		tokens = append(tokens, token)
	}
	node := f.cold()
	reads := func(tokens []string, want int64) {
		t.Helper()
		s.gets.Store(0)
		for _, token := range tokens {
			if _, _, err := node.Validate(t.Context(), token); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.gets.Load(); n != want {
			t.Errorf("read %d times, want %d", n, want)
		}
	}
	reads(tokens[:10], 1)
	node.Cache.Changed(session.CutoffKey)
	reads(tokens[:10], 1)
	node.Cache.Distrust(f.clock.now())
	reads(tokens[10:15], 0)
	f.clock.advance(31 * time.Second)
	reads(tokens[15:], 5)
	f.revokeEveryone()
	if _, _, err := node.Validate(t.Context(), tokens[0]); !errors.Is(err, session.ErrRevoked) {
		t.Errorf("a node that is not told: %v", err)
	}
}

// Keys are replaced at once in an emergency, and then the record that all are
// signed out is as unreadable as everything else. Sessions from before it must not
// come back, and users must get in again.
func TestCutoffsSurviveTheLossOfTheirKey(t *testing.T) {
	f := newFixture(t, nil)
	first, second, third := bytes.Repeat([]byte{1}, keyring.KeySize), bytes.Repeat([]byte{2}, keyring.KeySize), bytes.Repeat([]byte{3}, keyring.KeySize)
	_, before := f.create(alice)
	if err := f.Keys.Replace(second, first); err != nil {
		t.Fatal(err)
	}
	f.revokeProgram(bob.Platform, bob.Program)
	if err := f.Keys.Replace(third, first); err != nil { // without the one that sealed the cutoffs
		t.Fatal(err)
	}
	var told atomic.Int64
	node := newFixtureOn(t, f.store, f.clock, func(o *session.Options) {
		o.Keys, o.Warn = f.Keys, func(_ string, err error) {
			if strings.Contains(err.Error(), "cutoffs") {
				told.Add(1)
			}
		}
	})
	node.expect(before, session.ErrRevoked) // fails closed: nobody knows that it was about bob
	_, after := node.create(alice)
	node.create(bob)
	if n := told.Load(); n != 1 {
		t.Errorf("the operator is told %d times", n)
	}
	node.expect(after, nil)
	node.revokeProgram(bob.Platform, bob.Program)
	node.expect(after, nil)
	node.expect(before, session.ErrRevoked)
	told.Store(0)
	node.revokeEveryone()
	node.expect(after, session.ErrRevoked)
	if told.Load() != 0 {
		t.Error("the record is still not readable")
	}
}

// A record that was damaged otherwise lets nobody in, until it is replaced; a
// program alone cannot replace it.
func TestDamagedCutoffs(t *testing.T) {
	for name, damaged := range map[string]string{"empty": "", "no number": "x.y", "no dot": "12", "a record": "a.b.c.d.e"} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			_, token := f.create(alice)
			if err := f.store.Put(t.Context(), session.CutoffKey, []byte(damaged), 0); err != nil {
				t.Fatal(err)
			}
			_, _, err := f.cold().Validate(t.Context(), token)
			if err == nil || errors.Is(err, session.ErrRevoked) || errors.Is(err, session.ErrInvalid) || errors.Is(err, session.ErrExpired) {
				t.Errorf("validated: %v", err)
			}
			if err := f.RevokeProgram(t.Context(), "wechat", "wxA"); err == nil {
				t.Error("a program replaces it")
			}
			f.revokeEveryone()
			f.expect(token, session.ErrRevoked)
			_, token = f.create(alice)
			f.expect(token, nil)
		})
	}
	// Another sealed record in its place is not taken for it.
	f := newFixture(t, nil)
	sealed, err := f.Keys.Seal([]byte(`{"key":"user-cut","latest":5}`))
	if err != nil {
		t.Fatal(err)
	}
	_, token := f.create(alice)
	if err := f.store.Put(t.Context(), session.CutoffKey, append([]byte("5."), sealed...), 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.cold().Validate(t.Context(), token); !errors.Is(err, session.ErrRevoked) {
		t.Errorf("validated: %v", err)
	}
}

// Before an old key is taken away, what it sealed is sealed anew.
func TestResealCutoffs(t *testing.T) {
	f := newFixture(t, nil)
	reseal := func(want int) {
		t.Helper()
		if n, err := f.ResealCutoffs(t.Context()); err != nil || n != want {
			t.Errorf("%d sealed anew, %v; want %d", n, err, want)
		}
	}
	reseal(0)
	_, a := f.create(alice)
	_, b := f.create(bob)
	f.revokeProgram(bob.Platform, bob.Program)
	reseal(0)
	first, second := bytes.Repeat([]byte{1}, keyring.KeySize), bytes.Repeat([]byte{2}, keyring.KeySize)
	if err := f.Keys.Replace(second, first); err != nil {
		t.Fatal(err)
	}
	reseal(1)
	reseal(0)
	f.expect(a, nil)
	f.expect(b, session.ErrRevoked)
	if err := f.Keys.Replace(bytes.Repeat([]byte{3}, keyring.KeySize), first); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ResealCutoffs(t.Context()); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("without its key: %v", err)
	}
}

// Whatever goes on at the same time: who signed in before everyone was signed out
// is out, who signed in after it is in.
func TestRevokeEveryoneAmidLogins(t *testing.T) {
	f := newFixture(t, nil)
	a, b := f.cold(), f.cold()
	for round := range 20 {
		var before, during sync.Map
		var busy sync.WaitGroup
		stop := make(chan struct{})
		for i := range 4 {
			_, token := a.create(identity.Identity{Platform: "wechat", Program: "wxA", OpenID: fmt.Sprint(round, i)})
			before.Store(token, true)
			busy.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					user := identity.Identity{Platform: "wechat", Program: "wxA", OpenID: fmt.Sprint(round, i, n)}
					_, token, err := b.Create(t.Context(), session.Login{User: user})
					if err != nil {
						t.Error(err)
						return
					}
					during.Store(token, true)
				}
			})
		}
		a.revokeEveryone()
		_, after := b.create(alice)
		close(stop)
		busy.Wait()
		for _, node := range []*fixture{a, f.cold()} {
			before.Range(func(token, _ any) bool {
				if _, _, err := node.Validate(t.Context(), fmt.Sprint(token)); !errors.Is(err, session.ErrRevoked) {
					t.Errorf("signed in before: %v", err)
				}
				return true
			})
			during.Range(func(token, _ any) bool {
				if _, _, err := node.Validate(t.Context(), fmt.Sprint(token)); err != nil && !errors.Is(err, session.ErrRevoked) {
					t.Errorf("signed in meanwhile: %v", err)
				}
				return true
			})
			if _, _, err := node.Validate(t.Context(), after); err != nil {
				t.Errorf("signed in after: %v", err)
			}
		}
	}
}
