// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// startLive starts a gateway in front of an app that talks.
func startLive(t *testing.T, s setup) (*gateway, *liveApp) {
	t.Helper()
	app := startLiveApp(t)
	s.routes += "\nreverse_proxy " + app.address
	return start(t, s), app
}

// logout signs a session out.
func (g *gateway) logout(token string) {
	g.t.Helper()
	g.post("/miniprogram/logout", "", bearer(token)).expectStatus(g.t, http.StatusNoContent)
}

// ended fails the test unless the app's connection of this name ends.
func (a *liveApp) ended(t *testing.T, name string) {
	t.Helper()
	eventually(t, "the app notices that "+name+" is gone", func() bool { return a.count(name) == 0 })
}

// closed returns how many connections the gateway ended for a reason.
func (g *gateway) closed(reason string) float64 {
	g.t.Helper()
	return g.metric(`caddy_miniprogram_connections_closed_total{reason="` + reason + `"}`)
}

// Whoever stole a phone, or its session, keeps what is open: with other gateways a
// WebSocket goes on for as long as he likes after the user has signed out. Here it
// is closed, however it was opened, and whatever stands around the proxy.
func TestLogoutClosesWebSockets(t *testing.T) {
	for name, s := range map[string]setup{
		"plain":  {},
		"logged": {routes: "log {\noutput file DIR/access.log\n}\nencode"},
		"public": {directive: "public {\npath /ws\n}"},
	} {
		t.Run(name, func(t *testing.T) {
			g, app := startLive(t, s)
			token := g.login(programA, "alice")
			ws := g.dialWebSocket("name=alice", bearer(token), wsFrame(1, []byte("early"), true)...)
			ws.hears("early")
			ws.lives("hello")
			if open := g.metric("caddy_miniprogram_connections_open"); open != 1 {
				t.Errorf("%v connections are open", open)
			}
			g.logout(token)
			ws.isClosed(4401, "session_revoked")
			app.ended(t, "alice")
			if heard := app.heard("alice"); !slices.Equal(heard, []string{"early", "hello"}) {
				t.Errorf("the app heard %q", heard)
			}
			if closed, open := g.closed("session_revoked"), g.metric("caddy_miniprogram_connections_open"); closed != 1 || open != 0 {
				t.Errorf("%v connections closed, %v open", closed, open)
			}

			// The same, if the session began with the request.
			ws = g.dialWebSocket("name=bob", inline(programA, g.code(programA, "bob")))
			ws.lives("hello")
			g.post("/miniprogram/logout", `{"everywhere":true}`, inline(programA, g.code(programA, "bob"))).expectStatus(t, http.StatusNoContent)
			ws.isClosed(4401, "session_revoked")
			app.ended(t, "bob")

			// Who closes it himself is no business of the gateway's.
			ws = g.dialWebSocket("name=carol", bearer(g.login(programA, "carol")))
			if _, err := ws.Write(wsFrame(8, []byte{0x03, 0xe8}, true)); err != nil {
				t.Fatal(err)
			}
			ws.closesWith(1000, "")
			ws.ends()
			app.ended(t, "carol")
			eventually(t, "no connection is open", func() bool { return g.metric("caddy_miniprogram_connections_open") == 0 })
			if closed := g.closed("session_revoked"); closed != 2 {
				t.Errorf("%v connections closed", closed)
			}
		})
	}
}

// A session ends in many ways, and takes what it opened with it; other sessions of
// the same user, and other users, notice nothing.
func TestEveryEndOfASessionCloses(t *testing.T) {
	g, app := startLive(t, setup{options: "session {\nper_user 2\n}"})
	for name, end := range map[string]func(token string){
		"logout":   g.logout,
		"replaced": func(token string) { g.login(programA, "user of replaced", bearer(token)) },
		"pushed out": func(string) {
			g.login(programA, "user of pushed out")
			g.login(programA, "user of pushed out")
		},
		"erased": func(token string) {
			g.post("/miniprogram/profile/delete", "", bearer(token)).expectStatus(t, http.StatusNoContent)
		},
		"erased by the operator": func(string) {
			if a := g.askUser("erase", programA, g.openID(programA, "user of erased by the operator")); a.status != http.StatusOK && a.status != http.StatusNoContent {
				t.Fatalf("%d %s", a.status, a.body)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g.t = t
			user := "user of " + name
			token := g.login(programA, user)
			bob := g.dialWebSocket("name=bob", bearer(g.login(programA, "bob of "+name)))
			ws := g.dialWebSocket("name=alice", bearer(token))
			second := g.dialWebSocket("name=alice", bearer(token))
			ws.lives("hello")
			second.lives("hello")
			var other *webSocket
			if name == "logout" || name == "replaced" {
				other = g.dialWebSocket("name=tablet", bearer(g.login(programA, user)))
			}
			end(token)
			ws.isClosed(4401, "session_revoked")
			second.isClosed(4401, "session_revoked")
			app.ended(t, "alice")
			bob.lives("still there")
			bob.Close()
			if other != nil {
				other.lives("still there")
				other.Close()
			}
		})
	}
	g.t = t
}

// Revocation must be seen within a second on every node, open WebSockets included.
func TestLogoutOnAnotherNodeClosesWebSockets(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	app := startLiveApp(t)
	redis := startRedis(t)
	s := setup{
		options: "store redis " + redis + "\nseal_key AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
		routes:  "reverse_proxy " + app.address,
	}
	a, b := start(t, s), start(t, s)
	var took, whole []time.Duration
	for i := range 30 {
		token := a.login(programA, fmt.Sprint("user-", i))
		ws := b.dialWebSocket("name=b", bearer(token))
		ws.lives("hello")
		ended := make(chan time.Time, 1)
		go func() {
			code, _, err := ws.readClose()
			if err != nil || code != 4401 {
				t.Errorf("closed with %d, %v", code, err)
			}
			ended <- time.Now()
			ws.Close()
		}()
		begun := time.Now()
		a.logout(token)
		answered, closed := time.Now(), <-ended
		took, whole = append(took, max(0, closed.Sub(answered))), append(whole, closed.Sub(begun))
	}
	slices.Sort(took)
	slices.Sort(whole)
	t.Logf("closed on the other node %s after the answer to the logout in the middle, %s at most; after it was asked for, %s and %s",
		took[len(took)/2], took[len(took)-1], whole[len(whole)/2], whole[len(whole)-1])
	if worst := took[len(took)-1]; worst > time.Second {
		t.Errorf("a WebSocket was closed %s after its session", worst)
	}
	app.ended(t, "b")
}

// A close frame that lands inside another frame is a protocol error to the client,
// which then reconnects instead of signing in.
func TestFramesStayWhole(t *testing.T) {
	g, app := startLive(t, setup{})
	for _, size := range []int{1, 125, 126, 4_000, 65_535, 65_536, 1_000_000, 5_000_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			g.t = t
			token := g.login(programA, fmt.Sprint("user-", size))
			ws := g.dialWebSocket(fmt.Sprint("name=flood&flood=", size), bearer(token))
			if _, _, err := readFrame(ws.reader); err != nil {
				t.Fatal(err)
			}
			var busy sync.WaitGroup
			busy.Go(func() { g.logout(token) })
			ws.closesWith(4401, "session_revoked")
			ws.ends()
			busy.Wait()
			app.ended(t, "flood")
		})
	}
	g.t = t
}

// An upstream that hangs in the middle of a frame, and a client that reads nothing,
// do not keep the connection open.
func TestStuckWebSocketsAreClosed(t *testing.T) {
	g, app := startLive(t, setup{})
	token := g.login(programA, "alice")
	half := g.dialWebSocket("name=half&half", bearer(token))
	deaf := g.dialWebSocket("name=deaf&flood=65000", bearer(token))
	eventually(t, "both are open", func() bool { return g.metric("caddy_miniprogram_connections_open") == 2 })
	g.logout(token)
	if code, _, err := half.readClose(); err == nil {
		t.Errorf("half way through a frame, it is closed with %d", code)
	}
	app.ended(t, "half")
	app.ended(t, "deaf")
	deaf.Close()
	if closed := g.closed("session_revoked"); closed != 2 {
		t.Errorf("%v connections closed", closed)
	}
}

// An answer that ends by itself is not cut: a download goes on, also after the
// user has signed out.
func TestAnswersInFlightAreNotCut(t *testing.T) {
	g, app := startLive(t, setup{})
	token := g.login(programA, "alice")
	body := make(chan answer, 1)
	go func() { body <- g.get("/slow?name=slow", bearer(token)) }()
	eventually(t, "the download has begun", func() bool { return app.count("slow") == 1 })
	ws := g.dialWebSocket("name=alice", bearer(token))
	g.logout(token)
	ws.isClosed(4401, "session_revoked")
	close(app.more)
	if a := <-body; a.status != http.StatusOK || len(a.body) != 200_000 {
		t.Errorf("%d, %d bytes", a.status, len(a.body))
	}
}

// A session reaches its end while a WebSocket is open; but as long as it is open
// the session is in use.
func TestLifetimeOfOpenConnections(t *testing.T) {
	g, app := startLive(t, setup{options: "session {\nlifetime 6s\nidle 2s\n}"})
	begun := time.Now()
	unused, token := g.login(programA, "alice"), g.login(programA, "alice")
	ws := g.dialWebSocket("name=alice", bearer(token))
	eventually(t, "the session without a connection is idle for too long", func() bool {
		return time.Since(begun) > 4*time.Second && g.get("/", bearer(unused)).word() == "session_expired"
	})
	ws.lives("still there")
	if a := g.get("/", bearer(token)); a.status == http.StatusUnauthorized {
		t.Errorf("the session with a connection: %s", a.body)
	}
	ws.isClosed(4401, "session_expired")
	if lasted := time.Since(begun); lasted < 5*time.Second || lasted > 8*time.Second {
		t.Errorf("closed %s after the login", lasted)
	}
	app.ended(t, "alice")
	if closed := g.closed("session_expired"); closed != 1 {
		t.Errorf("%v connections closed", closed)
	}
}

// Redis goes away: what is open goes on at first, as requests do. (How it goes on
// from there: TestStoreIsAway in package module.)
func TestOpenConnectionsWithoutRedis(t *testing.T) {
	if !installed(t, "redis-server", "redis-cli") {
		return
	}
	redis := startRedis(t)
	g, app := startLive(t, setup{options: "store redis " + redis + "\nseal_key AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="})
	ws := g.dialWebSocket("name=alice", bearer(g.login(programA, "alice")))
	ws.lives("hello")
	stopRedis(t, redis)
	eventually(t, "logins are refused", func() bool {
		return g.post("/miniprogram/login", g.loginBody(programA, "carol")).word() == "store_unavailable"
	})
	ws.lives("still there")
	ws.Close()
	app.ended(t, "alice")
}

// Hundreds of users are signed out at once: all that they had open is closed, and
// nothing is left of it.
func TestManyOpenConnections(t *testing.T) {
	const users = 200
	g, app := startLive(t, setup{})
	goroutines := func() (n int) {
		dump, err := g.admin(http.MethodGet, "/debug/pprof/goroutine?debug=1", "", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscanf(dump, "goroutine profile: total %d", &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	tokens := make([]string, users)
	for i := range tokens {
		tokens[i] = g.login(programA, fmt.Sprint("user-", i))
	}
	warm := g.dialWebSocket("name=many", bearer(tokens[0]))
	warm.lives("hello")
	warm.Close()
	app.ended(t, "many")
	eventually(t, "it is closed", func() bool { return g.metric("caddy_miniprogram_connections_open") == 0 })
	before := goroutines()

	var busy sync.WaitGroup
	sockets := make([]*webSocket, users)
	for i, token := range tokens {
		sockets[i] = g.dialWebSocket("name=many", bearer(token))
	}
	eventually(t, "all are open", func() bool { return g.metric("caddy_miniprogram_connections_open") == users })
	for _, token := range tokens {
		busy.Go(func() { g.logout(token) })
	}
	for _, ws := range sockets {
		busy.Go(func() {
			if code, reason, err := ws.readClose(); err != nil || code != 4401 || reason != "session_revoked" {
				t.Errorf("closed with %d %q, %v", code, reason, err)
			}
			ws.Close()
		})
	}
	busy.Wait()
	app.ended(t, "many")
	if closed := g.closed("session_revoked"); closed != users {
		t.Errorf("%v connections closed", closed)
	}
	var after int
	eventually(t, "goroutines are as before", func() bool {
		after = goroutines()
		return after <= before+2 // an idle connection to the app
	})
	t.Logf("%d goroutines before, %d after", before, after)
}

// A connection that outlives the configuration it came by ends with its session all
// the same; one that the next configuration would refuse ends with the reload; and
// a configuration that fails to load has no say.
func TestOpenConnectionsAcrossReloads(t *testing.T) {
	app := startLiveApp(t)
	with := func(options, delay string) setup {
		return setup{options: options, routes: "reverse_proxy " + app.address + " {\nstream_close_delay " + delay + "\n}"}
	}
	const first, second = "seal_key AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "seal_key AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	g := start(t, with(first, "1h"))
	alice, bob := g.login(programA, "alice"), g.login(programA, "bob")
	ws, other := g.dialWebSocket("name=alice", bearer(alice)), g.dialWebSocket("name=bob", bearer(bob))
	ws.lives("hello")
	other.lives("hello")

	broken := with(second, "1h")
	broken.routes += "\n}\nhttp://127.0.0.1:1 {\nbind 192.0.2.1"
	if err := g.reload(broken); err == nil {
		t.Error("the reload succeeds")
	}
	for i := range 3 {
		if err := g.reload(with(first, fmt.Sprint(i+2, "h"))); err != nil {
			t.Fatal(err)
		}
	}
	ws.lives("still there")
	other.lives("still there")
	g.logout(alice)
	ws.isClosed(4401, "session_revoked")
	app.ended(t, "alice")
	other.lives("still there")

	// The key is taken away that vouches for the session.
	if err := g.reload(with(second, "1h")); err != nil {
		t.Fatal(err)
	}
	other.isClosed(4401, "session_invalid")
	app.ended(t, "bob")

	// Nobody can tell any more whether the session goes on.
	ws = g.dialWebSocket("name=carol", bearer(g.login(programA, "carol")))
	ws.lives("hello")
	if err := g.reload(with("store memory\n"+first, "1h")); err != nil {
		t.Fatal(err)
	}
	ws.isClosed(1001, "shutdown")
	app.ended(t, "carol")
	for _, reason := range []string{"session_revoked", "session_invalid", "shutdown"} {
		if closed := g.closed(reason); closed != 1 {
			t.Errorf("%s: %v connections closed", reason, closed)
		}
	}
}
