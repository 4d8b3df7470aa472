// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

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

// TestLockTwoNodes checks mutual exclusion of two nodes with a counter in the
// store that is read and written in two steps.
func TestLockTwoNodes(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	s := startServer(t)
	o := Opener{Addresses: []string{s.address}}
	const workers, times = 8, 5
	var wg sync.WaitGroup
	var inside atomic.Int32
	for range 2 {
		node := openStore(t, o)
		for range workers {
			wg.Go(func() {
				for range times {
					unlock, err := node.Lock(bounded(t), "counter")
					if err != nil {
						t.Errorf("Lock: %v", err)
						return
					}
					if inside.Add(1) != 1 {
						t.Error("two hold the lock")
					}
					n := 0
					if value, err := node.Get(bounded(t), "counter"); err == nil {
						n, _ = strconv.Atoi(string(value))
					}
					put(t, node, "counter", strconv.Itoa(n+1))
					inside.Add(-1)
					unlock()
				}
			})
		}
	}
	wg.Wait()
	wantValue(t, openStore(t, o), "counter", strconv.Itoa(2*workers*times))
}

// TestLockLease checks that a lock is held for longer than its lease, that it is
// free some time after its holder died, and not before; and that the lock of
// somebody else is not given back.
func TestLockLease(t *testing.T) {
	if !installed(t, "redis-server", "redis-cli") {
		return
	}
	t.Parallel()
	s := startServer(t)
	o := Opener{Addresses: []string{s.address}}
	living, dying, waiting := openStore(t, o), openStore(t, o), openStore(t, o)

	unlock, err := living.Lock(bounded(t), "long")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dying.Lock(bounded(t), "dead"); err != nil {
		t.Fatal(err)
	}
	if err := dying.Close(); err != nil { // ends the renewal, and leaves the lock
		t.Fatal(err)
	}
	begin := time.Now()
	after, err := waiting.Lock(bounded(t), "dead")
	if err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(begin); waited < lease-renewal || waited > lease+time.Second {
		t.Errorf("the lock of a node that died is free after %v", waited)
	}
	after()

	// By now the other lock is as old as a lease.
	eventually(t, "the lease is over by far", func() bool { return time.Since(begin) > lease+renewal })
	brief, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := waiting.Lock(brief, "long"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock: error %v; it is held", err)
	}

	s.cli("set", "minigate:lock:{long}", "somebody else")
	unlock()
	unlock()
	if value := s.cli("get", "minigate:lock:{long}"); value != "somebody else" {
		t.Errorf("the lock of somebody else is %q after unlock", value)
	}
}

// TestLockWaitEnds checks that Close ends those who wait for another node.
func TestLockWaitEnds(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	s := startServer(t)
	o := Opener{Addresses: []string{s.address}}
	holder, waiter := openStore(t, o), openStore(t, o)
	unlock, err := holder.Lock(bounded(t), "lock")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ended := make(chan error, 1)
	go func() {
		_, err := waiter.Lock(context.Background(), "lock")
		ended <- err
	}()
	brief, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := waiter.Lock(brief, "lock"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock: error %v, want context.DeadlineExceeded", err)
	}
	if err := waiter.Close(); err != nil {
		t.Error(err)
	}
	if err := within(t, "Lock after Close", ended); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Lock: error %v, want ErrClosed", err)
	}
}
