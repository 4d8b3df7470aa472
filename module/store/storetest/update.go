// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minigate/minigate/module/store"
)

// errRefused is what a change returns that wants nothing changed.
var errRefused = errors.New("change refuses")

func update(t *testing.T, s store.Store) {
	for i, want := range []string{"1", "11", "111"} { // the first one creates
		err := s.Update(bounded(t), "key", func(old []byte) ([]byte, ttl, error) {
			if i == 0 && old != nil {
				return nil, 0, errors.New("change is called with a value where there is none")
			}
			return append(old, '1'), 0, nil
		})
		if err != nil {
			t.Fatalf("Update: %v", err)
		}
		wantValue(t, s, "key", want)
	}
	wantMissing(t, s, "key1")
}

func updateError(t *testing.T, s store.Store) {
	for _, refusal := range []error{
		errRefused,
		fmt.Errorf("wrapping: %w", errRefused),
		errors.Join(errors.New("other"), errRefused),
	} {
		put(t, s, "key", "value", 0)
		for _, key := range []string{"key", "absent"} {
			err := s.Update(bounded(t), key, func([]byte) ([]byte, ttl, error) {
				return []byte("not this"), 0, refusal
			})
			if !errors.Is(err, errRefused) {
				t.Errorf("Update: error %v, want one that is that of change", err)
			}
		}
		wantValue(t, s, "key", "value")
		wantMissing(t, s, "absent")
	}
	// ErrNotFound is an error like any other when change returns it.
	err := s.Update(bounded(t), "absent", func([]byte) ([]byte, ttl, error) {
		return nil, 0, store.ErrNotFound
	})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Update: error %v, want ErrNotFound", err)
	}
}

func updateNil(t *testing.T, s store.Store) {
	put(t, s, "key", "value", late)
	for range 2 { // the second time there is nothing to delete
		err := s.Update(bounded(t), "key", func([]byte) ([]byte, ttl, error) {
			return nil, late, nil
		})
		if err != nil {
			t.Fatalf("Update: %v", err)
		}
		wantMissing(t, s, "key")
		if found := contents(t, s, ""); len(found) != 0 {
			t.Errorf("Scan finds %v after the only key is deleted", found)
		}
	}
}

// updateOld checks that change sees what was written last, by whichever method.
func updateOld(t *testing.T, s store.Store) {
	sees := func(want string, present bool) {
		t.Helper()
		var seen []byte
		err := s.Update(bounded(t), "key", func(old []byte) ([]byte, ttl, error) {
			seen = append([]byte(nil), old...)
			if (old != nil) != present {
				return nil, 0, fmt.Errorf("old is nil: %t", old == nil)
			}
			return nil, 0, errRefused
		})
		if !errors.Is(err, errRefused) {
			t.Fatalf("Update: %v", err)
		}
		if string(seen) != want {
			t.Errorf("change sees %q, want %q", seen, want)
		}
	}
	sees("", false)
	put(t, s, "key", "put", 0)
	sees("put", true)
	if err := s.Update(bounded(t), "key", func([]byte) ([]byte, ttl, error) { return []byte("updated"), 0, nil }); err != nil {
		t.Fatalf("Update: %v", err)
	}
	sees("updated", true)
	if err := s.Delete(bounded(t), "key"); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	sees("", false)
}

// updatePanic checks that a change that panics changes nothing and harms no
// other call. Whether the caller sees an error or the panic is the store's
// choice.
func updatePanic(t *testing.T, s store.Store) {
	put(t, s, "key", "value", 0)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			defer func() { _ = recover() }()
			err := s.Update(bounded(t), "key", func([]byte) ([]byte, ttl, error) { panic("change panics") })
			if err == nil {
				t.Error("Update returns no error though change panicked")
			}
		})
		wg.Go(func() {
			if err := s.Put(bounded(t), "neighbour"+strconv.Itoa(i), []byte("1"), 0); err != nil {
				t.Errorf("Put beside a change that panics: %v", err)
			}
		})
	}
	within(t, "Update with a change that panics", wg.Wait)
	wantValue(t, s, "key", "value")
	put(t, s, "key", "next", 0)
	wantValue(t, s, "key", "next")
}

// updateLosesNothing counts with many goroutines on one key.
func updateLosesNothing(t *testing.T, s store.Store) {
	const writers, increments = 64, 32
	ctx := bounded(t)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range increments {
				if err := s.Update(ctx, "counter", increment); err != nil {
					t.Errorf("Update: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	wantValue(t, s, "counter", strconv.Itoa(writers*increments))
}

func increment(old []byte) ([]byte, ttl, error) {
	n := 0
	if old != nil {
		var err error
		if n, err = strconv.Atoi(string(old)); err != nil {
			return nil, 0, err
		}
	}
	return strconv.AppendInt(nil, int64(n+1), 10), 0, nil
}

// updateAgainstPutAndDelete has one goroutine put and delete values with
// growing numbers while others update them. An update that is not one step
// brings back a number that was replaced or deleted.
func updateAgainstPutAndDelete(t *testing.T, s store.Store) {
	const rounds, updaters = 100, 8
	ctx := bounded(t)
	var put, deleted atomic.Int64 // the highest number known to be put, or deleted
	var ended atomic.Bool
	var wg sync.WaitGroup
	for range updaters {
		wg.Go(func() {
			for !ended.Load() {
				atLeast, above := put.Load(), deleted.Load()
				err := s.Update(ctx, "key", func(old []byte) ([]byte, ttl, error) {
					if old == nil {
						return nil, 0, nil
					}
					n, err := strconv.ParseInt(string(old), 10, 64)
					if err != nil {
						return nil, 0, err
					}
					if n < atLeast || n <= above {
						return nil, 0, fmt.Errorf("found %d after %d was put and %d deleted", n, atLeast, above)
					}
					return old, 0, nil
				})
				if err != nil {
					t.Errorf("Update: %v", err)
					return
				}
			}
		})
	}
	for n := int64(1); n <= rounds; n++ {
		if err := s.Put(ctx, "key", strconv.AppendInt(nil, n, 10), 0); err != nil {
			t.Errorf("Put: %v", err)
			break
		}
		put.Store(n)
		if n%2 == 1 {
			continue // the next Put replaces this one
		}
		if err := s.Delete(ctx, "key"); err != nil {
			t.Errorf("Delete: %v", err)
			break
		}
		deleted.Store(n)
	}
	ended.Store(true)
	wg.Wait()
	wantMissing(t, s, "key")
}

// updateEndsWithCall checks that change is not called after Update has
// returned, however it came to return: change uses the caller's variables. The
// race detector sees what this test does not.
func updateEndsWithCall(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := range 32 {
				patience := time.Duration(worker*i) * 10 * time.Microsecond
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				calls, returned := 0, false
				err := s.Update(ctx, "key", func(old []byte) ([]byte, ttl, error) {
					if returned {
						t.Error("change is called after Update returned")
					}
					calls++
					return increment(old)
				})
				returned = true
				if err == nil && calls == 0 {
					t.Error("Update returns without calling change")
				}
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Update: error %v, want that of its context", err)
				}
				cancel()
			}
		})
	}
	within(t, "Update with a deadline", wg.Wait)
}
