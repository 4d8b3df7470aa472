// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package storetest is the conformance suite of stores: what passes it keeps
// the contract of package store, and the gateway works on it.
//
// A store runs it from its own tests:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { … })
//	}
//
// Run it with -race: several of its tests can only fail there.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/minigate/minigate/module/store"
)

// patience is how long a test waits for what must happen soon. It is far above
// what any store needs, so that a slow machine fails no test.
const patience = 30 * time.Second

// Run checks that the stores which open returns keep the contract of package
// store.
//
// open returns an open store that has no values. Each call returns one that
// shares no data with the others. Run closes it; what else belongs to it, open
// releases with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name  string
		check func(*testing.T, store.Store)
	}{
		{"PutGet", putGet},
		{"Delete", deletes},
		{"Keys", keys},
		{"KeysDifferInCase", keysDifferInCase},
		{"Values", values},
		{"ValueIsolation", valueIsolation},

		{"Expiry", expiry},
		{"ExpiryReplaced", expiryReplaced},
		{"ExpiryTiny", expiryTiny},
		{"ExpiryUpdate", expiryUpdate},
		{"ExpiryTold", expiryTold},

		{"Update", update},
		{"UpdateError", updateError},
		{"UpdateNil", updateNil},
		{"UpdateOld", updateOld},
		{"UpdatePanic", updatePanic},
		{"UpdateLosesNothing", updateLosesNothing},
		{"UpdateAgainstPutAndDelete", updateAgainstPutAndDelete},
		{"UpdateEndsWithCall", updateEndsWithCall},

		{"Scan", scan},
		{"ScanPrefixIsLiteral", scanPrefixIsLiteral},
		{"ScanExpired", scanExpired},
		{"ScanStops", scanStops},
		{"ScanWhileWriting", scanWhileWriting},
		{"ScanVisitCallsStore", scanVisitCallsStore},

		{"Watch", watch},
		{"Lock", lock},
		{"LockCancelled", lockCancelled},
		{"LockNames", lockNames},
		{"LockOutlivesContext", lockOutlivesContext},

		{"Cancelled", cancelled},
		{"Closed", closed},
		{"CloseWhileWaiting", closeWhileWaiting},
		{"CloseInTraffic", closeInTraffic},
		{"Mixed", mixed},
		{"Model", model},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() { _ = s.Close() })
			c.check(t, s)
		})
	}
}

// bounded returns a context for calls that must not take long, so that a store
// that hangs fails its test instead of the whole run.
func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// within fails the test if do does not return soon. For calls that have no
// context, or should have been woken by something other than theirs.
func within(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s hangs", what)
	}
}

// eventually waits until condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func put(t *testing.T, s store.Store, key, value string, ttl time.Duration) {
	t.Helper()
	if err := s.Put(bounded(t), key, []byte(value), ttl); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
}

func wantValue(t *testing.T, s store.Store, key, want string) {
	t.Helper()
	got, err := s.Get(bounded(t), key)
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	if !bytes.Equal(got, []byte(want)) {
		t.Fatalf("Get(%q) = %s, want %s", key, short(got), short([]byte(want)))
	}
}

func wantMissing(t *testing.T, s store.Store, key string) {
	t.Helper()
	if missing, err := isMissing(t, s, key); !missing {
		t.Fatalf("Get(%q): error %v, want ErrNotFound", key, err)
	}
}

// wantGone waits until key has expired.
func wantGone(t *testing.T, s store.Store, key string) {
	t.Helper()
	eventually(t, key+" expires", func() bool {
		missing, err := isMissing(t, s, key)
		if err != nil && !missing {
			t.Fatalf("Get(%q): %v", key, err)
		}
		return missing
	})
}

func isMissing(t testing.TB, s store.Store, key string) (bool, error) {
	value, err := s.Get(bounded(t), key)
	if errors.Is(err, store.ErrNotFound) && value != nil {
		t.Errorf("Get(%q) returns ErrNotFound together with a value", key)
	}
	return errors.Is(err, store.ErrNotFound), err
}

// contents returns all that Scan finds under prefix.
func contents(t testing.TB, s store.Store, prefix string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := s.Scan(bounded(t), prefix, func(e store.Entry) error {
		key, value := e.Key, e.Value
		if _, seen := found[key]; seen {
			return fmt.Errorf("key %q is visited twice", key)
		}
		found[key] = string(value)
		return nil
	})
	if err != nil {
		t.Fatalf("Scan(%q): %v", prefix, err)
	}
	return found
}

// short shows a value that may be long.
func short(value []byte) string {
	if len(value) <= 64 {
		return fmt.Sprintf("%q", value)
	}
	return fmt.Sprintf("%q… (%d bytes)", value[:32], len(value))
}
