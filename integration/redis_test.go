// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/simulator"
)

// startRedis starts a Redis server and returns its address.
func startRedis(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	server.Dir = t.TempDir()
	startServer(t, `(Ready to accept connections)`, server)
	return "127.0.0.1:" + port
}

// nodes starts two gateways that share a Redis and a platform.
func nodes(t *testing.T) (a, b *gateway) {
	t.Helper()
	address := startRedis(t)
	shared := setup{
		options:   "store redis " + address + "\nseal_key AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
		directive: "header X-Nick {http.auth.user.nickname}",
	}
	a, b = start(t, shared), prepare(t, shared)
	b.platform, b.platURL = a.platform, a.platURL
	b.run()
	return a, b
}

// Two machines behind a load balancer: whoever signs in on one is signed in on the
// other, with what is known of him, and whoever signs out on one is signed out on
// the other.
func TestTwoNodes(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	a, b := nodes(t)
	token := a.login(programA, "alice")
	nick := func(g *gateway) string {
		answer := g.get("/", bearer(token))
		if answer.status != http.StatusOK {
			t.Fatalf("%d %s", answer.status, answer.body)
		}
		return strings.Join(identities(answer.body, "X-Nick"), ",")
	}
	if got := nick(b); got != "" {
		t.Errorf("she is called %q", got)
	}
	if answer := a.put(`{"nickname":"Al"}`, token); answer.status != http.StatusOK {
		t.Fatalf("%d %s", answer.status, answer.body)
	}
	eventually(t, "the other node knows the name", func() bool { return nick(b) == "Al" })
	b.post("/miniprogram/logout", "", bearer(token)).expectStatus(t, http.StatusNoContent)
	eventually(t, "the other node refuses the session", func() bool { return a.get("/", bearer(token)).word() == "session_revoked" })
}

// Until a revocation has reached every node, a stolen session goes on. How long
// that is goes into the log; what must hold is that it ends.
func TestRevocationReachesTheOtherNode(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	a, b := nodes(t)
	var took []time.Duration
	for i := range 30 {
		token := a.login(programA, fmt.Sprint("user-", i))
		if answer := b.get("/", bearer(token)); answer.status != http.StatusOK {
			t.Fatalf("%d %s", answer.status, answer.body)
		}
		a.post("/miniprogram/logout", `{"everywhere":true}`, bearer(token)).expectStatus(t, http.StatusNoContent)
		begun := time.Now()
		eventually(t, "it is refused", func() bool { return b.get("/", bearer(token)).status == http.StatusUnauthorized })
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	t.Logf("refused after %s in the middle, %s at most", took[len(took)/2], took[len(took)-1])
}

// A phone whose answer is late sends its login again, and the load balancer gives
// that to the other machine: one exchange, one session, the same answer.
func TestCodeIsExchangedOnceByTwoNodes(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	a, b := nodes(t)
	if err := a.platform.SetFault(simulator.Fault{Kind: simulator.FaultSlow, Delay: 300 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	code, err := a.platform.Login(programA, "alice")
	if err != nil {
		t.Fatal(err)
	}
	a.platform.ResetCalls()
	const posts = 20
	tokens := make([]string, posts)
	var busy sync.WaitGroup
	for i := range posts {
		busy.Go(func() {
			g := a
			if i%2 == 1 {
				g = b
			}
			token, err := tryLogin(http.DefaultClient, g.address, programA, code)
			if err != nil {
				t.Error(err)
			}
			tokens[i] = token
		})
	}
	busy.Wait()
	if n := a.platform.Calls().Total; n != 1 {
		t.Errorf("%d calls to the platform", n)
	}
	for _, token := range tokens {
		if token == "" || token != tokens[0] {
			t.Fatalf("answers differ: %q", tokens)
		}
	}
	if answer := b.get("/", bearer(tokens[0])); answer.status != http.StatusOK {
		t.Errorf("%d %s", answer.status, answer.body)
	}
}

// Redis goes away: who was validated lately goes on for half a minute, nobody signs
// in, and nobody is signed out by it.
func TestRedisIsDown(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	address := startRedis(t)
	g := start(t, setup{options: "store redis " + address + "\nseal_key AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="})
	token, cold := g.login(programA, "alice"), g.login(programA, "bob")
	// The gateway hears of its own writes, too, and reads what it wrote once more.
	eventually(t, "the session is warm", func() bool {
		before := g.metric("caddy_miniprogram_cache_hits_total")
		for range 5 {
			g.get("/", bearer(token))
		}
		return g.metric("caddy_miniprogram_cache_hits_total") == before+5
	})
	if err := exec.Command("redis-cli", "-u", "redis://"+address, "shutdown", "nosave").Run(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "logins are refused", func() bool {
		return g.post("/miniprogram/login", g.loginBody(programA, "carol")).word() == "store_unavailable"
	})
	if a := g.get("/", bearer(token)); a.status != http.StatusOK {
		t.Errorf("who is signed in: %d %s", a.status, a.body)
	}
	g.get("/", bearer(cold+"x")).expect(t, http.StatusUnauthorized, "session_invalid")
}

// Nodes that make a key each would refuse each other's sessions, one by one.
func TestRedisNeedsASealKey(t *testing.T) {
	g := start(t, setup{})
	err := g.reload(setup{options: "store redis 127.0.0.1:1"})
	if err == nil || !strings.Contains(err.Error(), "seal_key is required") {
		t.Errorf("loaded: %v", err)
	}
}
