// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/simulator"
)

// One node has become too few. The store is copied to Redis while people sign in
// and out, then the configuration with Redis is loaded while they do: nobody is
// signed out who was told that he is signed in, nobody is signed in who signed out.
func TestMigrateUnderLoad(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	onFile := setup{options: "store file DIR/sessions.db\nseal_key " + sealKey('a')}
	onRedis := setup{options: inRedis(startRedis(t))}
	there := func(t *testing.T, from, to setup, flags ...string) {
		g := start(t, from)
		c, began := gather(g), time.Now()
		c.progress(200)
		m := g.migrated(append(flags, g.configFile("old", from), g.configFile("new", to))...)
		t.Logf("%+v", m)
		if m.State != "following" || m.Counts.Verified == 0 {
			t.Errorf("it says %+v", m)
		}
		c.progress(200)
		if now := g.migrationState(); now.State != "following" || now.Counts.Followed == 0 {
			t.Errorf("while it follows: %+v", now)
		}
		if err := g.reload(to); err != nil {
			t.Fatal(err)
		}
		c.progress(200)
		c.stop()
		took := time.Since(began)
		lost, undead := c.count(t, g)
		// What counts is what the new store has, not what the gateway remembers.
		g.stop()
		g.setup = to
		g.run()
		lostThen, undeadThen := c.count(t, g)
		c.report(t, lost+lostThen, undead+undeadThen, took)
		if g.migrationState().State != "none" {
			t.Errorf("after a restart: %+v", g.migrationState())
		}
	}
	t.Run("there", func(t *testing.T) { there(t, onFile, onRedis) })
	// And back, on one node: what is in Redis is copied to a file.
	t.Run("back", func(t *testing.T) { there(t, onRedis, onFile, "--live") })
}

// While the new configuration serves already, the one before answers its last
// requests, and both write the record of one user. Neither may undo what the other
// has acknowledged.
func TestMigrateWithRequestsOfBothConfigurations(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	both := func(t *testing.T, from, to setup, flags ...string) {
		from.directive, to.directive = "header X-Round one-{http.auth.user.program}", "header X-Round two-{http.auth.user.program}"
		g := start(t, from)
		leaving, replaced := g.login(programA, "alice"), g.login(programA, "alice")
		g.migrated(append(flags, g.configFile("old", from), g.configFile("new", to))...)
		if err := g.platform.SetFault(simulator.Fault{Kind: simulator.FaultSlow, Delay: 3 * time.Second, Times: 1}); err != nil {
			t.Fatal(err)
		}
		body := g.loginBody(programA, "alice")
		g.platform.ResetCalls()
		slow, reloaded := make(chan answer, 1), make(chan error, 1)
		go func() { slow <- g.post("/miniprogram/login", body, bearer(replaced)) }()
		eventually(t, "the exchange is under way", func() bool { return g.platform.Calls().Total == 1 })
		go func() { reloaded <- g.reload(to) }()
		eventually(t, "the new configuration serves", func() bool {
			return strings.HasPrefix(strings.Join(identities(g.get("/", bearer(leaving)).body, "X-Round"), ""), "two")
		})
		fast := g.login(programA, "alice")
		g.post("/miniprogram/logout", "", bearer(leaving)).expectStatus(t, http.StatusNoContent)
		for range 3 { // it is warm
			g.get("/", bearer(replaced)).expectStatus(t, http.StatusOK)
		}
		select {
		case <-slow:
			t.Fatal("the slow request was too fast for this test")
		default:
		}
		late := g.token(<-slow)
		check := func(when string) {
			t.Helper()
			for what, token := range map[string]string{"signed in at the new one": fast, "signed in at the one before": late} {
				if a := g.get("/", bearer(token)); a.status != http.StatusOK {
					t.Errorf("%s: who has %s is answered %d %s", when, what, a.status, a.body)
				}
			}
			for what, token := range map[string]string{"signed out at the new one": leaving, "been replaced at the one before": replaced} {
				if a := g.get("/", bearer(token)); a.word() != "session_revoked" {
					t.Errorf("%s: who has %s is answered %d %s", when, what, a.status, a.body)
				}
			}
		}
		check("at once")
		if err := <-reloaded; err != nil {
			t.Fatal(err)
		}
		g.stop()
		g.setup = to
		g.run()
		check("after a restart")
	}
	onFile, onRedis := setup{options: "store file DIR/sessions.db\nseal_key " + sealKey('a')}, setup{options: inRedis(startRedis(t))}
	t.Run("file to redis", func(t *testing.T) { both(t, onFile, onRedis) })
	t.Run("redis to file", func(t *testing.T) { both(t, onRedis, onFile, "--live") })
}
