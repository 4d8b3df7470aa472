// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/session"
)

// keys returns the session keys that are stored for a user.
func (f *fixture) keys(subject string) string {
	f.t.Helper()
	keys, err := f.StoredKeys(f.t.Context(), subject)
	if err != nil {
		f.t.Fatal(err)
	}
	return join(keys)
}

func join(keys []session.PlatformKey) string {
	var names []string
	for _, key := range keys {
		names = append(names, key.Key)
	}
	return strings.Join(names, " ")
}

// The platform replaces its session key when the user signs in again; data that
// the phone encrypted before may arrive after.
func TestPlatformKeys(t *testing.T) {
	f := newFixture(t, nil)
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
		if _, _, err := f.Create(t.Context(), session.Login{User: alice, PlatformKey: step.key}); err != nil {
			t.Fatal(err)
		}
		if got := f.keys(alice.Subject()); got != step.want {
			t.Errorf("after %q: keys are %q, want %q", step.key, got, step.want)
		}
	}
	if keys := f.keys("nobody"); keys != "" {
		t.Errorf("keys of nobody: %q", keys)
	}
}

// A page decrypts a lot: the keys are read once. When another sign-in brings a new
// one, every session of the user knows it at once.
func TestPlatformKeysOfASession(t *testing.T) {
	f := newFixture(t, nil)
	_, token := f.create(alice)
	keysOf := func() string {
		t.Helper()
		s, _, err := f.Validate(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := f.PlatformKeys(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return join(keys)
	}
	if got := keysOf(); got != "platform-key" {
		t.Fatalf("keys are %q", got)
	}
	for _, key := range []string{"k1", "k2"} {
		if _, _, err := f.Create(t.Context(), session.Login{User: alice, PlatformKey: key}); err != nil {
			t.Fatal(err)
		}
		if got := keysOf(); !strings.HasPrefix(got, key) {
			t.Errorf("after %s: keys are %q", key, got)
		}
	}
	f.clock.advance(6 * time.Minute) // kept with the session, and too old all the same
	if got := keysOf(); got != "k2" {
		t.Errorf("after a while: keys are %q", got)
	}
}

// What the platform says of a key is noted, and a key that it does not know is
// not used again.
func TestPlatformKeyIsVouchedDroppedReplaced(t *testing.T) {
	f := newFixture(t, nil)
	for _, key := range []string{"k1", "k2"} {
		if _, _, err := f.Create(t.Context(), session.Login{User: alice, PlatformKey: key}); err != nil {
			t.Fatal(err)
		}
	}
	subject := alice.Subject()
	f.clock.advance(time.Minute)
	if err := f.VouchKey(t.Context(), subject, "k2"); err != nil {
		t.Fatal(err)
	}
	keys, err := f.StoredKeys(t.Context(), subject)
	if err != nil || !keys[0].Vouched.Equal(f.clock.now()) || keys[1].Vouched.Equal(f.clock.now()) {
		t.Errorf("keys are %v, %v", keys, err)
	}
	for _, step := range []struct {
		change func() error
		want   string
	}{
		{func() error { return f.ReplaceKey(t.Context(), subject, "k2", "k3") }, "k3"}, // what leaked is of no use
		{func() error { return f.ReplaceKey(t.Context(), subject, "gone", "k4") }, "k3"},
		{func() error { return f.LearnKey(t.Context(), subject, "k5") }, "k5 k3"},
		{func() error { return f.LearnKey(t.Context(), subject, "k5") }, "k5 k3"},
		{func() error { return f.LearnKey(t.Context(), subject, "") }, "k5 k3"},
		{func() error { return f.DropKey(t.Context(), subject, "gone") }, "k5 k3"},
		{func() error { return f.VouchKey(t.Context(), subject, "gone") }, "k5 k3"},
		{func() error { return f.DropKey(t.Context(), "nobody", "k1") }, "k5 k3"},
		{func() error { return f.LearnKey(t.Context(), "nobody", "k1") }, "k5 k3"},
		{func() error { return f.DropKey(t.Context(), subject, "k5") }, ""}, // those before it are older still
	} {
		if err := step.change(); err != nil {
			t.Fatal(err)
		}
		if got := f.keys(subject); got != step.want {
			t.Errorf("keys are %q, want %q", got, step.want)
		}
	}
}

// Data-protection law: what is kept can be told, and erased. The tokens of who is
// erased are revoked all the same, not forgotten.
func TestDescribeAndErase(t *testing.T) {
	f := newFixture(t, nil)
	subject := alice.Subject()
	if d, err := f.Describe(t.Context(), subject); d != nil || err != nil {
		t.Fatalf("of nobody: %v, %v", d, err)
	}
	if ended, err := f.Erase(t.Context(), subject); len(ended) != 0 || err != nil {
		t.Fatalf("erasing nobody: %v, %v", ended, err)
	}
	s, token, err := f.Create(t.Context(), session.Login{User: alice, PlatformKey: "k1"})
	if err != nil {
		t.Fatal(err)
	}
	if keys := f.keys("nobody"); keys != "" {
		t.Errorf("somebody who is not signed in has keys: %s", keys)
	}
	d, err := f.Describe(t.Context(), subject)
	if err != nil || d.Identity != alice || len(d.Sessions) != 1 || d.Sessions[0].ID != s.ID || d.PlatformKeys != 1 {
		t.Errorf("description is %+v, %v", d, err)
	}
	ended, err := f.Erase(t.Context(), subject)
	if err != nil || len(ended) != 1 || ended[0] != s.ID {
		t.Errorf("ended %q, %v", ended, err)
	}
	f.expect(token, session.ErrRevoked)
	if d, err = f.Describe(t.Context(), subject); err != nil || d.Identity != (identity.Identity{}) || len(d.Sessions) != 0 || d.PlatformKeys != 0 {
		t.Errorf("what is left: %+v, %v", d, err)
	}
	_, again := f.create(alice)
	f.expect(again, nil)
}
