// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/minigate/minigate/module/store"
	"github.com/minigate/minigate/module/store/storetest"
)

// openTest opens the store at path, and closes it with the test.
func openTest(t testing.TB, path string, o options) *boltStore {
	t.Helper()
	s, err := openBolt(context.Background(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// newPath is the path of a file that does not exist.
func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "sessions.db") }

// until waits for a condition that has to come true soon.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func mustPut(t *testing.T, s store.Store, key, value string, ttl time.Duration) {
	t.Helper()
	if err := s.Put(context.Background(), key, []byte(value), ttl); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
}

func wantValue(t *testing.T, s store.Store, key, want string) {
	t.Helper()
	if got, err := s.Get(context.Background(), key); err != nil || string(got) != want {
		t.Fatalf("Get(%q) = %.40q, error %v, want %.40q", key, got, err, want)
	}
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openTest(t, newPath(t), options{}) })
}

func TestDurable(t *testing.T) {
	storetest.RunDurable(t, func(t *testing.T, dir string) store.Store {
		return openTest(t, filepath.Join(dir, "sessions.db"), options{})
	})
}

// TestSweepingAllTheTime runs the suite with a sweeper that never rests, so that it
// meets every other operation.
func TestSweepingAllTheTime(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return openTest(t, newPath(t), options{sweepEvery: 1, sweepPause: 1})
	})
}

func TestRefusedInput(t *testing.T) {
	s := openTest(t, newPath(t), options{})
	ctx := context.Background()
	change := func([]byte) ([]byte, time.Duration, error) { return []byte("value"), 0, nil }
	for _, key := range []string{"", strings.Repeat("k", 513), "with space", "nul\x00", "del\x7f", "用户", "\n"} {
		if _, err := s.Get(ctx, key); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("Get(%q): error %v", key, err)
		}
		if err := s.Put(ctx, key, []byte("value"), 0); err == nil {
			t.Errorf("Put(%q): no error", key)
		}
		if err := s.Update(ctx, key, change); err == nil {
			t.Errorf("Update(%q): no error", key)
		}
		if err := s.Delete(ctx, key); err == nil {
			t.Errorf("Delete(%q): no error", key)
		}
	}
	huge := make([]byte, store.MaxValue+1)
	if err := s.Put(ctx, "key", huge, 0); err == nil {
		t.Error("Put of more than 1 MiB: no error")
	}
	err := s.Update(ctx, "key", func([]byte) ([]byte, time.Duration, error) { return huge, 0, nil })
	if err == nil {
		t.Error("Update to more than 1 MiB: no error")
	}
	if _, err := s.Get(ctx, "key"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get: error %v, want ErrNotFound", err)
	}
}

// clock is a time that tests set.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.nanos.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

func TestExpiryByClock(t *testing.T) {
	c, path := newClock(), newPath(t)
	s := openTest(t, path, options{now: c.now})
	mustPut(t, s, "key", "value", time.Minute)
	c.advance(time.Minute - 1)
	wantValue(t, s, "key", "value")
	c.advance(1)
	if _, err := s.Get(context.Background(), "key"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get when the ttl is over: error %v", err)
	}
	// It is still in the file: a clock that is set back brings it back, and
	// nothing else does.
	c.advance(-1)
	wantValue(t, s, "key", "value")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.advance(1)
	s = openTest(t, path, options{now: c.now})
	if _, err := s.Get(context.Background(), "key"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get after reopening: error %v", err)
	}
}

// inFile counts the records in the file, expired ones too.
func inFile(t *testing.T, s *boltStore) (n int) {
	t.Helper()
	err := s.view(context.Background(), func(records *bolt.Bucket) error {
		return records.ForEach(func(_, _ []byte) error {
			n++
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSweep checks that the sweeper removes what has expired, all of it and
// nothing else, in steps that are bounded.
func TestSweep(t *testing.T) {
	c := newClock()
	s := openTest(t, newPath(t), options{now: c.now, sweepEvery: time.Hour})
	const n = 3*sweepRecords + 17
	for i := range n {
		ttl := time.Duration(0)
		if i%3 > 0 {
			ttl = time.Minute
		}
		record, err := newRecord([]byte("value"), ttl, c.now())
		if err != nil {
			t.Fatal(err)
		}
		key := fmt.Appendf(nil, "key/%04d", i)
		go s.write(context.Background(), 0, func(records *bolt.Bucket) (bool, error) {
			return true, records.Put(key, record)
		})
	}
	until(t, "all is written", func() bool { return inFile(t, s) == n })
	sweepAll := func() (removed, steps int) {
		var from []byte
		for steps == 0 || from != nil {
			r, next, err := s.sweepStep(from)
			if err != nil {
				t.Fatal(err)
			}
			if r > sweepRecords {
				t.Errorf("one step removes %d records", r)
			}
			removed, from = removed+r, next
			steps++
		}
		return removed, steps
	}
	if removed, steps := sweepAll(); removed != 0 || steps != 4 {
		t.Errorf("removed %d in %d steps before anything expired", removed, steps)
	}
	c.advance(time.Minute)
	mustPut(t, s, "key/0001", "again", time.Minute)
	if removed, _ := sweepAll(); removed != n*2/3-1 {
		t.Errorf("removed %d, want %d", removed, n*2/3-1)
	}
	wantValue(t, s, "key/0001", "again")
	if left := inFile(t, s); left != n-n*2/3+1 {
		t.Errorf("%d records are left, want %d", left, n-n*2/3+1)
	}
	if removed, _ := sweepAll(); removed != 0 {
		t.Errorf("removed %d more", removed)
	}
}

// TestSweeperGoesOn checks the goroutine: it comes round by itself.
func TestSweeperGoesOn(t *testing.T) {
	s := openTest(t, newPath(t), options{sweepEvery: time.Millisecond, sweepPause: time.Millisecond})
	for round := range 3 {
		mustPut(t, s, fmt.Sprint("short/", round), "value", 1)
		mustPut(t, s, fmt.Sprint("stays/", round), "value", time.Hour)
		until(t, "what expired is removed", func() bool { return inFile(t, s) == round+1 })
	}
}

// TestGoroutines checks that Close leaves none behind.
func TestGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		s := openTest(t, newPath(t), options{})
		mustPut(t, s, "key", "value", 0)
		if n := runtime.NumGoroutine() - before; n > 2 {
			t.Errorf("a store has %d goroutines, want a writer and a sweeper", n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}
