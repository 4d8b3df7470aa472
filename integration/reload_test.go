// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// reloads is how many there are, and fewReloads with -short.
	reloads, fewReloads = 1000, 100

	storeEvery  = 20  // reloads, after which the store is another one
	keysEvery   = 50  // after which the seal keys change places
	brokenEvery = 10  // after which a configuration is broken
	idleEvery   = 400 // after which a store has time to be closed before it is used again
)

// withSocket makes the socket that a gateway listens on as fd/3 and keeps it, as
// systemd does.
func (g *gateway) withSocket() {
	g.t.Helper()
	l, err := net.Listen("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	defer l.Close()
	if g.socket, err = l.(*net.TCPListener).File(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { g.socket.Close() })
}

// reloaded is the configuration of one round: never the same as the one before,
// with another store, other secrets and other programs from time to time.
func reloaded(round int) setup {
	s := setup{
		options:   "store file DIR/" + storeOf(round) + ".db" + keyFiles,
		directive: fmt.Sprintf("header X-Round round-%d", round),
		// Without kept connections, which Caddy's proxy leaves to their idle timeout.
		routes: "bind fd/3\nreverse_proxy UPSTREAM {\ntransport http {\nkeepalive off\n}\n}",
	}
	if round%2 == 0 {
		s.options += "\nprogram wechat wxeeeeeeeeeeeeeeee {\nsecret {file.DIR/secret}\napi PLATFORM\n}"
	}
	if round%3 == 0 {
		s.options += "\n" + withAlipay
		s.directive += "\npublic path /healthz"
	}
	if round%5 == 0 {
		s.options += "\nsession {\nlifetime 20d\nidle 5d\n}\nexchange {\ntimeout 4s\n}"
		s.directive += "\nheaders user cloudrun"
	}
	return s
}

func storeOf(round int) string {
	if round/storeEvery%2 == 0 {
		return "a"
	}
	return "b"
}

// broken is the configuration of a round with something wrong in it.
func broken(round int) setup {
	s := reloaded(round)
	store := "store file DIR/" + storeOf(round) + ".db"
	switch round / brokenEvery % 6 {
	case 0:
		s.options += "\nnonsense"
	case 1:
		s.directive += "\nuser_id nonsense"
	case 2:
		s.options = strings.Replace(s.options, store, "store file /proc/none/x.db", 1)
	case 3:
		s.options = strings.Replace(s.options, store, "store redis 127.0.0.1:1", 1)
	case 4:
		s.options = strings.Replace(s.options, keyFiles, "\nseal_key {env.MINIGATE_NOT_SET}", 1)
	case 5:
		s.routes += "\n}\nhttp://127.0.0.1:1 {\nbind 192.0.2.1" // which no machine has
	}
	return s
}

// "We reload with every deployment, and each time some users have to sign in again":
// a thousand reloads under load, with other stores, secrets and programs among
// them, lose no session, fail no request and leak nothing.
func TestReloadsUnderLoad(t *testing.T) {
	rounds := reloads
	if testing.Short() {
		rounds = fewReloads
	}
	g := prepare(t, reloaded(0))
	g.withSocket()
	defer func() {
		if t.Failed() {
			t.Log(g.log)
		}
	}()
	g.setKeys('a', 'b')
	secretFile := func(round int) {
		if err := os.WriteFile(filepath.Join(g.dir, "secret"), fmt.Appendf(nil, "secret-%d", round), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secretFile(0)
	g.run()
	l := newReloadLoad(g)
	l.signIn("a")
	g.mustReload(reloaded(storeEvery))
	l.signIn("b")
	l.storeIs(storeOf(0), func() { g.mustReload(reloaded(0)) })
	l.start()
	defer l.stop()
	var early resources
	begun := time.Now()
	for round := 1; round <= rounds; round++ {
		if round%keysEvery == 0 {
			g.writeKeys([2]byte{'a', 'b'}, round/keysEvery%2 == 1)
		}
		secretFile(round)
		if round%idleEvery == 0 {
			time.Sleep(4 * time.Second) // longer than stragglers are waited for
		}
		load := func() { g.mustReload(reloaded(round)) }
		if storeOf(round) != storeOf(round-1) {
			l.storeIs(storeOf(round), load)
		} else {
			load()
		}
		if round%brokenEvery == 0 {
			if err := g.reloadAgain(broken(round)); err == nil {
				t.Fatal("a broken configuration is loaded")
			}
			if got := l.round(); got != fmt.Sprint("round-", round) {
				t.Fatalf("after a broken configuration the round is %q, want %d", got, round)
			}
		}
		if round == rounds/10 {
			early = g.resources()
		}
	}
	took := time.Since(begun)
	l.stop()
	l.check()
	var late resources
	eventually(t, "goroutines and files are as before", func() bool {
		late = g.resources()
		return late.goroutines <= early.goroutines && late.files <= early.files
	})
	if late.heap > early.heap*3/2+16<<20 || late.resident > early.resident*3/2+64<<20 {
		t.Errorf("memory grows: %+v, then %+v", early, late)
	}
	t.Logf("%d reloads in %v; after %d of them %+v, after all %+v", rounds, took.Round(time.Millisecond), rounds/10, early, late)
}

// reloadAgain is reload, again if the call was dropped: to the admin endpoint, which
// is new with each configuration, happens what happens to the site.
func (g *gateway) reloadAgain(s setup) error {
	for attempt := 0; ; attempt++ {
		if err := g.reload(s); !errors.Is(err, io.EOF) || attempt == resendings {
			return err
		}
	}
}

func (g *gateway) mustReload(s setup) {
	g.t.Helper()
	if err := g.reloadAgain(s); err != nil {
		g.t.Fatal(err)
	}
}

// writeKeys writes the two key files in one order or the other. Whether a running
// gateway takes notice by itself or with the next reload is all the same.
func (g *gateway) writeKeys(letters [2]byte, swapped bool) {
	g.t.Helper()
	names := [2]string{"first.key", "second.key"}
	if swapped {
		names[0], names[1] = names[1], names[0]
	}
	for i, name := range names {
		if err := os.WriteFile(filepath.Join(g.dir, name), []byte(sealKey(letters[i])+"\n"), 0o600); err != nil {
			g.t.Fatal(err)
		}
	}
}

// resources are what a process uses.
type resources struct {
	goroutines, files int
	heap, resident    int // in bytes
}

// resources measures the gateway, after a collection of garbage.
func (g *gateway) resources() (r resources) {
	g.t.Helper()
	if _, err := g.admin(http.MethodGet, "/debug/pprof/heap?gc=1", "", ""); err != nil {
		g.t.Fatal(err)
	}
	dump, err := g.admin(http.MethodGet, "/debug/pprof/goroutine?debug=1", "", "")
	if err != nil {
		g.t.Fatal(err)
	}
	if _, err := fmt.Sscanf(dump, "goroutine profile: total %d", &r.goroutines); err != nil {
		g.t.Fatal(err)
	}
	process := fmt.Sprintf("/proc/%d", g.process.Process.Pid)
	entries, err := os.ReadDir(process + "/fd")
	if err != nil {
		g.t.Fatal(err)
	}
	r.files = len(entries)
	status, err := os.ReadFile(process + "/status")
	if err != nil {
		g.t.Fatal(err)
	}
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindStringSubmatch(string(status))
	if found == nil {
		g.t.Fatal("the system does not say how much memory a process has")
	}
	kilobytes, err := strconv.Atoi(found[1])
	if err != nil {
		g.t.Fatal(err)
	}
	r.resident = kilobytes << 10
	r.heap = int(g.metric("go_memstats_heap_inuse_bytes"))
	return r
}
