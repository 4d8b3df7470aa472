// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
)

// keyClock is the time of gateways under test.
type keyClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *keyClock) get() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *keyClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// newKeyHolders returns gateways that share the keys of a store.
func newKeyHolders(t *testing.T, n int) ([]*assertionKeys, *keyClock) {
	t.Helper()
	st, ring := newSharedState(t)
	clock := &keyClock{now: time.Unix(1_800_000_000, 0)}
	holders := make([]*assertionKeys, n)
	for i := range holders {
		holders[i] = &assertionKeys{
			store: st.store, keys: ring, logger: zap.NewNop(), now: clock.get, gate: make(chan struct{}, 1),
			run: func(task func(context.Context)) bool { task(t.Context()); return true }, // at once
		}
	}
	return holders, clock
}

func currentKeys(t *testing.T, a *assertionKeys) *assertionKeySet {
	t.Helper()
	for range 2 { // what is read in the background is there the second time
		if _, err := a.current(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return a.known.Load()
}

func publishedIDs(t *testing.T, set *assertionKeySet) (ids []string) {
	t.Helper()
	var published struct {
		Keys []struct {
			ID string `json:"kid"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(set.published, &published); err != nil {
		t.Fatal(err)
	}
	for _, key := range published.Keys {
		ids = append(ids, key.ID)
	}
	return ids
}

// All gateways begin at once: they must agree on one key.
func TestAssertionKeyIsMadeOnce(t *testing.T) {
	holders, _ := newKeyHolders(t, 20)
	var busy sync.WaitGroup
	ids := make([]string, len(holders))
	for i, holder := range holders {
		busy.Go(func() {
			set, err := holder.current(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = set.signer(holder.now()).ID
		})
	}
	busy.Wait()
	if all := slices.Compact(slices.Sorted(slices.Values(ids))); len(all) != 1 {
		t.Errorf("%d keys", len(all))
	}
}

// An upstream reads the published keys every 15 minutes, from any gateway, and must
// be able to verify whatever any gateway signs, for as long as it is good. Over
// two months, key after key.
func TestAssertionKeysOverlap(t *testing.T) {
	holders, clock := newKeyHolders(t, 2)
	const step = 10 * time.Minute
	type signed struct {
		id    string
		until time.Time
	}
	var upstream []string
	var good []signed
	used := make(map[string]bool)
	for i := range int(65 * 24 * time.Hour / step) {
		now := clock.get()
		if i%2 == 0 { // the cache of the upstream is 20 minutes old at most
			upstream = publishedIDs(t, currentKeys(t, holders[i/2%2]))
		}
		for _, holder := range holders {
			id := currentKeys(t, holder).signer(now).ID
			used[id] = true
			good = append(good, signed{id, now.Add(longestAssertion)})
		}
		good = slices.DeleteFunc(good, func(s signed) bool { return s.until.Before(now) })
		for _, s := range good {
			if !slices.Contains(upstream, s.id) {
				t.Fatalf("after %s an upstream cannot verify", now.Sub(time.Unix(1_800_000_000, 0)))
			}
		}
		if len(upstream) > 3 {
			t.Fatalf("%d keys are published", len(upstream))
		}
		clock.add(step)
	}
	if len(used) != 3 {
		t.Errorf("%d keys in 65 days", len(used))
	}
}

// Replaced by hand, the key signs after an hour; a key that has leaked is gone at
// once, on all gateways within minutes.
func TestAssertionKeyIsRotated(t *testing.T) {
	holders, clock := newKeyHolders(t, 2)
	first := currentKeys(t, holders[0]).signer(clock.get()).ID
	next, err := holders[0].Rotate(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	clock.add(2 * time.Minute)
	for _, holder := range holders {
		set := currentKeys(t, holder)
		if ids := publishedIDs(t, set); !slices.Equal(ids, []string{first, next}) || set.signer(clock.get()).ID != first {
			t.Errorf("published %q", ids)
		}
	}
	clock.add(time.Hour)
	for _, holder := range holders {
		if set := currentKeys(t, holder); set.signer(clock.get()).ID != next {
			t.Error("the new key does not sign")
		}
	}
	clock.add(assertionKeyAfter)
	if ids := publishedIDs(t, currentKeys(t, holders[1])); !slices.Equal(ids, []string{next}) {
		t.Errorf("after all: published %q", ids)
	}
	leaked := next
	if next, err = holders[1].Rotate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	clock.add(assertionKeysFresh + time.Second)
	for _, holder := range holders {
		set := currentKeys(t, holder)
		if ids := publishedIDs(t, set); !slices.Equal(ids, []string{next}) || set.signer(clock.get()).ID == leaked {
			t.Errorf("published %q", ids)
		}
	}
}

// The store is down: what is signed goes on for minutes, and no gateway signs with
// a key that may be gone by then.
func TestAssertionKeysWithoutTheStore(t *testing.T) {
	holders, clock := newKeyHolders(t, 1)
	currentKeys(t, holders[0])
	if err := holders[0].store.Close(); err != nil {
		t.Fatal(err)
	}
	clock.add(assertionKeysStale - time.Second)
	if _, err := holders[0].current(t.Context()); err != nil {
		t.Error(err)
	}
	clock.add(2 * time.Second)
	if _, err := holders[0].current(t.Context()); err == nil {
		t.Error("keys of which nobody knows are used")
	}
}

// A record that somebody damaged is replaced; that of another place, too. One
// sealed with a key that only another gateway has is left alone.
func TestAssertionKeysThatCannotBeRead(t *testing.T) {
	holders, clock := newKeyHolders(t, 2)
	before := currentKeys(t, holders[0]).signer(clock.get()).ID
	foreign := newRing(t, "z")
	sealed, err := foreign.Seal([]byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	put := func(value []byte) {
		t.Helper()
		if err := holders[0].store.Put(t.Context(), assertionKeysKey, value, 0); err != nil {
			t.Fatal(err)
		}
		clock.add(assertionKeysStale + time.Second)
	}
	holders[0].keys.SetElsewhere(foreign.IDs())
	put(sealed)
	if _, err := holders[1].current(t.Context()); err == nil {
		t.Error("the record of another gateway is replaced")
	}
	own, err := holders[0].keys.Seal([]byte(`{"key":"user/x","keys":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range [][]byte{own, []byte("damaged")} {
		put(value)
		if id := currentKeys(t, holders[1]).signer(clock.get()).ID; id == before {
			t.Error("the same key")
		}
	}
}
