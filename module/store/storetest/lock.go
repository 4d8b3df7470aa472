// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/minigate/minigate/module/store"
)

// watch checks how Watch begins and ends. What it reports takes two nodes, so
// that a store for several has to test it itself.
func watch(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- s.Watch(ctx, "key/", store.Observer{
			Started: func() { close(started) }, // panics if called twice
			Changed: func(string) {},
		})
	}()
	within(t, "Watch before it starts", func() { <-started })
	put(t, s, "key/1", "value", 0)
	select {
	case err := <-ended:
		t.Fatalf("Watch ends by itself: %v", err)
	default:
	}
	cancel()
	within(t, "Watch after its context is done", func() {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch: error %v, want that of its context", err)
		}
	})
}

// lock checks mutual exclusion with a counter that only the lock protects.
func lock(t *testing.T, s store.Store) {
	const holders, times = 64, 5
	ctx := bounded(t)
	counter, inside := 0, 0
	var wg sync.WaitGroup
	for range holders {
		wg.Go(func() {
			for range times {
				unlock, err := s.Lock(ctx, "lock")
				if err != nil {
					t.Errorf("Lock: %v", err)
					return
				}
				if inside++; inside != 1 {
					t.Error("two hold the lock")
				}
				runtime.Gosched()
				counter++
				inside--
				unlock()
			}
		})
	}
	wg.Wait()
	if counter != holders*times {
		t.Errorf("counted to %d, want %d", counter, holders*times)
	}
}

// lockCancelled checks that who gives up waiting gets the error of its
// context, and does not take the lock with it.
func lockCancelled(t *testing.T, s store.Store) {
	unlock, err := s.Lock(bounded(t), "lock")
	if err != nil {
		t.Fatalf("Lock: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	for range 8 {
		go func() {
			_, err := s.Lock(ctx, "lock")
			ended <- err
		}()
	}
	brief, cancelBrief := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancelBrief()
	if _, err := s.Lock(brief, "lock"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock after its deadline: error %v, want context.DeadlineExceeded", err)
	}
	cancel()
	for range 8 {
		within(t, "Lock with a cancelled context", func() {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("Lock: error %v, want context.Canceled", err)
			}
		})
	}
	unlock()
	for range 2 {
		unlock, err = s.Lock(bounded(t), "lock")
		if err != nil {
			t.Fatalf("the lock is lost with those who gave up: %v", err)
		}
		unlock()
	}
}

func lockNames(t *testing.T, s store.Store) {
	var unlocks []func()
	for _, name := range []string{"a", "b", "A", "a/b", "lock", visible} {
		unlock, err := s.Lock(bounded(t), name)
		if err != nil {
			t.Fatalf("Lock(%q) while others are held: %v", name, err)
		}
		unlocks = append(unlocks, unlock)
	}
	// A lock is not a key.
	wantMissing(t, s, "a")
	if found := contents(t, s, ""); len(found) != 0 {
		t.Errorf("Scan finds %q, which are locks", found)
	}
	for _, unlock := range unlocks {
		unlock()
	}
}

// lockOutlivesContext checks that a lock is held until it is unlocked, and can
// be unlocked, after the context it was taken with is done.
func lockOutlivesContext(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(bounded(t))
	unlock, err := s.Lock(ctx, "lock")
	if err != nil {
		t.Fatalf("Lock: %v", err)
	}
	cancel()
	brief, cancelBrief := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancelBrief()
	if _, err := s.Lock(brief, "lock"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock: error %v; it was held, and its holder's context is done", err)
	}
	within(t, "unlock after its context is done", unlock)
	unlock, err = s.Lock(bounded(t), "lock")
	if err != nil {
		t.Fatalf("Lock: %v", err)
	}
	unlock()
}
