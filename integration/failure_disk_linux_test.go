// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// limitFileSize has writes of the gateway beyond so many bytes of a file fail, as
// on a disk that is full. Everybody may do that, whereas only root can mount a
// small disk.
func (g *gateway) limitFileSize(bytes uint64) {
	g.t.Helper()
	limit := syscall.Rlimit{Cur: bytes, Max: ^uint64(0)}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(g.process.Process.Pid), syscall.RLIMIT_FSIZE,
		uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 {
		g.t.Fatal(errno)
	}
}

// The disk is full: nobody new gets in, those who are in stay in, and what was
// stored is there when the disk has room again, and after a crash.
func TestFailureDiskFull(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	path := g.dir + "/sessions.db"
	token := g.login(programA, "alice")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]string{"alice": token}
	fill := func() {
		t.Helper()
		for n := 0; ; n++ {
			user := fmt.Sprint("user-", len(stored))
			a := g.tryLogin(user)
			if a.status != http.StatusOK {
				a.expect(t, 503, "store_unavailable")
				return
			}
			if stored[user] = g.token(a); n > 20_000 {
				t.Fatal("the disk is never full")
			}
		}
	}
	g.limitFileSize(uint64(info.Size()) + 256<<10)
	fill()
	// Signing out is a write, too. Whoever is told that it failed is not signed out.
	if a := g.post("/miniprogram/logout", "", bearer(token)); a.status == http.StatusNoContent {
		g.get("/", bearer(token)).expect(t, 401, "session_revoked")
		delete(stored, "alice")
	} else {
		a.expect(t, 503, "store_unavailable")
	}
	g.logs("store cannot be used")
	g.counts(loginsWithoutStore)
	everybody := func() {
		t.Helper()
		for user, token := range stored {
			g.served(token, user)
		}
	}
	everybody()
	g.limitFileSize(^uint64(0))
	g.recovered(time.Now())
	everybody()
	g.kill()
	g.run()
	everybody()
	t.Logf("%d sessions", len(stored))
}

// The file of the store is damaged while the gateway is down, and while it runs:
// it says so, serves nobody on what it cannot read, and goes on when the operator
// has put the file away.
func TestFailureStoreDamaged(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	path := filepath.Join(g.dir, "sessions.db")
	var tokens []string
	for i := range 200 {
		tokens = append(tokens, g.login(programA, fmt.Sprint("user-", i)))
	}
	g.stop()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damaged := append([]byte(nil), whole...)
	for i := 2 * os.Getpagesize(); i < len(damaged); i += os.Getpagesize() {
		damaged[i+12] ^= 0xff // the header of every page but the first two
	}
	write(damaged)
	g.launch()
	if err := g.waitReady(); err == nil {
		t.Fatal("it starts with a damaged file")
	}
	if log := g.log.String()[g.launched:]; !strings.Contains(log, path) || !strings.Contains(log, "damaged") {
		t.Errorf("the log does not say what is wrong with %s:\n%s", path, log)
	}

	write(whole)
	g.run()
	g.served(tokens[0], "user-0") // in memory from now on
	write(whole[:len(whole)/2])   // the same file, cut off
	g.served(tokens[0], "user-0")
	for i, token := range tokens[1:20] {
		if a := g.get("/", bearer(token)); a.status == http.StatusOK {
			g.served(token, fmt.Sprint("user-", i+1))
		} else {
			a.expect(t, 503, "store_unavailable")
		}
	}
	g.tryLogin("new").expect(t, 503, "store_unavailable")
	g.logs("store cannot be used")
	g.counts(requestsWithoutStore)
	g.counts(loginsWithoutStore)

	g.kill()
	if err := os.Rename(path, path+".damaged"); err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	g.run()
	g.recovered(since)
	g.get("/", bearer(tokens[0])).expect(t, 401, "session_expired")
}
