// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/chaos/redisserver"
	"github.com/minigate/minigate/integration/chaos/toxic"
)

// Each row of docs/failure-modes.md has a test that is named there, and does with
// real processes what the row says. They wait for time-outs most of the time, and
// so run side by side.

// Metrics that move when something fails.
const (
	loginsWithoutStore    = `caddy_miniprogram_logins_total{platform="wechat",program="` + programA + `",result="store_unavailable"}`
	loginsWithoutPlatform = `caddy_miniprogram_logins_total{platform="wechat",program="` + programA + `",result="platform_unavailable"}`
	requestsWithoutStore  = `caddy_miniprogram_sessions_validated_total{result="store_unavailable"}`
	requestsExpired       = `caddy_miniprogram_sessions_validated_total{result="session_expired"}`
	requestsInvalid       = `caddy_miniprogram_sessions_validated_total{result="session_invalid"}`
	breakerOfProgramA     = `caddy_miniprogram_breaker_state{platform="wechat",program="` + programA + `"}`
)

// redisServer starts a Redis server that ends with the test.
func redisServer(t *testing.T, options ...string) *redisserver.Server {
	t.Helper()
	s, err := redisserver.Start(t.TempDir(), nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// redisDo does a command, whose answer begins with want.
func redisDo(t *testing.T, s *redisserver.Server, want string, command ...string) {
	t.Helper()
	if err := s.Must(want, command...); err != nil {
		t.Fatal(err)
	}
}

// proxied returns a network to target that goes wrong on demand.
func proxied(t *testing.T, target string) *toxic.Proxy {
	t.Helper()
	p, err := toxic.Listen(target, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// inRedis is the option for sessions in the Redis at address. All gateways that
// have it have the same seal key.
func inRedis(address string, more ...string) string {
	return "store redis " + address + " {\n" + strings.Join(more, "\n") + "\n}\nseal_key " + sealKey('a')
}

// startTwo starts two gateways on one platform.
func startTwo(t *testing.T, first, second setup) (a, b *gateway) {
	t.Helper()
	a, b = start(t, first), prepare(t, second)
	b.platform, b.platURL = a.platform, a.platURL
	b.run()
	return a, b
}

// warm waits until a session is answered for from memory. A gateway hears of its
// own writes, too, and reads what it wrote once more.
func (g *gateway) warm(token string) {
	g.t.Helper()
	eventually(g.t, "the session is warm", func() bool {
		before := g.metric("caddy_miniprogram_cache_hits_total")
		for range 5 {
			g.get("/", bearer(token)).expectStatus(g.t, http.StatusOK)
		}
		return g.metric("caddy_miniprogram_cache_hits_total") == before+5
	})
}

// served fails the test unless a request with this token is served as user's.
func (g *gateway) served(token, user string) {
	g.t.Helper()
	a := g.get("/", bearer(token))
	if got := identities(a.body, "X-User-Openid"); a.status != http.StatusOK || len(got) != 1 || got[0] != g.openID(programA, user) {
		g.t.Errorf("%s is answered %d %s", user, a.status, a.body)
	}
}

// tryLogin tries to sign a user in of program A.
func (g *gateway) tryLogin(user string) answer {
	g.t.Helper()
	return g.post("/miniprogram/login", g.loginBody(programA, user))
}

// logs waits until a message is in the gateway's log.
func (g *gateway) logs(message string) {
	g.t.Helper()
	eventually(g.t, "the log says "+message, func() bool { return strings.Contains(g.log.String(), `"msg":"`+message+`"`) })
}

// counts fails the test unless a metric has moved from zero.
func (g *gateway) counts(line string) {
	g.t.Helper()
	if g.metric(line) == 0 {
		g.t.Errorf("%s does not move", line)
	}
}

// recovered waits until users can sign in again, and what they get is good, and
// says how long that took since the cause was removed.
func (g *gateway) recovered(since time.Time) {
	g.t.Helper()
	for n := 0; ; n++ {
		a := g.tryLogin(fmt.Sprint("back-", n))
		if a.status == http.StatusOK {
			g.served(g.token(a), fmt.Sprint("back-", n))
			break
		}
		if a.status != http.StatusServiceUnavailable || time.Since(since) > patience {
			g.t.Fatalf("%v after the cause is gone: %d %s\n%s", time.Since(since), a.status, a.body, g.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
	g.t.Logf("back %v after the cause was gone", time.Since(since).Round(10*time.Millisecond))
}

// refusesToLoad fails the test unless a configuration is refused with an error that
// has these words, and everything is as it was.
func (g *gateway) refusesToLoad(s setup, words ...string) {
	g.t.Helper()
	token := g.login(programA, "whoever")
	err := g.reload(s)
	if err == nil {
		g.t.Fatal("it is loaded")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			g.t.Errorf("the error does not say %q: %v", word, err)
		}
	}
	g.served(token, "whoever")
	g.login(programA, "whoever else")
}
