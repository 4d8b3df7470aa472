// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/minigate/minigate/module/store"
)

type ttl = time.Duration

const (
	// soon is a ttl that the tests wait for.
	soon = 150 * time.Millisecond
	// rounding is by how much a store may cut a ttl short: clocks and
	// protocols count in milliseconds.
	rounding = 10 * time.Millisecond
	// lag is how long the answer of a store that counts time left may be under way.
	lag = time.Second
	// late is a ttl that no test lives to see the end of.
	late = time.Hour
	// forever is a ttl at the limit of the type. It must not overflow.
	forever = 1<<63 - 1
)

// expiry checks that a value is there until its ttl is over, and not after.
func expiry(t *testing.T, s store.Store) {
	put(t, s, "stays", "1", late)
	put(t, s, "stays-longest", "2", 0)
	put(t, s, "forever", "3", forever)
	begin := time.Now()
	put(t, s, "key", "4", soon)
	if value, err := s.Get(bounded(t), "key"); err == nil && string(value) != "4" {
		t.Errorf("Get = %q", value)
	} else if err != nil && time.Since(begin) < soon-rounding {
		t.Errorf("Get: %v, %v after the value was put", err, time.Since(begin))
	}
	wantGone(t, s, "key")
	if lived := time.Since(begin); lived < soon-rounding {
		t.Errorf("a value lived for %v, its ttl is %v", lived, soon)
	}
	wantValue(t, s, "stays", "1")
	wantValue(t, s, "stays-longest", "2")
	wantValue(t, s, "forever", "3")

	put(t, s, "key", "again", 0)
	wantValue(t, s, "key", "again")
}

// expiryReplaced checks that each Put sets the end of its own value.
func expiryReplaced(t *testing.T, s store.Store) {
	put(t, s, "freed", "1", soon)
	put(t, s, "freed", "2", 0)
	put(t, s, "prolonged", "1", soon)
	put(t, s, "prolonged", "2", late)
	put(t, s, "bound", "1", 0)
	put(t, s, "bound", "2", soon)
	put(t, s, "cut-short", "1", late)
	put(t, s, "cut-short", "2", soon)
	put(t, s, "recreated", "1", soon)
	if err := s.Delete(bounded(t), "recreated"); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	put(t, s, "recreated", "2", 0)

	put(t, s, "clock", "x", soon) // the last to be put, so the last to end
	wantGone(t, s, "clock")
	wantGone(t, s, "bound")
	wantGone(t, s, "cut-short")
	wantValue(t, s, "freed", "2")
	wantValue(t, s, "prolonged", "2")
	wantValue(t, s, "recreated", "2")
}

// expiryTiny checks that a ttl below what the store counts in is not mistaken
// for none, and is no error.
func expiryTiny(t *testing.T, s store.Store) {
	for _, tiny := range []ttl{1, time.Microsecond, time.Millisecond - 1, time.Millisecond} {
		put(t, s, "key", "before", 0)
		put(t, s, "key", "after", tiny)
		wantGone(t, s, "key")

		put(t, s, "key", "before", 0)
		err := s.Update(bounded(t), "key", func([]byte) ([]byte, ttl, error) {
			return []byte("after"), tiny, nil
		})
		if err != nil {
			t.Fatalf("Update with ttl %v: %v", tiny, err)
		}
		wantGone(t, s, "key")
	}
}

// expiryUpdate checks that Update sets the ttl that change returns, keeps that
// of a value it leaves, and takes an expired value for none.
func expiryUpdate(t *testing.T, s store.Store) {
	set := func(key, value string, d ttl) {
		t.Helper()
		err := s.Update(bounded(t), key, func([]byte) ([]byte, ttl, error) {
			return []byte(value), d, nil
		})
		if err != nil {
			t.Fatalf("Update(%q): %v", key, err)
		}
	}
	leave := func(key string) {
		t.Helper()
		err := s.Update(bounded(t), key, func([]byte) ([]byte, ttl, error) {
			return []byte("not this"), late, errRefused
		})
		if !errors.Is(err, errRefused) {
			t.Fatalf("Update(%q): error %v, want that of change", key, err)
		}
	}
	put(t, s, "freed", "1", soon)
	set("freed", "2", 0)
	set("bound", "1", late)
	set("bound", "2", soon)
	put(t, s, "left", "1", soon)
	leave("left")
	put(t, s, "left-without", "1", 0)
	leave("left-without")
	put(t, s, "expired", "1", soon)

	put(t, s, "clock", "x", soon)
	wantGone(t, s, "clock")
	wantGone(t, s, "bound")
	wantGone(t, s, "left")
	wantGone(t, s, "expired")
	wantValue(t, s, "freed", "2")
	wantValue(t, s, "left-without", "1")

	err := s.Update(bounded(t), "expired", func(old []byte) ([]byte, ttl, error) {
		if old != nil {
			return nil, 0, errors.New("change is called with an expired value")
		}
		return []byte("new"), 0, nil
	})
	if err != nil {
		t.Errorf("Update: %v", err)
	}
	wantValue(t, s, "expired", "new")
}

// expiryTold checks that Lookup and Scan tell until when a value is there: a copy
// of a store must not sign anybody out early, nor keep anybody for ever.
func expiryTold(t *testing.T, s store.Store) {
	begin := time.Now()
	for key, d := range map[string]ttl{"hour": late, "minute": time.Minute, "soon": soon, "stays": 0, "below": -1} {
		put(t, s, key, "first", d)
	}
	for key, d := range map[string]ttl{"freed": 0, "bound": time.Minute, "cut-short": time.Minute} {
		put(t, s, key, "first", late)
		err := s.Update(bounded(t), key, func([]byte) ([]byte, ttl, error) { return []byte("second"), d, nil })
		if err != nil {
			t.Fatalf("Update(%q): %v", key, err)
		}
	}
	put(t, s, "forever", "first", forever)
	took := time.Since(begin)
	scanned := make(map[string]store.Entry)
	if err := s.Scan(bounded(t), "", func(e store.Entry) error {
		scanned[e.Key] = e
		return nil
	}); err != nil {
		t.Fatalf("Scan: %v", err)
	}
	for key, want := range map[string]ttl{
		"hour": late, "minute": time.Minute, "stays": 0, "below": 0, "freed": 0, "bound": time.Minute, "cut-short": time.Minute,
	} {
		for call, e := range map[string]store.Entry{"Lookup": lookup(t, s, key), "Scan": scanned[key]} {
			got := e.Expires.Sub(begin)
			switch {
			case want == 0 && !e.Expires.IsZero():
				t.Errorf("%s(%q) says that it expires in %v", call, key, got)
			case want != 0 && (e.Expires.IsZero() || got < want-rounding || got > want+took+lag):
				t.Errorf("%s(%q) says that it expires %v after it was put, not %v", call, key, got, want)
			}
			if e.Key != key || string(e.Value) != string(lookup(t, s, key).Value) {
				t.Errorf("%s(%q) is %q with %s", call, key, e.Key, short(e.Value))
			}
		}
	}
	if e := lookup(t, s, "forever"); !e.Expires.IsZero() && e.Expires.Before(begin.AddDate(50, 0, 0)) {
		t.Errorf("Lookup says that the longest ttl ends at %v", e.Expires)
	}
	wantGone(t, s, "soon")
	for _, missing := range []string{"soon", "never-there"} {
		if e, err := s.Lookup(bounded(t), missing); !errors.Is(err, store.ErrNotFound) || e.Value != nil {
			t.Errorf("Lookup(%q) = %+v, error %v, want ErrNotFound", missing, e, err)
		}
	}
	for _, key := range []string{"", "with space", "ünicode"} {
		if _, err := s.Lookup(bounded(t), key); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("Lookup(%q): error %v, want one about the key", key, err)
		}
	}
}

func lookup(t *testing.T, s store.Store, key string) store.Entry {
	t.Helper()
	e, err := s.Lookup(bounded(t), key)
	if err != nil {
		t.Fatalf("Lookup(%q): %v", key, err)
	}
	return e
}
