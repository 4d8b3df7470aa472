// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/session"
)

const day = 24 * time.Hour

func (f *fixture) refresh(p *Profile) {
	f.tb.Helper()
	if err := f.Refresh(f.tb.Context(), alice.Subject(), p); err != nil {
		f.tb.Fatal(err)
	}
}

// sameBut compares profiles without the time when they end.
func sameBut(a, b *Profile) bool {
	x, y := *a, *b
	x.end, y.end = 0, 0
	return x == y
}

func TestRetention(t *testing.T) {
	f := newFixture(t, 10*day)
	made := f.change("s1", name("Al"))
	if ttl := time.Duration(f.store.ttl.Load()); ttl != 10*day {
		t.Errorf("the record lives for %s", ttl)
	}
	f.clock.advance(day)
	if f.Due(made) {
		t.Error("due with 90 % of its time left")
	}
	f.clock.advance(time.Second)
	if !f.Due(made) {
		t.Error("not due with less than 90 % of its time left")
	}
	f.refresh(made)
	kept := f.get()
	if !sameBut(kept, made) || f.Due(kept) {
		t.Errorf("after Refresh: %+v", kept)
	}
	// Requests that saw the old one do not write again.
	before := f.store.writes.Load()
	f.refresh(made)
	if f.store.writes.Load() != before {
		t.Error("the life of the profile was extended twice")
	}
	f.clock.advance(10*day - time.Second)
	if !f.get().kept() {
		t.Error("gone before its end")
	}
	f.clock.advance(time.Second)
	if p := f.get(); *p != (Profile{}) || f.raw() == nil {
		t.Errorf("at its end it is %+v", p)
	}
	f.refresh(kept)
	if f.get().kept() {
		t.Error("Refresh brought it back")
	}
	// Nothing of the old one is in the new one, though the store still has it.
	if p := f.change("s1", func(p *Profile) error { p.Stated.City = "x"; return nil }); p.Version != 1 || p.Stated.Nickname != "" {
		t.Errorf("the next profile: %+v", p)
	}
}

func TestChangeExtends(t *testing.T) {
	f := newFixture(t, 10*day)
	f.change("s1", name("Al"))
	f.clock.advance(9 * day)
	f.change("s1", name("Bo"))
	f.clock.advance(9 * day)
	if !f.get().kept() {
		t.Error("gone within its time from the last change")
	}
}

func TestRefreshOfWhatIsGone(t *testing.T) {
	f := newFixture(t, 10*day)
	made := f.change("s1", name("Al"))
	f.clock.advance(5 * day)
	f.erase("s1")
	f.refresh(made)
	if p := f.get(); p.kept() {
		t.Errorf("Refresh brought back what was erased: %+v", p)
	}
	if err := f.store.Delete(t.Context(), Key(alice.Subject())); err != nil {
		t.Fatal(err)
	}
	f.refresh(made)
	if f.raw() != nil {
		t.Error("Refresh made a record")
	}
	if f.Due(new(Profile)) || f.Due(&Profile{Version: 3}) {
		t.Error("nothing is due")
	}
}

func TestRefreshSealsAnew(t *testing.T) {
	f := newFixture(t, 10*day)
	made := f.change("s1", name("Al"))
	f.Keys = ring(t, 2, 1)
	f.clock.advance(5 * day)
	f.refresh(made)
	if !f.Keys.SealedByActive(f.raw()) || !sameBut(f.get(), made) {
		t.Errorf("%+v", f.get())
	}
}

// The time for which profiles are kept may be changed at any time.
func TestKeepIsChanged(t *testing.T) {
	for _, c := range []struct {
		before, after time.Duration
		due           bool
	}{
		{0, 0, false},
		{0, day, true},
		{day, 0, true},
		{day, day, false},
		{day, 2 * day, true},
		{2 * day, day, true},
		{time.Millisecond, time.Second, false},
	} {
		f := newFixture(t, c.before)
		made := f.change("s1", name("Al"))
		f.Keep = c.after
		if f.Due(made) != c.due {
			t.Errorf("from %s to %s: due is %v", c.before, c.after, !c.due)
		}
		f.refresh(made)
		if p := f.get(); f.Due(p) || !sameBut(p, made) {
			t.Errorf("from %s to %s: still due", c.before, c.after)
		}
		if ttl := time.Duration(f.store.ttl.Load()); c.due && ttl != c.after {
			t.Errorf("from %s to %s: the ttl is %s", c.before, c.after, ttl)
		}
	}
}

func TestSweepSealsAnew(t *testing.T) {
	f := newFixture(t, 10*day)
	subjects := make(map[string]*Profile)
	for i := range 5 {
		user := identity.Identity{Platform: "wechat", Program: "wxA", OpenID: fmt.Sprint("o", i)}
		p, err := f.Change(t.Context(), Author{user.Subject(), user, "s"}, name("Al"))
		if err != nil {
			t.Fatal(err)
		}
		subjects[user.Subject()] = p
	}
	f.erase("s1") // a tombstone
	foreign := session.RecordPrefix + alice.Subject()
	if err := f.store.Put(t.Context(), foreign, []byte("sessions"), 0); err != nil {
		t.Fatal(err)
	}
	f.sweep(0)
	f.Keys = ring(t, 2, 1)
	f.clock.advance(10 * time.Minute)
	f.sweep(6)
	if ttl := time.Duration(f.store.ttl.Load()); ttl != 10*day-10*time.Minute && ttl != 50*time.Minute {
		t.Errorf("a record that was sealed anew lives for %s", ttl)
	}
	f.sweep(0)
	f.Keys = ring(t, 2)
	for subject, want := range subjects {
		if p, err := f.Get(t.Context(), subject); err != nil || *p != *want {
			t.Errorf("%+v, %v, want %+v", p, err, want)
		}
	}
	if _, err := f.Change(t.Context(), author("s1"), name("ghost")); !errors.Is(err, ErrErased) {
		t.Errorf("the tombstone was lost: %v", err)
	}
	if value, err := f.store.Get(t.Context(), foreign); err != nil || string(value) != "sessions" {
		t.Errorf("the record of sessions is %q, %v", value, err)
	}
}

// Retention that is switched on must not delete at once the users who come every
// day and change nothing.
func TestSweepGivesEnds(t *testing.T) {
	f := newFixture(t, 0)
	made := f.change("s1", name("Al"))
	f.clock.advance(4 * day)
	f.Keep = 10 * day
	f.sweep(1)
	if ttl := time.Duration(f.store.ttl.Load()); ttl != 10*day || !sameBut(f.get(), made) {
		t.Errorf("it lives for %s", ttl)
	}
	f.Keep = 2 * day
	f.sweep(1)
	if ttl := time.Duration(f.store.ttl.Load()); ttl != 2*day {
		t.Errorf("kept for a shorter time it lives for %s", ttl)
	}
	f.Keep = 0
	f.sweep(1)
	if ttl := time.Duration(f.store.ttl.Load()); ttl != 0 || *f.get() != *made {
		t.Errorf("kept for good it lives for %s", ttl)
	}
	f.Keep = day
	f.sweep(1)
	if ttl := time.Duration(f.store.ttl.Load()); ttl != day {
		t.Errorf("kept for a day, four days after its last change, it lives for %s", ttl)
	}
	f.sweep(0)
}

// What is past its end is deleted, also if the store forgot to.
func TestSweepDeletes(t *testing.T) {
	f := newFixture(t, day)
	f.change("s1", name("Al"))
	f.clock.advance(day)
	f.sweep(1)
	if f.raw() != nil {
		t.Error("it is still there")
	}
	f.erase("s1")
	f.clock.advance(time.Hour)
	f.sweep(1)
	if f.raw() != nil {
		t.Error("the tombstone is still there")
	}
}

func TestSweepEnds(t *testing.T) {
	f := newFixture(t, 0)
	f.change("s1", name("Al"))
	f.Keys = ring(t, 2, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := f.Sweep(ctx); !errors.Is(err, context.Canceled) || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
	f.store.failing.Store(true)
	if n, err := f.Sweep(t.Context()); !errors.Is(err, errDown) || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
	f.store.failing.Store(false)
	f.sweep(1)
}
