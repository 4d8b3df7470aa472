// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/minigate/minigate/module/store"
)

// RunDurable checks that a store which promises to survive its process keeps
// values, ttls and deletions from one opening to the next.
//
// open opens the store that belongs to dir, which is empty at first. It is
// called again with the same dir after the store was closed.
func RunDurable(t *testing.T, open func(t *testing.T, dir string) store.Store) {
	for _, c := range []struct {
		name  string
		check func(*testing.T, *reopener)
	}{
		{"Kept", kept},
		{"ExpiryKept", expiryKept},
		{"AcknowledgedBeforeClose", acknowledgedBeforeClose},
		{"ReopenModel", reopenModel},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			r := &reopener{open: func() store.Store { return open(t, dir) }}
			r.Store = r.open()
			t.Cleanup(func() { _ = r.Close() })
			c.check(t, r)
		})
	}
}

// reopener is a store that can be closed and opened again.
type reopener struct {
	store.Store
	open func() store.Store
}

func (r *reopener) reopen(t interface{ Fatalf(string, ...any) }) {
	if err := r.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	r.Store = r.open()
}

func kept(t *testing.T, r *reopener) {
	want := make(map[string]string)
	var all []string
	for i := range 1000 {
		key := fmt.Sprintf("key/%d", i)
		all = append(all, key)
		want[key] = key
	}
	putAll(t, r, all)
	for round := range 3 {
		for i := round; i < len(all); i += 7 {
			key := all[i]
			var err error
			switch i % 3 {
			case 0:
				want[key] += "-" + strconv.Itoa(round)
				err = r.Put(bounded(t), key, []byte(want[key]), 0)
			case 1:
				delete(want, key)
				err = r.Delete(bounded(t), key)
			case 2:
				want[key] += "+"
				err = r.Update(bounded(t), key, func([]byte) ([]byte, ttl, error) {
					return []byte(want[key]), late, nil
				})
			}
			if err != nil {
				t.Fatalf("writing %q: %v", key, err)
			}
		}
		r.reopen(t)
		found := contents(t, r, "key/")
		for key, value := range want {
			if found[key] != value {
				t.Fatalf("%q is %q after reopening, want %q", key, found[key], value)
			}
		}
		if len(found) != len(want) {
			t.Fatalf("%d keys after reopening, want %d", len(found), len(want))
		}
	}
	largest := string(make([]byte, 1<<20))
	put(t, r, "largest", largest, 0)
	r.reopen(t)
	wantValue(t, r, "largest", largest)
}

func expiryKept(t *testing.T, r *reopener) {
	put(t, r, "before", "1", soon)
	put(t, r, "stays", "1", late)
	put(t, r, "freed", "1", soon)
	put(t, r, "freed", "2", 0)
	wantGone(t, r, "before")
	begin := time.Now()
	put(t, r, "meanwhile", "1", soon)
	if err := r.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	eventually(t, "the ttl is over", func() bool { return time.Since(begin) > soon+rounding })
	r.Store = r.open()
	wantMissing(t, r, "before")
	wantMissing(t, r, "meanwhile")
	wantKeys(t, r, "", "stays", "freed")

	put(t, r, "after", "1", soon)
	r.reopen(t)
	wantGone(t, r, "after")
	wantValue(t, r, "stays", "1")
	wantValue(t, r, "freed", "2")
}

// acknowledgedBeforeClose closes the store under load and looks for what it
// acknowledged until then.
func acknowledgedBeforeClose(t *testing.T, r *reopener) {
	const writers, enough = 16, 20
	acknowledged := make([]int, writers)
	var running, ended sync.WaitGroup
	for w := range writers {
		running.Add(1)
		ended.Go(func() {
			for n := 0; ; n++ {
				if n == enough {
					running.Done()
				}
				key := fmt.Sprintf("key/%d/%d", w, n)
				if err := r.Put(context.Background(), key, []byte(key), 0); err != nil {
					acknowledged[w] = n
					return
				}
			}
		})
	}
	within(t, "traffic", running.Wait)
	within(t, "Close under load", func() { _ = r.Close() })
	within(t, "Put while the store is closed", ended.Wait)
	r.Store = r.open()
	found := contents(t, r, "key/")
	for w, n := range acknowledged {
		for i := range n {
			if key := fmt.Sprintf("key/%d/%d", w, i); found[key] != key {
				t.Errorf("%s was acknowledged, and is %q after reopening", key, found[key])
			}
		}
	}
}

// reopenModel is model with reopening as one of the operations.
func reopenModel(t *testing.T, r *reopener) {
	runModel(t,
		func(*rapid.T) store.Store { return r.Store },
		func(rt *rapid.T) { r.reopen(rt) })
}
