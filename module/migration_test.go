// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/migrate"
	"github.com/minigate/minigate/module/session"
	"github.com/minigate/minigate/module/store"
)

// A configuration with the other store is loaded while the one before still serves:
// what one of them says of a session, the other says from then on, whichever wrote
// it, and also where the store tells neither of them.
func TestBothConfigurationsSayTheSame(t *testing.T) {
	for name, second := range map[string]string{"same configuration": "there", "another way to it": "there by another name"} {
		t.Run(name, func(t *testing.T) {
			here, there, keys := newRecords(t), newRecords(t), newRing(t, "m")
			before := mustLoad(t, way{here, "here"}, keys)
			alice, bob, carol := before.signIn("alice"), before.signIn("bob"), before.signIn("carol")
			if err := before.migrateTo(way{there, "there"}); err != nil {
				t.Fatal(err)
			}
			after := mustLoad(t, way{there, second}, keys)
			if before.phase() != "moved" {
				t.Fatalf("phase %s", before.phase())
			}
			dave, erin := before.signIn("dave"), after.signIn("erin")
			for range 2 { // the second time from memory, where that is allowed
				for _, token := range []string{alice, bob, carol, dave, erin} {
					before.is(token, nil)
					after.is(token, nil)
				}
			}
			after.signOut(alice)
			before.is(alice, session.ErrRevoked)
			before.signOut(bob)
			after.is(bob, session.ErrRevoked)
			if err := before.RevokeProgram(t.Context(), "wechat", "wxA"); err != nil {
				t.Fatal(err)
			}
			after.is(carol, session.ErrRevoked)
			after.is(erin, session.ErrRevoked)
			frank := before.signIn("frank")
			before.unload()
			after.is(frank, nil)
			after.unload()
			if here.opened.Load() != 0 || there.opened.Load() != 0 {
				t.Errorf("open are %d and %d", here.opened.Load(), there.opened.Load())
			}
		})
	}
}

// The new configuration is given up, once while it is about to come back.
func TestSourceReturns(t *testing.T) {
	here, there, keys := newRecords(t), newRecords(t), newRing(t, "m")
	before := mustLoad(t, way{here, "here"}, keys)
	alice, bob := before.signIn("alice"), before.signIn("bob")
	if err := before.migrateTo(way{there, "there"}); err != nil {
		t.Fatal(err)
	}
	after := mustLoad(t, way{there, "there"}, keys)
	carol := after.signIn("carol")
	after.signOut(alice)
	here.down.Store(true) // it cannot return yet
	after.unload()
	waitFor(t, "it returns", func() bool { return before.phase() == "returning" })
	before.is(carol, nil)
	before.is(alice, session.ErrRevoked)

	after = mustLoad(t, way{there, "there"}, keys)
	if before.phase() != "moved" {
		t.Errorf("phase %s", before.phase())
	}
	dave := after.signIn("dave")
	here.down.Store(false)
	after.unload()
	waitFor(t, "it has returned", func() bool { return before.phase() == "following" })
	erin := before.signIn("erin")
	for range 2 {
		before.is(bob, nil)
		before.is(carol, nil)
		before.is(dave, nil)
		before.is(alice, session.ErrRevoked)
	}
	waitFor(t, "it is warm again", func() bool {
		before.is(bob, nil)
		_, warm, err := before.Validate(t.Context(), bob)
		return warm && err == nil
	})
	before.unload()

	for _, w := range []way{{here, "here"}, {there, "there"}} { // both have everything
		alone := mustLoad(t, w, keys)
		for _, token := range []string{bob, carol, dave, erin} {
			alone.is(token, nil)
		}
		alone.is(alice, session.ErrRevoked)
		alone.unload()
	}
}

// A configuration must not begin with half of the sessions: not while they are
// copied, not when following has broken, not with a key that opens none.
func TestNoConfigurationBeginsWithAPart(t *testing.T) {
	here, there, keys := newRecords(t), newRecords(t), newRing(t, "m")
	before := mustLoad(t, way{here, "here"}, keys)
	defer before.unload()
	alice := before.signIn("alice")
	refuses := func(what string, keys *keyring.Ring, want error) {
		t.Helper()
		for _, name := range []string{"there", "there by another name"} {
			if errors.Is(want, errBroken) && name != "there" {
				continue // it is not open any more
			}
			l, err := load(t, way{there, name}, keys)
			if err == nil {
				l.unload()
			}
			if !errors.Is(err, want) {
				t.Errorf("%s, %s: error %v", what, name, err)
			}
		}
		before.is(alice, nil)
	}
	// It stands still at the first record.
	ctx, cancel := context.WithCancel(t.Context())
	reached := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		_, err := before.state.migrate(ctx, migrationOrder{
			opener: way{there, "there"}, from: "here", to: "there",
			check: func(ctx context.Context, _ store.Store) error {
				close(reached)
				<-ctx.Done()
				return ctx.Err()
			},
		})
		ended <- err
	}()
	<-reached
	l, err := load(t, way{there, "there"}, keys)
	if !errors.Is(err, errIncomplete) {
		t.Errorf("while it is copied: %v", err)
	}
	if err == nil {
		l.unload()
	}
	if err := before.migrateTo(way{newRecords(t), "elsewhere"}); !errors.Is(err, errMigrating) {
		t.Errorf("a second one: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || before.phase() != "broken" {
		t.Errorf("interrupted: %v, phase %s", err, before.phase())
	}
	refuses("interrupted", keys, errBroken)

	if err := before.migrateTo(way{there, "there"}); err != nil {
		t.Fatal(err)
	}
	refuses("another key", newRing(t, "x"), errOtherSealKey)
	if before.phase() != "following" {
		t.Errorf("phase %s", before.phase())
	}
	if err := before.migrateTo(way{newRecords(t), "elsewhere"}); !errors.Is(err, errOtherMigration) {
		t.Errorf("to another place: %v", err)
	}
	there.down.Store(true)
	bob := before.signIn("bob")
	waitFor(t, "it breaks", func() bool { return before.phase() == "broken" })
	there.down.Store(false)
	refuses("broken", keys, errBroken)
	if m := before.migration().status(); !strings.Contains(m.Error, errPlaceDown.Error()) {
		t.Errorf("status %+v", m)
	}
	if err := before.migrateTo(way{there, "there"}); err != nil {
		t.Fatal(err)
	}
	after := mustLoad(t, way{there, "there"}, keys)
	after.is(alice, nil)
	after.is(bob, nil)
	if err := before.stopMigration(); !errors.Is(err, errHasMoved) {
		t.Errorf("stopping: %v", err)
	}
	if err := before.migrateTo(way{there, "there"}); !errors.Is(err, errHasMoved) {
		t.Errorf("once more: %v", err)
	}
	after.unload()
}

// An operator stops it, and nothing stays open, held or running; a store that
// this process has open already is left alone.
func TestMigrationIsStopped(t *testing.T) {
	here, there, keys := newRecords(t), newRecords(t), newRing(t, "m")
	before := mustLoad(t, way{here, "here"}, keys)
	defer before.unload()
	if err := before.stopMigration(); err != nil || before.phase() != "none" {
		t.Errorf("nothing to stop: %v", err)
	}
	goroutines := 0
	for round := range 20 {
		if round == 1 {
			goroutines = goruntime.NumGoroutine()
		}
		if err := before.migrateTo(way{there, "there"}); err != nil {
			t.Fatal(err)
		}
		if err := before.migrateTo(way{there, "there"}); err != nil { // again
			t.Fatal(err)
		}
		if err := before.stopMigration(); err != nil || before.phase() != "none" {
			t.Errorf("stopping: %v, phase %s", err, before.phase())
		}
	}
	if there.opened.Load() != 0 {
		t.Errorf("it is still open %d times", there.opened.Load())
	}
	waitFor(t, "all goroutines end", func() bool { return goruntime.NumGoroutine() < goroutines+10 })
	other := mustLoad(t, way{there, "there"}, keys)
	if err := before.migrateTo(way{there, "there"}); !errors.Is(err, errOpenHere) {
		t.Errorf("to a store in use: %v", err)
	}
	if err := before.migrateTo(way{here, "here by another name"}); !errors.Is(err, migrate.ErrSame) {
		t.Errorf("to itself: %v", err)
	}
	other.unload()
	migrations.Lock()
	defer migrations.Unlock()
	if n := len(migrations.all); n > 1 {
		t.Errorf("%d migrations are remembered", n)
	}
}

// The gateway is stopped while it copies.
func TestStateEndsWhileItIsCopied(t *testing.T) {
	here, there, keys := newRecords(t), newRecords(t), newRing(t, "m")
	before := mustLoad(t, way{here, "here"}, keys)
	for i := range 2000 {
		if err := before.store.Put(t.Context(), fmt.Sprint("padding/", i), []byte("x"), 0); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- before.migrateTo(way{there, "there"}) }()
	waitFor(t, "it is under way", func() bool { return there.opened.Load() > 0 })
	before.unload()
	<-ended
	if here.opened.Load() != 0 || there.opened.Load() != 0 {
		t.Errorf("open are %d and %d", here.opened.Load(), there.opened.Load())
	}
	if err := before.migrateTo(way{there, "there"}); err == nil {
		t.Error("a state that has ended is copied")
	}
	migrations.Lock()
	defer migrations.Unlock()
	for _, m := range migrations.all {
		if m.source == before.state {
			t.Errorf("a migration is remembered, in phase %s", m.phase)
		}
	}
}
