// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minigate/minigate/module/store"
)

func increment(old []byte) ([]byte, time.Duration, error) {
	n := 0
	if old != nil {
		var err error
		if n, err = strconv.Atoi(string(old)); err != nil {
			return nil, 0, err
		}
	}
	return strconv.AppendInt(nil, int64(n+1), 10), 0, nil
}

// TestUpdateTwoNodes counts to 1000 from two nodes.
func TestUpdateTwoNodes(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	s := startServer(t)
	for _, invalidation := range []string{tracking, pubsub} {
		o := Opener{Addresses: []string{s.address}, Invalidation: invalidation, Prefix: invalidation + ":"}
		var wg sync.WaitGroup
		for range 2 {
			node := openStore(t, o)
			for range 4 {
				wg.Go(func() {
					for range 125 {
						if err := node.Update(bounded(t), "counter", increment); err != nil {
							t.Errorf("Update: %v", err)
							return
						}
					}
				})
			}
		}
		wg.Wait()
		wantValue(t, openStore(t, o), "counter", "1000")
	}
}

// TestUpdateEqualValue checks that a change to the same value is a write: of the
// ttl.
func TestUpdateEqualValue(t *testing.T) {
	if !installed(t, "redis-server", "redis-cli") {
		return
	}
	s := startServer(t)
	a := openStore(t, Opener{Addresses: []string{s.address}})
	put(t, a, "user/1", "value")
	err := a.Update(bounded(t), "user/1", func(old []byte) ([]byte, time.Duration, error) { return old, time.Hour, nil })
	if err != nil {
		t.Fatal(err)
	}
	if ttl, _ := strconv.Atoi(s.cli("pttl", "minigate:{user/1}")); ttl <= 0 || ttl > int(time.Hour.Milliseconds()) {
		t.Errorf("the ttl is %d ms", ttl)
	}
}

// TestApart checks that stores with different prefixes or databases do not see
// each other, nor what others keep in the same Redis.
func TestApart(t *testing.T) {
	if !installed(t, "redis-server", "redis-cli") {
		return
	}
	s := startServer(t)
	for _, key := range []string{"a:", "a:{", "a:{}", "a:{x", "a:x", "a:{x/y/z}", "{x}"} {
		s.cli("set", key, "foreign")
	}
	var stores []store.Store
	for _, o := range []Opener{{Prefix: "a:"}, {Prefix: "a"}, {Prefix: "a:a:"}, {Prefix: "a:", DB: 1}} {
		o.Addresses = []string{s.address}
		stores = append(stores, openStore(t, o))
	}
	for i, a := range stores {
		put(t, a, "x", strconv.Itoa(i))
		put(t, a, fmt.Sprint("user/", i), "value")
	}
	for i, a := range stores {
		wantValue(t, a, "x", strconv.Itoa(i))
		found := make(map[string]bool)
		err := a.Scan(bounded(t), "", func(e store.Entry) error {
			key := e.Key
			found[key] = true
			return nil
		})
		if err != nil || len(found) != 2 || !found["x"] || !found[fmt.Sprint("user/", i)] {
			t.Errorf("store %d has %v, error %v", i, found, err)
		}
	}
}

// TestHangs checks that calls end with an error when the server hangs, with the
// context's if that comes first, and that the store recovers.
func TestHangs(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	t.Parallel()
	s := startServer(t)
	a := openStore(t, Opener{Addresses: []string{s.address}})
	put(t, a, "key", "value")
	s.signal(syscall.SIGSTOP)
	brief, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := a.Get(brief, "key"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get: error %v, want context.DeadlineExceeded", err)
	}
	cancelled, cancel := context.WithDeadline(context.Background(), time.Now().Add(time.Hour))
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := a.Put(cancelled, "key", []byte("x"), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: error %v, want context.Canceled", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("contexts are honoured after %v", took)
	}
	if _, err := a.Get(context.Background(), "key"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get: error %v, want one that says that the store does not answer", err)
	}
	if took := time.Since(begin); took > 25*time.Second {
		t.Errorf("a call without a deadline ended after %v", took)
	}
	s.signal(syscall.SIGCONT)
	eventually(t, "the store works again", func() bool {
		return a.Put(bounded(t), "key", []byte("again"), 0) == nil
	})
	wantValue(t, a, "key", "again")
}

// TestFull checks that what Redis refuses is an error, and a read goes on.
func TestFull(t *testing.T) {
	if !installed(t, "redis-server", "redis-cli") {
		return
	}
	s := startServer(t)
	a := openStore(t, Opener{Addresses: []string{s.address}})
	put(t, a, "user/1", "value")
	s.cli("config", "set", "maxmemory", "1")
	errFull := a.Put(bounded(t), "user/2", []byte("value"), 0)
	errUpdate := a.Update(bounded(t), "user/1", increment)
	for _, err := range []error{errFull, errUpdate} {
		if err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("a write while the memory is full: error %v", err)
		}
	}
	wantValue(t, a, "user/1", "value")
	s.cli("config", "set", "maxmemory", "0")
	s.cli("hset", "minigate:{hash}", "a", "b")
	if _, err := a.Get(bounded(t), "hash"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get of what is no value: error %v", err)
	}
}

// TestFailover kills the primary under writes, and looks for what was
// acknowledged.
func TestFailover(t *testing.T) {
	if !installed(t, "redis-server", "redis-cli", "redis-sentinel") {
		return
	}
	t.Parallel()
	primary := startServer(t, "--repl-diskless-sync-delay", "0")
	host, port, _ := net.SplitHostPort(primary.address)
	replica := startServer(t, "--replicaof", host+" "+port)
	eventually(t, "the replica follows", func() bool {
		return strings.Contains(replica.cli("info", "replication"), "master_link_status:up")
	})
	sentinel := startSentinel(t, primary)
	eventually(t, "the sentinel knows the replica", func() bool {
		return strings.Contains(sentinel.cli("sentinel", "replicas", "primary"), replica.address)
	})
	o := Opener{Addresses: []string{sentinel.address}, Sentinel: "primary"}
	o.Replicas = 1
	a := openStore(t, o)
	o.Replicas = 0
	b := openStore(t, o)
	w := startWatch(t, b, "")

	const writers = 8
	acknowledged := make([]int, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for n := 0; ; n++ {
				key := fmt.Sprintf("user/%d/%d", i, n)
				if err := a.Put(bounded(t), key, []byte(key), time.Hour); err != nil {
					acknowledged[i] = n
					return
				}
				if i == 0 && n == 50 {
					primary.kill()
				}
			}
		})
	}
	wg.Wait()
	begin := time.Now()
	t.Logf("Watch: %v", within(t, "Watch ends", w.ended))
	eventually(t, "the replica takes over", func() bool { return b.Put(bounded(t), "later", nil, 0) == nil })
	t.Logf("writes go on after %v", time.Since(begin).Round(time.Millisecond))
	total := 0
	for i, n := range acknowledged {
		for j := range n {
			key := fmt.Sprintf("user/%d/%d", i, j)
			wantValue(t, b, key, key)
			total++
		}
	}
	t.Logf("%d acknowledged writes are there", total)
	if err := a.Put(bounded(t), "alone", nil, 0); err == nil || !strings.Contains(err.Error(), "0 of 1 replicas have it") {
		t.Errorf("a write without a replica: error %v", err)
	}
	w = startWatch(t, b, "")
	_ = a.Put(bounded(t), "user/after", nil, 0)
	w.wants(t, "user/after")
}

// TestReplicasCluster checks the contract where each write of a cluster waits
// for a replica.
func TestReplicasCluster(t *testing.T) {
	if !installed(t, "redis-server", "redis-cli") {
		return
	}
	t.Parallel()
	nodes := startCluster(t, 1)
	s := openStore(t, Opener{Addresses: addresses(nodes[:2]), Cluster: true, Replicas: 1, Invalidation: pubsub})
	for i := range 50 {
		key := fmt.Sprint("user/", i)
		put(t, s, key, key)
		if err := s.Update(bounded(t), key, func(old []byte) ([]byte, time.Duration, error) { return append(old, '+'), 0, nil }); err != nil {
			t.Fatal(err)
		}
		wantValue(t, s, key, key+"+")
	}
	unlock, err := s.Lock(bounded(t), "lock")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// TestNoLeaks checks that a store leaves no goroutine behind.
func TestNoLeaks(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	s := startServer(t)
	before := runtime.NumGoroutine()
	for range 10 {
		a, err := provisioned(t, Opener{Addresses: []string{s.address}}).Open(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		started := make(chan struct{})
		go func() {
			ended <- a.Watch(context.Background(), "", store.Observer{Started: func() { close(started) }, Changed: func(string) {}})
		}()
		within(t, "Watch starts", started)
		put(t, a, "key", "value")
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := within(t, "Watch ends", ended); !errors.Is(err, store.ErrClosed) {
			t.Errorf("Watch: error %v, want ErrClosed", err)
		}
	}
	eventually(t, fmt.Sprintf("%d goroutines are left", before), func() bool { return runtime.NumGoroutine() <= before })
}
