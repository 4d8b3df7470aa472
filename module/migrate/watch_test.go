// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minigate/minigate/module/migrate"
	"github.com/minigate/minigate/module/store"
)

// watched is a run of Copier.Watch.
type watched struct {
	*migrate.Copier
	copied, lost atomic.Int64
	ended        chan error
}

func startWatch(ctx context.Context, t *testing.T, from, to store.Store) *watched {
	t.Helper()
	w := &watched{Copier: newCopier(t, from, to), ended: make(chan error, 1)}
	go func() {
		w.ended <- w.Watch(ctx, func() { w.copied.Add(1) }, func(error) { w.lost.Add(1) })
	}()
	eventually(t, "the first copy", func() bool { return w.copied.Load() > 0 })
	return w
}

// Several gateways use one Redis, and move to another one: what they write while
// nobody can ask them to write it twice arrives all the same, also what they wrote
// while the connection was lost that tells of it.
func TestWatch(t *testing.T) {
	from, ok := kinds["redis"](t)
	if !ok {
		return
	}
	to, _ := kinds["redis"](t)
	fill(t, from, 200)
	put(t, to, "user/gone", "x", 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := startWatch(ctx, t, from, to)
	compare(t, contents(t, from), contents(t, to))
	same := func(what string) {
		t.Helper()
		eventually(t, what, func() bool {
			left, right := contents(t, from), contents(t, to)
			if len(left) != len(right) {
				return false
			}
			for key, e := range left {
				if string(e.Value) != string(right[key].Value) {
					return false
				}
			}
			return true
		})
	}
	for i := range 100 {
		put(t, from, fmt.Sprint("user/new/", i), "x", time.Hour)
		if err := from.Delete(bounded(t), fmt.Sprint("user/", i)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, from, "node/all", "{}", time.Minute)
	same("changes arrive")

	host, port, _ := net.SplitHostPort(server.address)
	if out, err := exec.Command("redis-cli", "-h", host, "-p", port, "client", "kill", "type", "normal", "skipme", "yes").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, "a write", func() bool { return from.Put(bounded(t), "user/unheard", []byte("x"), 0) == nil })
	same("what was not told of arrives")
	eventually(t, "it was noticed", func() bool { return w.lost.Load() > 0 && w.copied.Load() > 1 })

	cancel()
	if err := <-w.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// The new gateway starts while the old ones are still followed: from then on the
// copy is its own, and nothing older is written over it.
func TestWatchEndsWhenTheDestinationIsUsed(t *testing.T) {
	from, ok := kinds["redis"](t)
	if !ok {
		return
	}
	to, _ := kinds["redis"](t)
	w := startWatch(t.Context(), t, from, to)
	put(t, to, "node/all", "{}", time.Minute)
	select {
	case err := <-w.ended:
		if !errors.Is(err, migrate.ErrTaken) {
			t.Errorf("error %v", err)
		}
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
	put(t, to, "user/1", "new", 0)
	put(t, from, "user/1", "old", 0)
	if got, err := to.Get(bounded(t), "user/1"); err != nil || string(got) != "new" {
		t.Errorf("the destination has %q, %v", got, err)
	}
}

// A destination that goes down while changes are followed ends it: what is written
// from then on is missing there, and somebody has to know.
func TestWatchEndsWhenTheDestinationIsDown(t *testing.T) {
	from, ok := kinds["redis"](t)
	if !ok {
		return
	}
	to, _ := kinds["memory"](t)
	w := startWatch(t.Context(), t, from, &faulty{to, func(_ context.Context, key string) error {
		if key == "user/1" {
			return errDown
		}
		return nil
	}})
	put(t, from, "user/0", "x", 0)
	put(t, from, "user/1", "x", 0)
	select {
	case err := <-w.ended:
		if !errors.Is(err, errDown) {
			t.Errorf("error %v", err)
		}
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
}
