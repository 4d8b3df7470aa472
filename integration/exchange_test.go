// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/simulator"
)

// inline is the header line of a request that signs its user in on the way.
func inline(program, code string) string {
	return `Authorization: MiniProgram program="` + program + `", code="` + code + `"`
}

// 40163, "code been used", is the complaint that server developers post most:
// effects that run twice, two endpoints with one code, requests that the
// network stack sends again. A thousand posts of one code are one exchange.
func TestOneExchangeForAThousandPosts(t *testing.T) {
	g := start(t, setup{})
	if err := g.platform.SetFault(simulator.Fault{Kind: simulator.FaultSlow, Delay: 300 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	const posts = 1000
	body := g.loginBody(programA, "alice")
	tokens := make(chan string, posts)
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			for range posts / 50 {
				tokens <- g.token(g.post("/miniprogram/login", body))
			}
		})
	}
	clients.Wait()
	close(tokens)
	distinct := make(map[string]int)
	for token := range tokens {
		distinct[token]++
	}
	if len(distinct) != 1 {
		t.Errorf("%d different answers", len(distinct))
	}
	if n := g.platform.Calls().Total; n != 1 {
		t.Errorf("%d calls to the platform", n)
	}
}

// T34: a code is no use to another client, at once or later, and after the ten
// seconds in which its own client may repeat itself the platform refuses it.
func TestReplayedCode(t *testing.T) {
	g := start(t, setup{global: "servers {\ntrusted_proxies static 127.0.0.1/32\n}"})
	from := func(address string) string { return "X-Forwarded-For: " + address }
	body := g.loginBody(programA, "alice")
	first := g.token(g.post("/miniprogram/login", body, from("192.0.2.1")))
	if again := g.token(g.post("/miniprogram/login", body, from("192.0.2.1"))); again != first {
		t.Error("the repetition got another session")
	}
	g.post("/miniprogram/login", body, from("192.0.2.2")).expect(t, 401, "code_used")
	g.post("/miniprogram/login", strings.ReplaceAll(body, programA, programB), from("192.0.2.1")).expect(t, 401, "code_invalid")
	eventually(t, "the answer is forgotten", func() bool {
		return g.post("/miniprogram/login", body, from("192.0.2.1")).status != http.StatusOK
	})
	g.post("/miniprogram/login", body, from("192.0.2.1")).expect(t, 401, "code_used")
}

// The user who closes the mini-program while it signs in has not lost his code:
// the exchange goes on, and the repetition finds its answer.
func TestClientGivesUpDuringExchange(t *testing.T) {
	g := start(t, setup{})
	if err := g.platform.SetFault(simulator.Fault{Kind: simulator.FaultSlow, Delay: 500 * time.Millisecond, Times: 1}); err != nil {
		t.Fatal(err)
	}
	body := g.loginBody(programA, "alice")
	client := &http.Client{Timeout: 100 * time.Millisecond}
	if _, err := client.Post("http://"+g.address+"/miniprogram/login", "application/json", strings.NewReader(body)); err == nil {
		t.Fatal("the client did not give up")
	}
	g.token(g.post("/miniprogram/login", body))
	if n := g.platform.Calls().Total; n != 1 {
		t.Errorf("%d calls to the platform", n)
	}
}

// Many users at once get their own session each: T33.
func TestParallelLoginsKeepUsersApart(t *testing.T) {
	g := start(t, setup{})
	var users sync.WaitGroup
	for i := range 64 {
		users.Go(func() {
			program, user := []string{programA, programB}[i%2], "user-"+strings.Repeat("x", i/2)
			token := g.login(program, user)
			a := g.get("/", bearer(token))
			got := identities(a.body, "X-User-Openid")
			if len(got) != 1 || got[0] != g.openID(program, user) || identities(a.body, "X-User-Program")[0] != program {
				t.Errorf("%s of %s is %q", user, program, got)
			}
		})
	}
	users.Wait()
}

// One round trip for a cold start: the request that brings the code is served,
// and the answer brings the token.
func TestInlineExchange(t *testing.T) {
	g := start(t, setup{directive: "public {\npath /public\n}"})
	a := g.get("/orders?header=Authorization:+Bearer+evil&header=Cache-Control:+public", inline(programA, g.code(programA, "alice")))
	if a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if got := identities(a.body, "X-User-Openid"); len(got) != 1 || got[0] != g.openID(programA, "alice") {
		t.Errorf("X-User-Openid is %q", got)
	}
	if strings.Contains(a.body, "MiniProgram") {
		t.Error("the upstream was shown the code")
	}
	lines := a.header.Values("Authorization")
	token, ok := strings.CutPrefix(strings.Join(lines, " "), "Bearer ")
	if !ok || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("Authorization is %q, Cache-Control %q", lines, a.header.Values("Cache-Control"))
	}
	if a := g.get("/orders", bearer(token)); a.status != http.StatusOK || a.header.Get("Authorization") != "" {
		t.Errorf("the token: %d %s", a.status, a.body)
	}

	a = g.get("/miniprogram/session", inline(programA, g.code(programA, "bob")))
	if a.status != http.StatusOK || !strings.Contains(a.body, g.openID(programA, "bob")) || a.header.Get("Authorization") == "" {
		t.Errorf("at an endpoint: %d %s", a.status, a.body)
	}
	if a = g.get("/public", inline(programA, "badcode")); a.status != http.StatusOK || identities(a.body, "Authorization") != nil {
		t.Errorf("bad code on a public route: %d %s", a.status, a.body)
	}
	g.get("/orders", inline(programA, "badcode")).expect(t, 401, "code_invalid")
	g.post("/miniprogram/login", g.loginBody(programA, "alice"), inline(programA, g.code(programA, "alice"))).
		expect(t, 400, "ambiguous_credentials")
}

// A program that the client does not name is the only one of the site, or the
// one that the Referer names, if it is allowed.
func TestProgramIsFound(t *testing.T) {
	g := start(t, setup{})
	unnamed := func(program string) string { return `{"code":"` + g.code(program, "alice") + `"}` }
	referer := func(program string) string {
		return "Referer: https://servicewechat.com/" + program + "/12/page-frame.html"
	}
	g.post("/miniprogram/login", unnamed(programA)).expect(t, 400, "unknown_program")
	g.post("/miniprogram/login", unnamed(programA), referer("wxunknown")).expect(t, 400, "unknown_program")
	g.token(g.post("/miniprogram/login", unnamed(programB), referer(programB)))
	g.post("/miniprogram/login", unnamed(programA), referer(programB)).expect(t, 401, "code_invalid")

	sole := start(t, setup{directive: "programs " + programA})
	sole.token(sole.post("/miniprogram/login", `{"code":"`+sole.code(programA, "alice")+`"}`))
}

// A flood of sign-ins from one address is stopped before it reaches the
// platform, and others sign in meanwhile: T15, T35.
func TestLoginLimit(t *testing.T) {
	g := start(t, setup{
		directive: "login_limit 5 10m",
		global:    "servers {\ntrusted_proxies static 127.0.0.1/32\n}",
	})
	from := func(address string) string { return "X-Forwarded-For: " + address }
	for range 5 {
		g.post("/miniprogram/login", `{"program":"`+programA+`","code":"guess"}`, from("2001:db8::1")).expect(t, 401, "code_invalid")
	}
	before := g.platform.Calls().Total
	a := g.post("/miniprogram/login", g.loginBody(programA, "alice"), from("2001:db8::2"))
	a.expect(t, 429, "rate_limited")
	checkErrorForm(t, a)
	g.get("/", inline(programB, g.code(programB, "alice")), from("2001:db8::3")).expect(t, 429, "rate_limited")
	if g.platform.Calls().Total != before {
		t.Error("the platform was called")
	}
	g.login(programA, "alice", from("2001:db8:0:1::1"))
	g.login(programA, "bob", from("192.0.2.1"))
}
