// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package avatar

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/minigate/minigate/module/store"
)

// The largest picture that Normalize makes fits into a store, sealed.
func TestLargestFits(t *testing.T) {
	k := newInStore(t, day, newClock())
	for what, p := range map[string]Picture{
		"noise as a JPEG": normalize(t, asPNG(t, noise(side, side, 255))),
		"PNG of 256 KiB":  {typePNG, bytes.Repeat([]byte{1}, maxPNG)},
	} {
		name := NewName(p)
		if err := k.Put(t.Context(), name, p); err != nil {
			t.Errorf("%s of %d bytes: %v", what, len(p.Data), err)
		}
		expect(t, k, name, &p)
	}
}

// Whoever reads the store sees no picture, and whoever writes to it cannot give
// one user the face of another.
func TestStoreIsNotTrusted(t *testing.T) {
	c := newClock()
	k := newInStore(t, 0, c)
	name, other := keepOne(t, k), keepOne(t, k)
	sealed, err := k.store.Get(t.Context(), storePrefix+name)
	do(t, err)
	if bytes.Contains(sealed, []byte("pixels")) || bytes.Contains(sealed, []byte(name)) {
		t.Error("the record can be read")
	}
	seal := func(plain string) []byte {
		b, err := k.keys.Seal([]byte(plain))
		do(t, err)
		return b
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-8] ^= 1
	stranger, err := ring(t, 9).Seal([]byte(`{"v":1,"name":"` + other + "\"}\nx"))
	do(t, err)
	for what, value := range map[string][]byte{
		"another picture":    sealed,
		"a bit changed":      changed,
		"not sealed":         sample.Data,
		"nothing":            {},
		"another kind":       seal(`{"v":1,"name":"` + other + `"}`),
		"another kind, line": seal("null\n" + other),
		"no pixels":          seal(`{"v":1,"name":"` + other + "\"}\n"),
		"a later format":     seal(`{"v":2,"name":"` + other + "\"}\nx"),
		"a stranger's":       stranger,
	} {
		do(t, k.store.Put(t.Context(), storePrefix+other, value, 0))
		if p, err := k.Get(t.Context(), other); !errors.Is(err, errUnreadable) || p.Data != nil {
			t.Errorf("%s: Get returns %v, %v", what, p, err)
		}
		if err := k.Refresh(t.Context(), other); !errors.Is(err, errUnreadable) {
			t.Errorf("%s: Refresh: %v", what, err)
		}
		if err := k.Sweep(t.Context()); !errors.Is(err, errUnreadable) {
			t.Errorf("%s: Sweep: %v", what, err)
		}
		if left, err := k.store.Get(t.Context(), storePrefix+other); err != nil || !bytes.Equal(left, value) {
			t.Errorf("%s: it was replaced", what)
		}
	}
	do(t, k.Delete(t.Context(), other))
	expect(t, k, other, nil)
	expect(t, k, name, &sample)
}

// ttlStore remembers the last ttl, and counts writes.
type ttlStore struct {
	store.Store
	ttl    time.Duration
	writes int
}

func (s *ttlStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	s.ttl = ttl
	s.writes++
	return s.Store.Put(ctx, key, value, ttl)
}

func (s *ttlStore) Update(ctx context.Context, key string, change store.Change) error {
	return s.Store.Update(ctx, key, func(old []byte) ([]byte, time.Duration, error) {
		value, ttl, err := change(old)
		if err == nil {
			s.ttl = ttl
			s.writes++
		}
		return value, ttl, err
	})
}

func TestSweepSealsAnew(t *testing.T) {
	c := newClock()
	k := newInStore(t, 10*day, c)
	s := &ttlStore{Store: k.store}
	k.store = s
	name := keepOne(t, k)
	do(t, k.Sweep(t.Context()))
	if s.writes != 1 || s.ttl != 10*day {
		t.Errorf("%d writes, ttl %s", s.writes, s.ttl)
	}
	k.keys = ring(t, 2, 1)
	c.advance(3 * day)
	do(t, k.Sweep(t.Context()))
	if s.writes != 2 || s.ttl != 7*day {
		t.Errorf("%d writes, ttl %s", s.writes, s.ttl)
	}
	k.keys = ring(t, 2)
	do(t, k.Sweep(t.Context()))
	expect(t, k, name, &sample)
	if s.writes != 2 {
		t.Errorf("%d writes", s.writes)
	}
}

func TestRefreshIsCheap(t *testing.T) {
	c := newClock()
	k := newInStore(t, 10*day, c)
	s := &ttlStore{Store: k.store}
	k.store = s
	name := keepOne(t, k)
	c.advance(day)
	do(t, k.Refresh(t.Context(), name))
	if s.writes != 1 {
		t.Error("it was written with 90 % of its time left")
	}
	c.advance(time.Second)
	do(t, k.Refresh(t.Context(), name))
	do(t, k.Refresh(t.Context(), name))
	if s.writes != 2 || s.ttl != 10*day {
		t.Errorf("%d writes, ttl %s", s.writes, s.ttl)
	}
}

// The retention may be changed at any time.
func TestKeepIsChanged(t *testing.T) {
	for _, c := range []struct{ before, after, swept, refreshed time.Duration }{
		{0, 10 * day, 10 * day, 10 * day},
		{10 * day, 0, 0, 0},
		{10 * day, 20 * day, 10 * day, 20 * day}, // as it was, until it is used
		{10 * day, 5 * day, 5 * day, 5 * day},
	} {
		clock := newClock()
		k := newInStore(t, c.before, clock)
		s := &ttlStore{Store: k.store}
		k.store = s
		name := keepOne(t, k)
		clock.advance(3 * day)
		k.keep = c.after
		do(t, k.Sweep(t.Context()))
		if s.ttl != c.swept {
			t.Errorf("from %s to %s: swept, %d writes, ttl %s", c.before, c.after, s.writes, s.ttl)
		}
		k.keep = c.before
		do(t, k.Put(t.Context(), name, sample))
		k.keep = c.after
		do(t, k.Refresh(t.Context(), name))
		if s.ttl != c.refreshed {
			t.Errorf("from %s to %s: refreshed, ttl %s", c.before, c.after, s.ttl)
		}
		expect(t, k, name, &sample)
	}
}

// The store's failure is never taken for an absent picture.
func TestStoreClosed(t *testing.T) {
	k := newInStore(t, day, newClock())
	name := keepOne(t, k)
	do(t, k.store.Close())
	for call, err := range map[string]error{
		"Put": k.Put(t.Context(), name, sample), "Delete": k.Delete(t.Context(), name),
		"Refresh": k.Refresh(t.Context(), name), "Sweep": k.Sweep(t.Context()),
		"Get": func() error { _, err := k.Get(t.Context(), name); return err }(),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: %v", call, err)
		}
	}
}
