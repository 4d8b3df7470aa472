// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/minigate/minigate/module/store"
)

// probedStore answers Get as it is told to.
type probedStore struct {
	store.Store
	gets  atomic.Int64
	down  atomic.Bool
	hangs atomic.Bool
}

var errProbed = errors.New("the store is down")

func (s *probedStore) Get(ctx context.Context, _ string) ([]byte, error) {
	s.gets.Add(1)
	if s.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if s.down.Load() {
		return nil, errProbed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, store.ErrNotFound
}

// A flood of requests to /ready must not become a flood of the store.
func TestProbeLooksOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := new(probedStore), newProbe()
		for second := range 5 {
			for range 100 {
				var busy sync.WaitGroup
				for range 20 {
					busy.Go(func() {
						if err := p.check(t.Context(), t.Context(), s); err != nil {
							t.Error(err)
						}
					})
				}
				busy.Wait()
				time.Sleep(10 * time.Millisecond)
			}
			if n := s.gets.Load(); n != int64(second+1) {
				t.Fatalf("looked %d times in %d seconds", n, second+1)
			}
		}
		s.down.Store(true)
		time.Sleep(probePause)
		if err := p.check(t.Context(), t.Context(), s); !errors.Is(err, errProbed) {
			t.Errorf("down: %v", err)
		}
		s.down.Store(false)
		if err := p.check(t.Context(), t.Context(), s); !errors.Is(err, errProbed) {
			t.Errorf("the same second: %v", err)
		}
		time.Sleep(probePause)
		if err := p.check(t.Context(), t.Context(), s); err != nil {
			t.Errorf("up again: %v", err)
		}
	})
}

// Whoever goes away while the store is asked must not make the node unready for
// all others.
func TestProbeOutlivesItsRequest(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	s, p := new(probedStore), newProbe()
	if err := p.check(gone, t.Context(), s); err != nil {
		t.Errorf("he who went away: %v", err)
	}
	if err := p.check(t.Context(), t.Context(), s); err != nil || s.gets.Load() != 1 {
		t.Errorf("the others: %v", err)
	}
}

// A store that hangs is noticed in a second, by one request; the others get the
// last answer for a while and then wait for the new one.
func TestProbeOfAStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := new(probedStore), newProbe()
		if err := p.check(t.Context(), t.Context(), s); err != nil {
			t.Fatal(err)
		}
		s.hangs.Store(true)
		time.Sleep(1500 * time.Millisecond)
		looked := make(chan error, 1)
		begun := time.Now()
		go func() { looked <- p.check(t.Context(), t.Context(), s) }()
		synctest.Wait()
		if err := p.check(t.Context(), t.Context(), s); err != nil || time.Since(begun) != 0 {
			t.Errorf("another one meanwhile: %v after %s", err, time.Since(begun))
		}
		if err := <-looked; err == nil || time.Since(begun) != probeTimeout {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		// What is known is too old: everyone waits, for one.
		s.hangs.Store(false)
		time.Sleep(probePause)
		if err := p.check(t.Context(), t.Context(), s); err != nil {
			t.Fatal(err)
		}
		s.hangs.Store(true)
		time.Sleep(time.Minute)
		begun = time.Now()
		s.gets.Store(0)
		var busy sync.WaitGroup
		for range 50 {
			busy.Go(func() {
				if err := p.check(t.Context(), t.Context(), s); err == nil {
					t.Error("ready, as it was a minute ago")
				}
			})
		}
		busy.Wait()
		if n := s.gets.Load(); n != 1 || time.Since(begun) != probeTimeout {
			t.Errorf("looked %d times in %s", n, time.Since(begun))
		}
		// Who does not want to wait need not.
		time.Sleep(time.Minute)
		go func() { _ = p.check(t.Context(), t.Context(), s) }()
		synctest.Wait()
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := p.check(impatient, t.Context(), s); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("impatient: %v", err)
		}
		time.Sleep(time.Minute)
	})
}
