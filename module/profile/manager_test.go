// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/store"
)

func TestGetOfNobody(t *testing.T) {
	f := newFixture(t, 0)
	if p := f.get(); *p != (Profile{}) {
		t.Errorf("%+v", p)
	}
}

func TestChangeThatChangesNothing(t *testing.T) {
	f := newFixture(t, time.Hour)
	nothing := func(*Profile) error { return nil }
	if p := f.change("s1", nothing); *p != (Profile{}) || f.raw() != nil {
		t.Errorf("of nothing came %+v", p)
	}
	made := f.change("s1", name("Al"))
	f.clock.advance(time.Minute)
	for what, change := range map[string]func(*Profile) error{
		"nothing": nothing,
		"same":    name("Al"),
		"another location of the same time": func(p *Profile) error {
			p.VerifiedAt = p.VerifiedAt.In(time.FixedZone("", 3600))
			return nil
		},
	} {
		before := f.store.writes.Load()
		if p := f.change("s1", change); *p != *made || f.store.writes.Load() != before {
			t.Errorf("%s: %+v, %d writes", what, p, f.store.writes.Load()-before)
		}
	}
	if len(f.changed) != 1 {
		t.Errorf("%d changes told", len(f.changed))
	}
}

// If-Match: two devices change what they saw at version 1; the second is told.
func TestConflict(t *testing.T) {
	f := newFixture(t, 0)
	errConflict := errors.New("version conflict")
	f.change("s1", name("first"))
	ifMatch := func(version int64, nickname string) error {
		_, err := f.Change(t.Context(), author("s1"), func(p *Profile) error {
			if p.Version != version {
				return errConflict
			}
			return name(nickname)(p)
		})
		return err
	}
	if err := ifMatch(1, "phone"); err != nil {
		t.Error(err)
	}
	if err := ifMatch(1, "tablet"); !errors.Is(err, errConflict) {
		t.Errorf("error %v", err)
	}
	if p := f.get(); p.Version != 2 || p.Stated.Nickname != "phone" {
		t.Errorf("%+v", p)
	}
}

// No change is lost, whoever else makes one at the same time.
func TestConcurrentChanges(t *testing.T) {
	f := newFixture(t, 0)
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if _, err := f.Change(t.Context(), author("s1"), func(p *Profile) error {
					p.Stated.City += "x"
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if p := f.get(); p.Version != writers*each || len(p.Stated.City) != writers*each {
		t.Errorf("version %d, %d changes", p.Version, len(p.Stated.City))
	}
}

// A client that goes away does not stop what it asked for.
func TestClientGoesAway(t *testing.T) {
	f := newFixture(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Change(ctx, author("s1"), name("Al")); err != nil || f.get().Version != 1 {
		t.Errorf("Change: %v", err)
	}
	if _, err := f.Get(ctx, alice.Subject()); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if _, err := f.Erase(ctx, alice.Subject(), nil); err != nil || f.get().kept() {
		t.Errorf("Erase: %v", err)
	}
}

func TestStoreDown(t *testing.T) {
	f := newFixture(t, 0)
	f.change("s1", func(p *Profile) error {
		p.Avatar = "picture.png"
		return nil
	})
	f.store.failing.Store(true)
	if p, err := f.Get(t.Context(), alice.Subject()); !errors.Is(err, errDown) || p != nil {
		t.Errorf("Get: %v, %v", p, err)
	}
	if p, err := f.Change(t.Context(), author("s1"), name("Al")); !errors.Is(err, errDown) || p != nil {
		t.Errorf("Change: %v, %v", p, err)
	}
	if len(f.changed) != 1 {
		t.Error("a write was told that was never made")
	}
	f.store.failing.Store(false)
	// The write was made, but the answer got lost.
	f.store.unsure.Store(true)
	if avatar, err := f.Erase(t.Context(), alice.Subject(), nil); !errors.Is(err, errDown) || avatar != "picture.png" {
		t.Errorf("Erase: %q, %v", avatar, err)
	}
	if len(f.changed) != 2 {
		t.Error("a write that may have been made was not told")
	}
}

// Whoever reads the store learns nothing: neither from the record nor from the
// tombstone.
func TestNothingInClear(t *testing.T) {
	f := newFixture(t, 0)
	info := identity.UserInfo{
		Nickname: "PLANTED-nickname", AvatarURL: "https://PLANTED.example/", Gender: "female", Country: "PLANTED-country",
		Province: "PLANTED-province", City: "PLANTED-city", Language: "PLANTED", Email: "PLANTED@example.com",
		PhoneNumber: "13580006666", CountryCode: "86",
	}
	planted := []string{"PLANTED", "female", "13580006666", alice.OpenID, alice.UnionID, "session-of-alice", "nickname"}
	f.change("session-of-alice", func(p *Profile) error {
		p.Verified, p.Stated, p.Avatar = info, info, "PLANTED.png"
		return nil
	})
	look := func(state string) {
		t.Helper()
		records := 0
		err := f.store.Scan(t.Context(), "", func(e store.Entry) error {
			key, value := e.Key, e.Value
			records++
			for _, s := range planted {
				if strings.Contains(key, s) || bytes.Contains(value, []byte(s)) {
					t.Errorf("%s: %q stands in the store", state, s)
				}
			}
			return nil
		})
		if err != nil || records != 1 {
			t.Errorf("%s: %d records, error %v", state, records, err)
		}
	}
	look("a profile")
	f.erase("session-of-alice")
	look("a tombstone")
	plain, err := f.Keys.Open(f.raw())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append(planted[:5], "PLANTED.png", "wxA") {
		if bytes.Contains(plain, []byte(s)) {
			t.Errorf("%q stands in the tombstone, under the seal: %s", s, plain)
		}
	}
}

// An error says nothing of the user, for it ends in the log.
func TestErrorsShowNoData(t *testing.T) {
	f := newFixture(t, 0)
	f.put(map[string]any{"v": 1, "key": Key(alice.Subject()), "version": "PLANTED"})
	_, err := f.Get(t.Context(), alice.Subject())
	if !errors.Is(err, ErrDamaged) || strings.Contains(fmt.Sprint(err), "PLANTED") || strings.Contains(err.Error(), alice.Subject()) {
		t.Errorf("error %v", err)
	}
}
