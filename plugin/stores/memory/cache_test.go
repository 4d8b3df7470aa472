// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/module/store"
	"github.com/minigate/minigate/module/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s, err := new(Opener).Open(t.Context())
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		return s
	})
}

// TestRefusedInput checks that what the contract excludes is refused, by every
// method, and stores nothing.
func TestRefusedInput(t *testing.T) {
	c := newCache()
	defer c.Close()
	ctx := context.Background()
	change := func([]byte) ([]byte, time.Duration, error) { return []byte("value"), 0, nil }
	for _, key := range []string{"", strings.Repeat("k", 513), "with space", "nul\x00", "del\x7f", "用户", "\n"} {
		if _, err := c.Get(ctx, key); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("Get(%q): error %v", key, err)
		}
		if err := c.Put(ctx, key, []byte("value"), 0); err == nil {
			t.Errorf("Put(%q): no error", key)
		}
		if err := c.Update(ctx, key, change); err == nil {
			t.Errorf("Update(%q): no error", key)
		}
		if err := c.Delete(ctx, key); err == nil {
			t.Errorf("Delete(%q): no error", key)
		}
	}
	huge := make([]byte, 1<<20+1)
	if err := c.Put(ctx, "key", huge, 0); err == nil {
		t.Error("Put of more than 1 MiB: no error")
	}
	err := c.Update(ctx, "key", func([]byte) ([]byte, time.Duration, error) { return huge, 0, nil })
	if err == nil {
		t.Error("Update to more than 1 MiB: no error")
	}
	if _, err := c.Get(ctx, "key"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get: error %v, want ErrNotFound", err)
	}
}

// TestWaitForWriterEndsWithContext checks that a change that takes long holds
// up nobody beyond his deadline.
func TestWaitForWriterEndsWithContext(t *testing.T) {
	c := newCache()
	defer c.Close()
	entered, leave, left := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		left <- c.Update(context.Background(), "key", func([]byte) ([]byte, time.Duration, error) {
			close(entered)
			<-leave
			return []byte("value"), 0, nil
		})
	}()
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := c.Put(ctx, "key", []byte("other"), 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Put: error %v, want context.DeadlineExceeded", err)
	}
	close(leave)
	if err := <-left; err != nil {
		t.Errorf("Update: %v", err)
	}
	if value, err := c.Get(context.Background(), "key"); string(value) != "value" {
		t.Errorf("Get = %q, error %v", value, err)
	}
}

// TestSweep checks that what has expired leaves the memory without anybody
// asking for it, and that nothing else does.
func TestSweep(t *testing.T) {
	c := newCache()
	defer c.Close()
	ctx := context.Background()
	for i := range 1000 {
		ttl := time.Duration(0)
		if i%2 == 0 {
			ttl = 1
		}
		if err := c.Put(ctx, fmt.Sprint("key/", i), []byte("value"), ttl); err != nil {
			t.Fatalf("Put: %v", err)
		}
	}
	c.sweeper.Go(func() { c.sweep(10 * time.Microsecond) }) // a second, faster one
	count := func() (n int) {
		for i := range c.shards {
			n += c.shards[i].records.ItemCount()
		}
		return n
	}
	for deadline := time.Now().Add(10 * time.Second); count() != 500; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d records in memory, want 500", count())
		}
	}
}

// TestOneGoroutine checks that a store has one goroutine, and none once it is
// closed.
func TestOneGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	caches := make([]*cache, 10)
	for i := range caches {
		caches[i] = newCache()
	}
	if n := runtime.NumGoroutine() - before; n > len(caches) {
		t.Errorf("%d stores have %d goroutines", len(caches), n)
	}
	for _, c := range caches {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	c := newCache()
	defer c.Close()
	ctx := context.Background()
	if err := c.Put(ctx, "key", make([]byte, 400), time.Hour); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Get(ctx, "key"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	c := newCache()
	defer c.Close()
	ctx, value := context.Background(), make([]byte, 400)
	keys := make([]string, 1<<16)
	for i := range keys {
		keys[i] = fmt.Sprint("session/", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := c.Put(ctx, keys[i%len(keys)], value, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}
