// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package migrate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/minigate/minigate/module/migrate"
	"github.com/minigate/minigate/module/store"
	"github.com/minigate/minigate/plugin/stores/file"
	"github.com/minigate/minigate/plugin/stores/memory"
	"github.com/minigate/minigate/plugin/stores/redis"
)

// patience is how long a test waits for what must happen soon.
const patience = 30 * time.Second

var server struct {
	sync.Mutex
	address string
	process *exec.Cmd
	stores  int
}

func TestMain(m *testing.M) {
	code := m.Run()
	if server.process != nil {
		_ = server.process.Process.Kill()
		_ = server.process.Wait()
	}
	os.Exit(code)
}

// redisAddress returns the address of a Redis for all tests of this package;
// ok is false where none is installed, which in CI is a failure.
func redisAddress(t testing.TB) (address string, ok bool) {
	t.Helper()
	server.Lock()
	defer server.Unlock()
	if server.address != "" {
		return server.address, true
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is not installed")
		}
		t.Logf("LEFT OUT: redis-server is not installed")
		return "", false
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	listener.Close()
	_, port, _ := net.SplitHostPort(address)
	server.process = exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", os.TempDir())
	if err := server.process.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "redis-server listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	server.address = address
	return address, true
}

// kinds are the stores to copy from and to. ok is false for one that cannot be
// tested here.
var kinds = map[string]func(testing.TB) (s store.Store, ok bool){
	"memory": func(t testing.TB) (store.Store, bool) { return openStore(t, new(memory.Opener), `{}`), true },
	"file": func(t testing.TB) (store.Store, bool) {
		return openStore(t, new(file.Opener), fmt.Sprintf(`{"path":%q}`, filepath.Join(t.TempDir(), "s.db"))), true
	},
	"redis": func(t testing.TB) (store.Store, bool) {
		address, ok := redisAddress(t)
		if !ok {
			return nil, false
		}
		server.Lock()
		server.stores++
		prefix := fmt.Sprintf("test%d:", server.stores)
		server.Unlock()
		return openStore(t, new(redis.Opener), fmt.Sprintf(`{"addresses":[%q],"prefix":%q}`, address, prefix)), true
	},
}

// openStore opens a store, and closes it at the end of the test.
func openStore(t testing.TB, opener interface {
	store.Opener
	caddy.Module
}, config string,
) store.Store {
	t.Helper()
	if err := json.Unmarshal([]byte(config), opener); err != nil {
		t.Fatal(err)
	}
	if p, ok := opener.(caddy.Provisioner); ok {
		if err := p.Provision(caddy.Context{}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := opener.Open(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// forPairs runs a test with each kind of source and destination.
func forPairs(t *testing.T, test func(t *testing.T, from, to store.Store)) {
	for source, openFrom := range kinds {
		for destination, openTo := range kinds {
			t.Run(source+" to "+destination, func(t *testing.T) {
				from, ok := openFrom(t)
				if !ok {
					return
				}
				if to, ok := openTo(t); ok {
					test(t, from, to)
				}
			})
		}
	}
}

func memories(t testing.TB) (from, to store.Store) {
	from, _ = kinds["memory"](t)
	to, _ = kinds["memory"](t)
	return from, to
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func put(t testing.TB, s store.Store, key, value string, ttl time.Duration) {
	t.Helper()
	if err := s.Put(bounded(t), key, []byte(value), ttl); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
}

// fill puts n records of several kinds, with all that they can end in.
func fill(t testing.TB, s store.Store, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < n; i += 16 {
				key := fmt.Sprintf("%s/%d", []string{"user", "known", "key", "token"}[i%4], i)
				put(t, s, key, strings.Repeat(key, i%40), []time.Duration{0, time.Hour, 30 * 24 * time.Hour, time.Minute}[i/4%4])
			}
		})
	}
	wg.Wait()
}

// contents returns all that a store has, but for what is not copied.
func contents(t testing.TB, s store.Store) map[string]store.Entry {
	t.Helper()
	found := make(map[string]store.Entry)
	err := s.Scan(bounded(t), "", func(e store.Entry) error {
		for _, prefix := range []string{"node/", "code/", "migrate/"} {
			if strings.HasPrefix(e.Key, prefix) {
				return nil
			}
		}
		found[e.Key] = e
		return nil
	})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	return found
}

// compare checks that two stores have the same records with the same ends. Two
// seconds are what a copy may be wrong by.
func compare(t interface {
	Helper()
	Errorf(string, ...any)
}, from, to map[string]store.Entry,
) {
	t.Helper()
	for key, want := range from {
		got, ok := to[key]
		switch {
		case !ok:
			t.Errorf("%s is missing", key)
		case string(got.Value) != string(want.Value):
			t.Errorf("%s is %.40q, want %.40q", key, got.Value, want.Value)
		case got.Expires.IsZero() != want.Expires.IsZero() || got.Expires.Sub(want.Expires).Abs() > 2*time.Second:
			t.Errorf("%s ends at %v, want %v", key, got.Expires, want.Expires)
		}
	}
	for key := range maps.Keys(to) {
		if _, ok := from[key]; !ok {
			t.Errorf("%s should not be there", key)
		}
	}
}

// newCopier returns a copier that fails the test if it breaks.
func newCopier(t testing.TB, from, to store.Store) *migrate.Copier {
	return migrate.New(from, to, func(err error) { t.Errorf("broken: %v", err) })
}
