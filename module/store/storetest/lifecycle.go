// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minigate/minigate/module/store"
)

// call is one call of each method, for what they have in common.
type call struct {
	name string
	do   func(ctx context.Context, s store.Store) error
}

var calls = []call{
	{"Get", func(ctx context.Context, s store.Store) error {
		_, err := s.Get(ctx, "key")
		return err
	}},
	{"Lookup", func(ctx context.Context, s store.Store) error {
		_, err := s.Lookup(ctx, "key")
		return err
	}},
	{"Put", func(ctx context.Context, s store.Store) error {
		return s.Put(ctx, "key", []byte("value"), 0)
	}},
	{"Update", func(ctx context.Context, s store.Store) error {
		return s.Update(ctx, "key", func([]byte) ([]byte, ttl, error) { return []byte("value"), 0, nil })
	}},
	{"Delete", func(ctx context.Context, s store.Store) error {
		return s.Delete(ctx, "key")
	}},
	{"Scan", func(ctx context.Context, s store.Store) error {
		return s.Scan(ctx, "", func(store.Entry) error { return nil })
	}},
	{"Watch", func(ctx context.Context, s store.Store) error {
		return s.Watch(ctx, "", ignore)
	}},
	{"Lock", func(ctx context.Context, s store.Store) error {
		unlock, err := s.Lock(ctx, "lock")
		if err == nil {
			unlock()
		}
		return err
	}},
}

// ignore is an observer that does not care.
var ignore = store.Observer{Started: func() {}, Changed: func(string) {}}

// cancelled checks that every method returns the error of a context that is
// done, and that the store works on afterwards.
func cancelled(t *testing.T, s store.Store) {
	put(t, s, "other", "value", 0)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	late, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	for _, c := range calls {
		within(t, c.name+" with a context that is done", func() {
			if err := c.do(gone, s); !errors.Is(err, context.Canceled) {
				t.Errorf("%s with a cancelled context: error %v, want context.Canceled", c.name, err)
			}
			if err := c.do(late, s); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s after its deadline: error %v, want context.DeadlineExceeded", c.name, err)
			}
		})
	}
	wantValue(t, s, "other", "value")
	for _, c := range calls {
		if c.name == "Watch" {
			continue // returns only when its context is done
		}
		if err := c.do(bounded(t), s); err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s after one with a cancelled context: %v", c.name, err)
		}
	}
}

// closed checks that after Close every method answers an error, and not that
// a key is absent.
func closed(t *testing.T, s store.Store) {
	put(t, s, "key", "value", 0)
	unlock, err := s.Lock(bounded(t), "held")
	if err != nil {
		t.Fatalf("Lock: %v", err)
	}
	within(t, "Close", func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	for _, c := range calls {
		within(t, c.name+" after Close", func() {
			if err := c.do(context.Background(), s); err == nil || errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s after Close: error %v, want one that says that the store is closed", c.name, err)
			}
		})
	}
	within(t, "unlock after Close", unlock)
	within(t, "the second Close", func() { _ = s.Close() })
}

// closeWhileWaiting checks that Close wakes who waits for a lock or watches.
func closeWhileWaiting(t *testing.T, s store.Store) {
	unlock, err := s.Lock(bounded(t), "lock")
	if err != nil {
		t.Fatalf("Lock: %v", err)
	}
	watching, woken := make(chan struct{}), make(chan error, 2)
	go func() {
		woken <- s.Watch(context.Background(), "", store.Observer{
			Started: func() { close(watching) },
			Changed: func(string) {},
		})
	}()
	within(t, "Watch before it starts", func() { <-watching })
	go func() {
		_, err := s.Lock(context.Background(), "lock")
		woken <- err
	}()
	// Once this one has waited in vain, the other one waits, too.
	brief, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(brief, "lock"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Lock: error %v, want context.DeadlineExceeded", err)
	}
	within(t, "Close", func() { _ = s.Close() })
	for range cap(woken) {
		within(t, "Watch or Lock after Close", func() {
			if err := <-woken; err == nil {
				t.Error("Close wakes Watch or Lock without an error")
			}
		})
	}
	unlock()
}

// closeInTraffic closes the store under load, twice at once. Calls end with or
// without an error; what was acknowledged as absent or present was so.
func closeInTraffic(t *testing.T, s store.Store) {
	put(t, s, "present", "value", 0)
	var running, ended sync.WaitGroup
	for worker := range 16 {
		running.Add(1)
		ended.Go(func() {
			key := "key" + strconv.Itoa(worker)
			for i := 0; ; i++ {
				if i == 3 {
					running.Done()
				}
				value, err := s.Get(context.Background(), "present")
				if errors.Is(err, store.ErrNotFound) || err == nil && string(value) != "value" {
					t.Errorf("Get while the store is closed: %q, error %v", value, err)
				}
				if c := calls[2+i%3]; err == nil { // Put, Update, Delete
					err = c.do(context.Background(), s)
				}
				if err == nil {
					err = s.Put(context.Background(), key, []byte("value"), 0)
				}
				if err != nil && i >= 3 {
					return
				}
			}
		})
	}
	within(t, "traffic", running.Wait)
	var closing sync.WaitGroup
	for range 2 {
		closing.Go(func() { _ = s.Close() })
	}
	within(t, "Close under load", closing.Wait)
	within(t, "a call while the store is closed", ended.Wait)
}

// mixed has every method called at once, for the race detector, and checks
// that readers see whole values only.
func mixed(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(bounded(t))
	var watcher sync.WaitGroup
	watcher.Go(func() { _ = s.Watch(ctx, "", ignore) })

	whole := func(key string, value []byte) {
		for _, c := range value {
			if c != value[0] {
				t.Errorf("read a value of %q that nobody wrote: %s", key, short(value))
				return
			}
		}
	}
	var order atomic.Int64
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 60 {
				key := "key/" + strconv.Itoa((i*7+worker)%10)
				value := make([]byte, 10+order.Add(1)*13%3000)
				for j := range value {
					value[j] = byte('a' + worker)
				}
				var err error
				switch (i + worker) % 6 {
				case 0:
					err = s.Put(ctx, key, value, late)
				case 1:
					err = s.Put(ctx, key, value, time.Millisecond)
				case 2:
					err = s.Update(ctx, key, func(old []byte) ([]byte, ttl, error) {
						whole(key, old)
						return value, 0, nil
					})
				case 3:
					err = s.Delete(ctx, key)
				case 4:
					err = s.Scan(ctx, "key/", func(e store.Entry) error {
						key, value := e.Key, e.Value
						whole(key, value)
						return nil
					})
				case 5:
					var unlock func()
					if unlock, err = s.Lock(ctx, key); err == nil {
						unlock()
					}
				}
				if err != nil {
					t.Errorf("operation %d: %v", (i+worker)%6, err)
					return
				}
				got, err := s.Get(ctx, key)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Errorf("Get: %v", err)
					return
				}
				whole(key, got)
			}
		})
	}
	wg.Wait()
	cancel()
	within(t, "Watch after its context is done", watcher.Wait)
}
