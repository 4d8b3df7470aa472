// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestErase(t *testing.T) {
	f := newFixture(t, 0)
	f.change("s1", func(p *Profile) error {
		p.Avatar, p.Stated.Nickname, p.Verified.PhoneNumber = "picture.png", "Al", "1358"
		return nil
	})
	if avatar := f.erase("s1"); avatar != "picture.png" {
		t.Errorf("the picture is %q", avatar)
	}
	if p := f.get(); *p != (Profile{Version: 2}) {
		t.Errorf("after the erasure: %+v", p)
	}
	if ttl := time.Duration(f.store.ttl.Load()); ttl != time.Hour {
		t.Errorf("the tombstone lives for %s", ttl)
	}
	if avatar := f.erase("s1"); avatar != "" {
		t.Errorf("erased again, the picture is %q", avatar)
	}
	if len(f.changed) != 3 {
		t.Errorf("%d writes told", len(f.changed))
	}
	// The user is back.
	p := f.change("s2", name("Bo"))
	if p.Version != 4 || p.Stated.Nickname != "Bo" || p.Verified.PhoneNumber != "" || p.Avatar != "" {
		t.Errorf("the new profile: %+v", p)
	}
}

// T: a PUT was let in, then the user has his data erased, then the PUT writes.
func TestEraseDuringPut(t *testing.T) {
	f := newFixture(t, 0)
	late := func() error {
		_, err := f.Change(t.Context(), author("s1"), name("ghost"))
		return err
	}
	f.erase("s1", "s2") // of a user without a profile, too
	if err := late(); !errors.Is(err, ErrErased) {
		t.Errorf("a change after the erasure: %v", err)
	}
	if f.get().kept() {
		t.Error("the profile is back")
	}
	// The user signs in again and has a new profile before the old PUT comes.
	f.change("s3", name("Al"))
	if err := late(); !errors.Is(err, ErrErased) || f.get().Stated.Nickname != "Al" {
		t.Errorf("a change after a new beginning: %v", err)
	}
	// Another erasure does not forget the first one.
	f.erase("s3")
	if err := late(); !errors.Is(err, ErrErased) {
		t.Errorf("a change after two erasures: %v", err)
	}
	f.clock.advance(time.Hour - time.Second)
	if err := late(); !errors.Is(err, ErrErased) {
		t.Errorf("a change after an hour less a second: %v", err)
	}
	f.clock.advance(time.Second)
	if p := f.get(); *p != (Profile{}) {
		t.Errorf("after an hour: %+v", p)
	}
	if err := late(); err != nil {
		t.Errorf("a change after an hour: %v", err)
	}
}

// What an erasure leaves does not grow without end, nor does an empty id stop
// those who have none.
func TestTombstoneIsSmall(t *testing.T) {
	f := newFixture(t, 0)
	for i := range 3 {
		var sessions []string
		for j := range 60 {
			sessions = append(sessions, fmt.Sprint("s", i, "-", j), "")
		}
		f.erase(sessions...)
	}
	rec, err := openRecord(f.Keys, alice.Subject(), f.raw(), f.clock.Load())
	if err != nil || len(rec.Ended.Sessions) != tombstoneSessions {
		t.Fatalf("%+v, %v", rec, err)
	}
	for id, want := range map[string]bool{"s2-59": true, "s1-20": true, "s1-19": false, "s0-0": false, "": false} {
		if rec.endedSession(id) != want {
			t.Errorf("session %q is remembered: %v", id, !want)
		}
	}
}

// Whichever comes first, the profile is gone in the end.
func TestEraseAndChangeAtOnce(t *testing.T) {
	f := newFixture(t, 0)
	for i := range 30 {
		session := fmt.Sprint("s", i)
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				<-begin
				if _, err := f.Change(t.Context(), author(session), func(p *Profile) error {
					p.Stated.City += "x"
					return nil
				}); err != nil && !errors.Is(err, ErrErased) {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			<-begin
			if _, err := f.Erase(t.Context(), alice.Subject(), []string{session}); err != nil {
				t.Error(err)
			}
		})
		close(begin)
		wg.Wait()
		if p := f.get(); p.kept() || p.Stated.City != "" {
			t.Fatalf("the profile is back: %+v", p)
		}
	}
}

// A profile of few minutes still leaves a tombstone for an hour.
func TestTombstoneOutlivesProfile(t *testing.T) {
	f := newFixture(t, time.Minute)
	f.erase("s1")
	f.change("s2", name("Al"))
	if ttl := time.Duration(f.store.ttl.Load()); ttl != time.Hour {
		t.Errorf("the record lives for %s", ttl)
	}
	f.clock.advance(2 * time.Minute)
	if p := f.get(); *p != (Profile{Version: 2}) {
		t.Errorf("after two minutes: %+v", p)
	}
	if _, err := f.Change(t.Context(), author("s1"), name("ghost")); !errors.Is(err, ErrErased) {
		t.Errorf("error %v", err)
	}
}
