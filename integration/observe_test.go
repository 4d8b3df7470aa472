// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// metric returns the value of a metric, zero if it is not there.
func (g *gateway) metric(line string) float64 {
	g.t.Helper()
	text, err := g.admin(http.MethodGet, "/metrics", "", "")
	if err != nil {
		g.t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(line) + ` (\S+)$`).FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		g.t.Fatal(err)
	}
	return value
}

// What happens is counted, counters go on across reloads, and no label says who
// a user is.
func TestMetrics(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	g.post("/miniprogram/login", `{"program":"`+programA+`","code":"unknown"}`).expect(t, 401, "code_invalid")
	use := func() {
		g.get("/", bearer(token), "X-User-Id: evil", "X-User-Id~: evil")
		g.get("/", bearer(token+"x"))
	}
	use()
	if err := g.reload(setup{directive: "headers remote_user"}); err != nil {
		t.Fatal(err)
	}
	use()
	for line, want := range map[string]float64{
		`caddy_miniprogram_logins_total{platform="wechat",program="` + programA + `",result="ok"}`:           1,
		`caddy_miniprogram_logins_total{platform="wechat",program="` + programA + `",result="code_invalid"}`: 1,
		`caddy_miniprogram_sessions_validated_total{result="ok"}`:                                            2,
		`caddy_miniprogram_sessions_validated_total{result="session_invalid"}`:                               2,
		`caddy_miniprogram_cache_hits_total`:                                                                 2,
		`caddy_miniprogram_spoof_attempts_total`:                                                             4,
		`caddy_miniprogram_exchange_seconds_count{platform="wechat",program="` + programA + `"}`:             2,
		`caddy_miniprogram_store_seconds_count{op="update"}`:                                                 1,
		`caddy_miniprogram_sessions_active`:                                                                  1,
		`caddy_miniprogram_breaker_state{platform="wechat",program="` + programA + `"}`:                      0,
	} {
		if got := g.metric(line); got != want {
			t.Errorf("%s is %v, want %v", line, got, want)
		}
	}
	text, err := g.admin(http.MethodGet, "/metrics", "", "")
	if err != nil || strings.Contains(text, g.openID(programA, "alice")) {
		t.Errorf("metrics name a user, or %v", err)
	}
}

// T44: what the gateway writes, with debug on, holds no secret, code, token,
// session key or openid; the access log has the user's id in Caddy's own field.
func TestLogsHoldNoSecrets(t *testing.T) {
	g := start(t, setup{global: "debug", routes: "log {\noutput file DIR/access.log\n}\nreverse_proxy UPSTREAM"})
	code := g.code(programA, "alice")
	token := g.token(g.post("/miniprogram/login", `{"program":"`+programA+`","code":"`+code+`"}`))
	second := g.code(programA, "alice")
	g.get("/inline", inline(programA, second))
	key, err := g.platform.SessionKey(programA, "alice")
	if err != nil {
		t.Fatal(err)
	}
	g.get("/", bearer(token))
	g.get("/", bearer(token), bearer(token))
	g.get("/", bearer(token[:len(token)-3]))
	g.post("/miniprogram/login", `{"program":"`+programA+`","code":"`+code+`x"}`)
	g.post("/miniprogram/logout", `{"everywhere":true}`, bearer(token))
	g.get("/", bearer(token))
	g.stop()
	access, err := os.ReadFile(g.dir + "/access.log")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := os.ReadFile(g.dir + "/sessions.db")
	if err != nil {
		t.Fatal(err)
	}
	openID := g.openID(programA, "alice")
	if !strings.Contains(string(access), `"user_id":"`+openID+`"`) {
		t.Errorf("the access log does not say who it was:\n%s", access)
	}
	withoutID := strings.ReplaceAll(string(access), `"user_id":"`+openID+`"`, "")
	for what, canary := range map[string]string{
		"secret": secretA, "code": code, "second code": second, "token": token, "start of token": token[:len(token)-10],
		"session key": key, "openid": openID,
	} {
		for where, text := range map[string]string{"log": g.log.String(), "access log": withoutID, "store": string(stored)} {
			if allowed := where == "log" && upstreamSays(text, canary); strings.Contains(text, canary) && !allowed {
				t.Errorf("the %s is in the %s", what, where)
			}
		}
	}
}

// upstreamSays reports whether a debug log holds text only in what Caddy's
// proxy says about its own request to the upstream, which is told who the user
// is.
func upstreamSays(log, text string) bool {
	for line := range strings.SplitSeq(log, "\n") {
		if strings.Contains(line, text) && !strings.Contains(line, `"logger":"http.handlers.reverse_proxy"`) {
			return false
		}
	}
	return true
}
