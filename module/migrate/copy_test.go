// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minigate/minigate/module/migrate"
	"github.com/minigate/minigate/module/store"
)

// A gateway outgrows its file. Everything comes along, with the time it has left,
// what was at the destination before is gone, and doing it again writes nothing.
func TestCopy(t *testing.T) {
	forPairs(t, func(t *testing.T, from, to store.Store) {
		const n = 1000
		fill(t, from, n)
		put(t, from, "largest", strings.Repeat("x", store.MaxValue), time.Hour)
		put(t, from, "empty", "", 0)
		put(t, from, "node/other", "of the source", time.Minute)
		put(t, from, "code/abc", "of the source", time.Minute)
		put(t, to, "user/4", "older", time.Hour)
		put(t, to, "user/gone", "removed at the source", 0)
		put(t, to, "known/1", "known/1", 0)
		put(t, to, "code/def", "of the destination", time.Minute)

		c := newCopier(t, from, to)
		if err := c.Copy(bounded(t)); err != nil {
			t.Fatal(err)
		}
		compare(t, contents(t, from), contents(t, to))
		got := c.Counts()
		if want := (migrate.Counts{Read: n + 2, Written: n + 1, Unchanged: 1, Removed: 1, Verified: n + 2}); got != want {
			t.Errorf("counts are %+v, want %+v", got, want)
		}
		if c.Phase() != migrate.Done {
			t.Errorf("phase %d", c.Phase())
		}
		for key, there := range map[string]bool{"code/abc": false, "node/other": false, "code/def": true} {
			if _, err := to.Get(bounded(t), key); (err == nil) != there {
				t.Errorf("%s at the destination: %v", key, err)
			}
		}

		again := newCopier(t, from, to)
		if err := again.Copy(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if got, want := again.Counts(), (migrate.Counts{Read: n + 2, Unchanged: n + 2, Verified: n + 2}); got != want {
			t.Errorf("the second time counts are %+v, want %+v", got, want)
		}
	})
}

// A session that has an hour left has an hour left, not thirty days, and one that
// ends while it is copied does not become everlasting.
func TestExpiryIsKept(t *testing.T) {
	forPairs(t, func(t *testing.T, from, to store.Store) {
		begin := time.Now()
		put(t, from, "hour", "x", time.Hour)
		put(t, from, "stays", "x", 0)
		put(t, from, "shortened", "x", time.Minute)
		put(t, to, "shortened", "x", time.Hour)
		put(t, from, "bound", "x", time.Minute)
		put(t, to, "bound", "x", 0)
		put(t, from, "freed", "x", 0)
		put(t, to, "freed", "x", time.Minute)
		for i := range 50 {
			put(t, from, fmt.Sprint("ending/", i), "x", time.Duration(i+1)*4*time.Millisecond)
		}
		if err := newCopier(t, from, to).Copy(bounded(t)); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]time.Duration{"hour": time.Hour, "stays": 0, "shortened": time.Minute, "bound": time.Minute, "freed": 0} {
			e, err := to.Lookup(bounded(t), key)
			if got := e.Expires.Sub(begin); err != nil || e.Expires.IsZero() != (want == 0) || want != 0 && (got-want).Abs() > 2*time.Second {
				t.Errorf("%s ends in %v, want %v, error %v", key, got, want, err)
			}
		}
		eventually(t, "what has ended is gone", func() bool { return len(contents(t, to)) == 5 })
	})
}

// faulty is a store with a fault.
type faulty struct {
	store.Store
	put func(ctx context.Context, key string) error
}

func (f *faulty) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := f.put(ctx, key); err != nil {
		if errors.Is(err, errForgets) {
			return nil
		}
		return err
	}
	return f.Store.Put(ctx, key, value, ttl)
}

var (
	errForgets = errors.New("it forgets")
	errDown    = errors.New("connection refused")
)

// A Redis that throws records away when its memory is full says nothing of it: a
// copy that was only written is not yet a copy.
func TestVerificationFindsWhatIsMissing(t *testing.T) {
	from, to := memories(t)
	fill(t, from, 100)
	forgetful := &faulty{to, func(_ context.Context, key string) error {
		if strings.HasSuffix(key, "7") {
			return errForgets
		}
		return nil
	}}
	c := newCopier(t, from, forgetful)
	err := c.Copy(bounded(t))
	if !errors.Is(err, migrate.ErrUnverified) {
		t.Errorf("error %v", err)
	}
	if got := c.Counts(); got.Failed != 10 || got.Verified != 90 {
		t.Errorf("counts are %+v", got)
	}
}

// The destination dies halfway, then comes back: the error says which side it was,
// the source is as it was, and the next run goes on from there.
func TestDestinationDiesHalfway(t *testing.T) {
	from, to := memories(t)
	fill(t, from, 500)
	before := contents(t, from)
	var puts atomic.Int64
	dying := &faulty{to, func(context.Context, string) error {
		if puts.Add(1) > 200 {
			return errDown
		}
		return nil
	}}
	err := newCopier(t, from, dying).Copy(bounded(t))
	if !errors.Is(err, errDown) || !strings.Contains(err.Error(), "destination") {
		t.Fatalf("error %v", err)
	}
	compare(t, before, contents(t, from))
	c := newCopier(t, from, to)
	if err := c.Copy(bounded(t)); err != nil {
		t.Fatal(err)
	}
	compare(t, before, contents(t, to))
	if got := c.Counts(); got.Unchanged < 200 || got.Written+got.Unchanged != 500 {
		t.Errorf("counts are %+v", got)
	}
}

// An operator who interrupts a migration waits for nothing, and leaves nothing
// running.
func TestCopyStops(t *testing.T) {
	from, to := memories(t)
	fill(t, from, 500)
	goroutines := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	var once atomic.Bool
	hanging := &faulty{to, func(ctx context.Context, _ string) error {
		if once.CompareAndSwap(false, true) {
			cancel()
		}
		<-ctx.Done()
		return ctx.Err()
	}}
	begin := time.Now()
	if err := newCopier(t, from, hanging).Copy(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// Two names of one Redis, a gateway that is at work there, two operators at once.
func TestClaim(t *testing.T) {
	forPairs(t, func(t *testing.T, from, to store.Store) {
		if _, err := migrate.Claim(bounded(t), from, from); !errors.Is(err, migrate.ErrSame) {
			t.Errorf("one store: %v", err)
		}
		release, err := migrate.Claim(bounded(t), from, to)
		if err != nil {
			t.Fatal(err)
		}
		brief, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := migrate.Claim(brief, from, to); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the second at once: %v", err)
		}
		release()
		put(t, to, "node/all", "{}", time.Minute)
		if _, err := migrate.Claim(bounded(t), from, to); !errors.Is(err, migrate.ErrTaken) {
			t.Errorf("in use: %v", err)
		}
		if err := to.Delete(bounded(t), "node/all"); err != nil {
			t.Fatal(err)
		}
		release, err = migrate.Claim(bounded(t), from, to)
		if err != nil {
			t.Fatal(err)
		}
		release()
		if left := contents(t, to); len(left) != 0 {
			t.Errorf("it leaves %v", left)
		}
	})
}
