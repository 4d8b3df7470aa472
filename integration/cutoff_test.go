// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// revokeAll has the admin endpoint sign out everyone, or a program.
func (g *gateway) revokeAll(body string) {
	g.t.Helper()
	if a := g.askSessions("revoke", body); a.status != http.StatusOK || a.body != `{"all":true}` {
		g.t.Fatalf("revoke: %d %s", a.status, a.body)
	}
}

const everyone = `{"everyone":true}`

// After a break-in an operator signs out everyone on one node: the others refuse
// them at once, warm sessions too, and who signs in from then on, on whichever
// node, stays signed in.
func TestRevokeEveryoneOnAllNodes(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	a, b := nodes(t)
	for round := range 5 {
		var tokens []string
		for i := range 10 {
			token := a.login(programA, fmt.Sprint("user-", i))
			for _, g := range []*gateway{a, b} {
				if answer := g.get("/", bearer(token)); answer.status != http.StatusOK {
					t.Fatalf("round %d: %d %s", round, answer.status, answer.body)
				}
			}
			tokens = append(tokens, token)
		}
		a.revokeAll(everyone)
		begun := time.Now()
		// On the other node in the same second, before it may have heard of it.
		fresh := []string{b.login(programA, "user-0"), a.login(programA, "user-1")}
		for _, token := range tokens {
			a.get("/", bearer(token)).expect(t, 401, "session_revoked")
		}
		eventually(t, "the other node refuses the session", func() bool { return b.get("/", bearer(tokens[9])).word() == "session_revoked" })
		t.Logf("refused after at most %s", time.Since(begun))
		for _, token := range tokens {
			b.get("/", bearer(token)).expect(t, 401, "session_revoked")
		}
		for _, token := range fresh {
			for _, g := range []*gateway{a, b} {
				if answer := g.get("/", bearer(token)); answer.status != http.StatusOK {
					t.Errorf("round %d: signed in afterwards: %d %s", round, answer.status, answer.body)
				}
			}
		}
	}
	if page := b.list(""); len(page.Sessions) != 2 {
		t.Errorf("%d sessions are listed", len(page.Sessions))
	}
}

// The secret of one program leaked: its users are signed out, those of the others
// are not.
func TestRevokeProgramByAdmin(t *testing.T) {
	g := start(t, setup{options: withAlipay})
	alice, bob, carol := g.login(programA, "alice"), g.login(programB, "bob"), g.login(programC, "carol")
	g.get("/", bearer(alice))
	g.revokeAll(`{"program":"` + programA + `","all":true}`)
	g.get("/", bearer(alice)).expect(t, 401, "session_revoked")
	for user, token := range map[string]string{"bob": bob, "carol": carol, "alice again": g.login(programA, "alice")} {
		if a := g.get("/", bearer(token)); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", user, a.status, a.body)
		}
	}
	// Of a program that is not configured any more, too.
	g.setup.options = ""
	if err := g.reload(g.setup); err != nil {
		t.Fatal(err)
	}
	g.revokeAll(`{"platform":"alipay","program":"` + programC + `","all":true}`)
	g.setup.options = withAlipay
	if err := g.reload(g.setup); err != nil {
		t.Fatal(err)
	}
	g.get("/", bearer(carol)).expect(t, 401, "session_revoked")
	g.get("/", bearer(bob)).expectStatus(t, 200)
}

// Who was signed out stays so when the process is killed, and when it starts
// again.
func TestRevokeEveryoneSurvivesKill(t *testing.T) {
	g := start(t, setup{})
	old := g.login(programA, "alice")
	g.revokeAll(everyone)
	fresh := g.login(programA, "alice")
	g.kill()
	g.run()
	g.get("/", bearer(old)).expect(t, 401, "session_revoked")
	if a := g.get("/", bearer(fresh)); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// Redis restarts with its data: neither are those back who were signed out, nor
// are the others out. While it is away nobody is told that his session is gone.
func TestRevokeEveryoneSurvivesRedis(t *testing.T) {
	if !installed(t, "redis-server", "redis-cli") {
		return
	}
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func() {
		t.Helper()
		server := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always")
		server.Dir = dir
		startServer(t, `(Ready to accept connections)`, server)
	}
	run()
	g := start(t, setup{options: "store redis 127.0.0.1:" + port + "\nseal_key " + sealKey('k')})
	old := g.login(programA, "alice")
	g.get("/", bearer(old)).expectStatus(t, 200)
	g.revokeAll(everyone)
	fresh := g.login(programA, "bob")
	if err := exec.Command("redis-cli", "-p", port, "shutdown").Run(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Redis is gone", func() bool {
		return g.post("/miniprogram/login", g.loginBody(programA, "carol")).word() == "store_unavailable"
	})
	g.get("/", bearer(old)).expect(t, 503, "store_unavailable")
	g.askSessions("revoke", everyone).expectStatus(t, 503)
	g.askSessions("list", "").expectStatus(t, 503)
	run()
	eventually(t, "Redis is back", func() bool { return g.get("/", bearer(old)).word() == "session_revoked" })
	eventually(t, "the good session is good", func() bool { return g.get("/", bearer(fresh)).status == http.StatusOK })
}

// Everyone is signed out while thousands sign in and use their sessions: whose
// sign-in was answered before is out, and whose began afterwards is in.
func TestRevokeEveryoneUnderLoad(t *testing.T) {
	g := start(t, setup{options: "exchange {\nconcurrency 1000\n}"})
	before := g.loginMany(programA, 50)
	var revoked atomic.Bool
	var after sync.Map
	var busy sync.WaitGroup
	stop := make(chan struct{})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	for i := range 8 {
		busy.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				code, err := g.platform.Login(programA, fmt.Sprintf("late-%d-%d", i, n))
				if err != nil {
					t.Error(err)
					return
				}
				later := revoked.Load()
				token, err := tryLogin(client, g.address, programA, code)
				switch {
				case err == nil && later:
					after.Store(token, true)
				case err != nil && later:
					t.Errorf("signing in afterwards: %v", err)
				}
				_, _, _ = tryGet("http://"+g.address+"/", before[n%len(before)])
			}
		})
	}
	g.revokeAll(everyone)
	revoked.Store(true)
	eventually(t, "some sign in afterwards", func() bool {
		n := 0
		after.Range(func(any, any) bool { n++; return true })
		return n > 100
	})
	close(stop)
	busy.Wait()
	for _, token := range before {
		g.get("/", bearer(token)).expect(t, 401, "session_revoked")
	}
	after.Range(func(token, _ any) bool {
		if a := g.get("/", bearer(fmt.Sprint(token))); a.status != http.StatusOK {
			t.Errorf("signed in afterwards: %d %s", a.status, a.body)
		}
		return true
	})
}

// When a seal key is replaced in good order, the record of who was signed out is
// sealed with the new one before the old one goes.
func TestRevocationSurvivesKeyRotation(t *testing.T) {
	const next = "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	g := start(t, setup{options: "seal_key " + next + " " + sealKey('k')})
	alice, bob := g.login(programA, "alice"), g.login(programB, "bob")
	g.setup.options = "seal_key " + sealKey('k') + " " + next
	if err := g.reload(g.setup); err != nil {
		t.Fatal(err)
	}
	g.revokeAll(`{"program":"` + programB + `","all":true}`)
	g.setup.options = "seal_key " + next + " " + sealKey('k')
	if err := g.reload(g.setup); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all is sealed with the active key", func() bool {
		return strings.Contains(g.ask(http.MethodGet, "/miniprogram/keys", "").body, "resealed_at")
	})
	g.kill()
	g.setup.options = "seal_key " + next
	g.run()
	g.get("/", bearer(bob)).expect(t, 401, "session_revoked")
	if a := g.get("/", bearer(alice)); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// A node whose seal key was replaced in an emergency, right after everyone was
// signed out, serves who signs in again.
func TestRevokeEveryoneThenNewKey(t *testing.T) {
	g := start(t, setup{options: "seal_key " + sealKey('k')})
	old := g.login(programA, "alice")
	g.revokeAll(everyone)
	if err := g.reload(setup{options: "seal_key AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}); err != nil {
		t.Fatal(err)
	}
	g.get("/", bearer(old)).expect(t, 401, "session_invalid")
	if a := g.get("/", bearer(g.login(programA, "alice"))); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}
