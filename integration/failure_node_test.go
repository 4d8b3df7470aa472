// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/chaos/redisserver"
)

// One of two machines dies with sign-ins under way. Whoever was told that he is
// signed in is so on the other one, at once; whoever was not told is answered when
// his phone sends the code again to the other one.
func TestFailureNodeKilled(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	server := redisServer(t)
	shared := setup{options: inRedis(server.Address)}
	g, other := startTwo(t, shared, shared)
	const clients = 50
	var acknowledged, unanswered sync.Map // token, or code, to user
	var count atomic.Int64
	var busy sync.WaitGroup
	for i := range clients {
		busy.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			for n := 0; ; n++ {
				user := fmt.Sprintf("user-%d-%d", i, n)
				code, err := g.platform.Login(programA, user)
				if err != nil {
					t.Error(err)
					return
				}
				token, err := tryLogin(client, g.address, programA, code)
				if err != nil {
					unanswered.Store(code, user)
					return
				}
				acknowledged.Store(token, user)
				count.Add(1)
			}
		})
	}
	eventually(t, "logins are under way", func() bool { return count.Load() > 3*clients })
	g.kill()
	killed := time.Now()
	busy.Wait()
	acknowledged.Range(func(token, user any) bool {
		other.served(fmt.Sprint(token), fmt.Sprint(user))
		return !t.Failed()
	})
	var good, spent atomic.Int64
	unanswered.Range(func(code, user any) bool {
		busy.Go(func() {
			// While the dead one counts as alive, another one waits for it.
			a := other.post("/miniprogram/login", fmt.Sprintf(`{"program":%q,"code":%q}`, programA, code))
			switch {
			case a.status == http.StatusOK:
				good.Add(1)
				other.served(other.token(a), fmt.Sprint(user))
			case a.status == http.StatusUnauthorized && a.word() == "code_used":
				spent.Add(1)
			default:
				t.Errorf("a code that was sent again: %d %s", a.status, a.body)
			}
		})
		return true
	})
	busy.Wait()
	t.Logf("%d acknowledged; of the codes without an answer %d were good and %d spent, the last known %v after the kill",
		count.Load(), good.Load(), spent.Load(), time.Since(killed).Round(100*time.Millisecond))
	eventually(t, "the dead one is given up", func() bool { return other.metric("caddy_miniprogram_gateways") == 1 })
	since := time.Now()
	g.run()
	g.recovered(since)
	acknowledged.Range(func(token, user any) bool {
		g.served(fmt.Sprint(token), fmt.Sprint(user))
		return !t.Failed()
	})
	eventually(t, "they know of each other", func() bool { return other.metric("caddy_miniprogram_gateways") == 2 })
}

// Half of the machines have a configuration that the others do not have yet: each
// goes by its own, none takes from the user what the other gives, and nobody is
// taken for somebody else.
func TestFailureHalfOnOldConfig(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	server := redisServer(t)
	old := setup{options: inRedis(server.Address)}
	a, b := startTwo(t, old, old)
	token := a.login(programA, "alice")
	b.served(token, "alice")

	changed := old
	changed.options += "\nsession {\nlifetime 3s\n}\n" + withAlipay
	if err := b.reload(changed); err != nil {
		t.Fatal(err)
	}
	stranger := b.login(programC, "dave")
	b.get("/", bearer(stranger)).expectStatus(t, http.StatusOK)
	a.get("/", bearer(stranger)).expect(t, 403, "program_not_allowed")
	a.post("/miniprogram/login", a.loginBody(programC, "dave")).expect(t, 400, "unknown_program")
	eventually(t, "the stricter one refuses a session that is too old for it", func() bool {
		return b.get("/", bearer(token)).word() == "session_expired"
	})
	b.counts(requestsExpired)
	a.served(token, "alice") // and the other one does not
	again := b.login(programA, "alice")
	a.served(again, "alice")

	since := time.Now()
	if err := a.reload(changed); err != nil {
		t.Fatal(err)
	}
	for _, g := range []*gateway{a, b} {
		g.recovered(since)
		g.logs("mini-program gateway is ready")
		g.get("/", bearer(token)).expect(t, 401, "session_expired")
		g.get("/", bearer(b.login(programC, "dave"))).expectStatus(t, http.StatusOK)
	}
}
