// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minigate/minigate/module/store"
)

// watcher is a Watch that goes on.
type watcher struct {
	started chan struct{}
	changed chan string
	ended   chan error
}

func startWatch(t testing.TB, s store.Store, prefix string) *watcher {
	t.Helper()
	w := &watcher{started: make(chan struct{}), changed: make(chan string, 1000), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() {
		w.ended <- s.Watch(ctx, prefix, store.Observer{
			Started: func() { close(w.started) },
			Changed: func(key string) { w.changed <- key },
		})
	}()
	select {
	case <-w.started:
	case err := <-w.ended:
		t.Fatalf("Watch: %v", err)
	case <-time.After(patience):
		t.Fatal("Watch does not start")
	}
	return w
}

// wants waits until all keys were reported.
func (w *watcher) wants(t testing.TB, keys ...string) {
	t.Helper()
	missing := slices.Clone(keys)
	for len(missing) > 0 {
		key := within(t, strings.Join(missing, ", "), w.changed)
		if !strings.HasPrefix(key, "user/") {
			t.Fatalf("%q is reported, which is not below the prefix", key)
		}
		missing = slices.DeleteFunc(missing, func(want string) bool { return want == key })
	}
}

// writeAll writes in every way that there is.
func writeAll(t testing.TB, s store.Store, key string) {
	t.Helper()
	put(t, s, key+"/put", "value")
	put(t, s, key+"/deleted", "value")
	err := s.Update(bounded(t), key+"/updated", func([]byte) ([]byte, time.Duration, error) { return []byte("x"), time.Hour, nil })
	if err == nil {
		err = s.Delete(bounded(t), key+"/deleted")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	if !installed(t, "redis-server", "redis-cli") {
		return
	}
	single, cluster := startServer(t), startCluster(t, 0)
	for name, o := range map[string]Opener{
		"tracking":         {Addresses: []string{single.address}},
		"pubsub":           {Addresses: []string{single.address}, Invalidation: pubsub, Prefix: "p:"},
		"tracking cluster": {Addresses: addresses(cluster), Cluster: true},
		"pubsub cluster":   {Addresses: addresses(cluster), Cluster: true, Invalidation: pubsub, Prefix: "p:"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := openStore(t, o), openStore(t, o)
			w := startWatch(t, b, "user/")
			put(t, a, "users", "is not below the prefix")
			put(t, a, "key/user/", "is not below the prefix")
			for _, user := range []string{"user/1", "user/2", "user/3", "user/{4}", "user/}"} {
				writeAll(t, a, user)
				w.wants(t, user+"/put", user+"/deleted", user+"/updated")
			}
			if o.Invalidation == pubsub {
				put(t, b, "user/own", "is not reported")
			}
			put(t, a, "user/last", "value")
			for key := ""; key != "user/last"; {
				if key = within(t, "a change", w.changed); key == "user/own" {
					t.Error("what the node itself wrote is reported")
				}
			}
		})
	}
}

// TestWatchExpiry checks that the end of a ttl is reported, where the server
// tells of changes itself.
func TestWatchExpiry(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	s := startServer(t)
	a := openStore(t, Opener{Addresses: []string{s.address}})
	if err := a.Put(bounded(t), "user/1", []byte("value"), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	startWatch(t, a, "").wants(t, "user/1")
}

// TestWatchLoss checks that Watch ends, and ends soon, when it may miss
// something, and that it can begin again.
func TestWatchLoss(t *testing.T) {
	t.Parallel()
	if !installed(t, "redis-server", "redis-cli") {
		return
	}
	for _, invalidation := range []string{tracking, pubsub} {
		t.Run(invalidation, func(t *testing.T) {
			t.Parallel()
			s, other := startServer(t), startServer(t)
			a := openStore(t, Opener{Addresses: []string{s.address}, Invalidation: invalidation})
			for _, loss := range []struct {
				name string
				do   func()
				undo func()
			}{
				{"the connection is closed", func() { s.cli("client", "kill", "skipme", "yes") }, func() {}},
				{"the server is killed", s.kill, s.start},
				{"the server hangs", func() { s.signal(syscall.SIGSTOP) }, func() { s.signal(syscall.SIGCONT) }},
				{"the server becomes a replica", func() {
					s.cli(append([]string{"replicaof"}, strings.Split(other.address, ":")...)...)
				}, func() { s.cli("replicaof", "no", "one") }},
				{"the database is flushed", func() { s.cli("flushall") }, func() {}},
			} {
				if loss.name == "the database is flushed" && invalidation == pubsub {
					continue // nobody publishes that
				}
				w := startWatch(t, a, "")
				loss.do()
				begin := time.Now()
				if err := within(t, loss.name, w.ended); err == nil || errors.Is(err, context.Canceled) {
					t.Errorf("%s: error %v", loss.name, err)
				} else {
					t.Logf("%s: after %v: %v", loss.name, time.Since(begin).Round(time.Millisecond), err)
				}
				if took := time.Since(begin); took > pingPause+answerTimeout+2*time.Second {
					t.Errorf("%s: noticed after %v", loss.name, took)
				}
				loss.undo()
				eventually(t, "the store works again after "+loss.name, func() bool {
					return a.Put(bounded(t), "user/1", []byte("value"), 0) == nil
				})
			}
		})
	}
}

// TestWatchClusterChange checks that Watch ends when another node takes over.
func TestWatchClusterChange(t *testing.T) {
	if !installed(t, "redis-server", "redis-cli") {
		return
	}
	t.Parallel()
	nodes := startCluster(t, 1)
	s := openStore(t, Opener{Addresses: addresses(nodes), Cluster: true, Replicas: 1})
	lone := openStore(t, Opener{Addresses: addresses(nodes), Cluster: true}) // a new primary has no replica
	var keys []string
	for user := range strings.SplitSeq("abcdefghijklmnop", "") {
		key := "user/" + user
		put(t, s, key, user)
		keys = append(keys, key)
	}
	w := startWatch(t, s, "")
	nodes[0].kill()
	t.Logf("Watch: %v", within(t, "Watch ends", w.ended))
	eventually(t, "all keys can be written", func() bool {
		return !slices.ContainsFunc(keys, func(key string) bool {
			return lone.Put(bounded(t), key+"/later", nil, 0) != nil
		})
	})
	for _, key := range keys { // what was acknowledged survives
		wantValue(t, lone, key, strings.TrimPrefix(key, "user/"))
	}
	eventually(t, "Watch begins again", func() bool {
		ctx, cancel := context.WithCancel(context.Background())
		err := lone.Watch(ctx, "", store.Observer{Started: cancel})
		return errors.Is(err, context.Canceled)
	})
}

// TestRevocationLatency is the promise of design §12 on one machine.
func TestRevocationLatency(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	s := startServer(t)
	for _, invalidation := range []string{tracking, pubsub} {
		o := Opener{Addresses: []string{s.address}, Invalidation: invalidation}
		a, b := openStore(t, o), openStore(t, o)
		p50, p99 := measureInvalidation(t, a, startWatch(t, b, "user/"), 300)
		t.Logf("%s: p50 %v, p99 %v", invalidation, p50, p99)
		if p99 > 50*time.Millisecond {
			t.Errorf("%s: p99 %v, want at most 50ms", invalidation, p99)
		}
	}
}
