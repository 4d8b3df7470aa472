// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/minigate/minigate/module/store"
)

// wantKeys checks which keys Scan finds under prefix.
func wantKeys(t *testing.T, s store.Store, prefix string, want ...string) {
	t.Helper()
	got := slices.Sorted(maps.Keys(contents(t, s, prefix)))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("Scan(%q) finds %q, want %q", prefix, got, want)
	}
}

// scan checks prefixes with their neighbours in byte order, and that each key
// of a number that takes a store several steps is visited once.
func scan(t *testing.T, s store.Store) {
	wantKeys(t, s, "")
	wantKeys(t, s, "p/")
	all := []string{"p", "p.", "p/", "p/a", "p/a/b", "p/~", "p/~~", "p0", "o/a", "q", "P/a", "~", "~~", "!"}
	for _, key := range all {
		put(t, s, key, "value of "+key, 0)
	}
	wantKeys(t, s, "p/", "p/", "p/a", "p/a/b", "p/~", "p/~~")
	wantKeys(t, s, "p/a", "p/a", "p/a/b")
	wantKeys(t, s, "p/b")
	wantKeys(t, s, "~", "~", "~~")
	wantKeys(t, s, "~~~")
	wantKeys(t, s, "!", "!")
	wantKeys(t, s, strings.Repeat("~", 512))
	wantKeys(t, s, "", all...)
	for key, value := range contents(t, s, "") {
		if value != "value of "+key {
			t.Errorf("Scan reads %q as %q", key, value)
		}
	}

	var many []string
	for i := range 1500 {
		many = append(many, "many/"+strconv.Itoa(i))
	}
	putAll(t, s, many)
	wantKeys(t, s, "many/", many...)
}

// putAll puts keys from several goroutines, so that it takes no store long.
func putAll(t *testing.T, s store.Store, keys []string) {
	t.Helper()
	ctx := bounded(t)
	var wg sync.WaitGroup
	for part := range slices.Chunk(keys, max(1, len(keys)/32)) {
		wg.Go(func() {
			for _, key := range part {
				if err := s.Put(ctx, key, []byte(key), 0); err != nil {
					t.Errorf("Put(%q): %v", key, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// scanPrefixIsLiteral checks that no character of a prefix is a pattern.
func scanPrefixIsLiteral(t *testing.T, s store.Store) {
	for _, pattern := range []string{"a*b", "a?b", "a[x]b", "a[^y]b", `a\xb`, "a%b", "a_b", "a.b", "a.*", "(a)", "a{x}b", "^a", "$"} {
		put(t, s, pattern+"/1", "1", 0)
	}
	put(t, s, "axb/1", "matches most of these", 0)
	for _, pattern := range []string{"a*b", "a?b", "a[x]b", "a[^y]b", `a\xb`, "a%b", "a_b", "a.b", "a.*", "(a)", "a{x}b", "^a", "$"} {
		wantKeys(t, s, pattern, pattern+"/1")
	}
	wantKeys(t, s, "*")
	wantKeys(t, s, "a*/")
}

func scanExpired(t *testing.T, s store.Store) {
	for i := range 20 {
		put(t, s, "short/"+strconv.Itoa(i), "1", soon)
	}
	put(t, s, "short/stays", "1", late)
	put(t, s, "short/clock", "1", soon)
	wantGone(t, s, "short/clock")
	wantKeys(t, s, "short/", "short/stays")
	wantKeys(t, s, "", "short/stays")
}

func scanStops(t *testing.T, s store.Store) {
	for i := range 50 {
		put(t, s, "key/"+strconv.Itoa(i), "1", 0)
	}
	for _, after := range []int{1, 2, 50} {
		visits := 0
		err := s.Scan(bounded(t), "key/", func(store.Entry) error {
			if visits++; visits == after {
				return fmt.Errorf("visit %d: %w", visits, errRefused)
			}
			return nil
		})
		if !errors.Is(err, errRefused) {
			t.Errorf("Scan: error %v, want that of visit", err)
		}
		if visits != after {
			t.Errorf("Scan visits %d keys, want it to stop after %d", visits, after)
		}
	}
}

// scanWhileWriting checks that the keys nobody touches are visited once each
// while others come and go between them.
func scanWhileWriting(t *testing.T, s store.Store) {
	var still []string
	for i := range 400 {
		still = append(still, fmt.Sprintf("key/%03d", i))
	}
	putAll(t, s, still)
	ctx := bounded(t)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				key := fmt.Sprintf("key/%03d/%d", (i*37)%400, worker)
				if err := s.Put(ctx, key, make([]byte, i%500+1), 0); err != nil {
					t.Errorf("Put: %v", err)
					return
				}
				if err := s.Delete(ctx, key); err != nil {
					t.Errorf("Delete: %v", err)
					return
				}
			}
		})
	}
	for range 10 {
		found := contents(t, s, "key/")
		for _, key := range still {
			if found[key] != key {
				t.Errorf("Scan reads %q as %q while others are written", key, found[key])
			}
		}
	}
	close(done)
	wg.Wait()
	wantKeys(t, s, "key/", still...)
}

// scanVisitCallsStore checks that visit may use the store, to delete what it
// is shown for one.
func scanVisitCallsStore(t *testing.T, s store.Store) {
	var many []string
	for i := range 300 {
		many = append(many, fmt.Sprintf("key/%03d", i))
	}
	putAll(t, s, many)
	ctx := bounded(t)
	within(t, "Scan whose visit calls the store", func() {
		err := s.Scan(ctx, "key/", func(e store.Entry) error {
			key, value := e.Key, e.Value
			if _, err := s.Get(ctx, key); err != nil {
				return fmt.Errorf("getting %q: %w", key, err)
			}
			if err := s.Put(ctx, "moved"+key, value, 0); err != nil {
				return fmt.Errorf("putting: %w", err)
			}
			return s.Delete(ctx, key)
		})
		if err != nil {
			t.Errorf("Scan: %v", err)
		}
	})
	wantKeys(t, s, "key/")
	if found := contents(t, s, "moved"); len(found) != len(many) {
		t.Errorf("%d keys were moved, want %d", len(found), len(many))
	}
}
