// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/minigate/minigate/module/identity"
)

// guarded is a gateway with every preset and a route of every kind.
func guarded(t *testing.T) *gateway {
	t.Helper()
	return start(t, setup{
		options: withAlipay,
		directive: `headers user cloudrun remote_user forwarded_user
		header X-Tenant {http.auth.user.program}
		public {
			path /public/*
		}`,
		routes: `reverse_proxy UPSTREAM
		handle_errors 401 {
			reverse_proxy UPSTREAM
		}`,
	})
}

// shown fails the test unless the raw request shows every identity header as
// the gateway proved it: want for those named in it, nothing for the others.
func shown(t *testing.T, raw string, want map[string]string) {
	t.Helper()
	for _, name := range append(identity.HeaderNames(), "X-Tenant") {
		values := identities(raw, name)
		expected, set := want[name]
		switch {
		case !set && len(values) > 0:
			t.Errorf("upstream sees %s: %q, want none\n%s", name, values, raw)
		case set && (len(values) != 1 || (expected != "*" && values[0] != expected)):
			t.Errorf("upstream sees %s: %q, want %q once\n%s", name, values, expected, raw)
		}
	}
	if strings.Contains(raw, "evil") {
		t.Errorf("upstream sees what the client forged:\n%s", raw)
	}
}

// proven is what guarded tells the upstream about a user.
func (g *gateway) proven(program, user string) map[string]string {
	g.t.Helper()
	who, err := g.platform.Identity(program, user)
	if err != nil {
		g.t.Fatal(err)
	}
	platform := "wechat"
	if program == programC {
		platform = "alipay"
	}
	return map[string]string{
		"X-User-Id": who.OpenID, "X-User-Platform": platform, "X-User-Program": program,
		"X-User-Openid": who.OpenID, "X-User-Unionid": who.UnionID,
		"X-Wx-Openid": who.OpenID, "X-Wx-Appid": program, "X-Wx-Unionid": who.UnionID, "X-Wx-Source": "wx_client",
		"X-Wx-Call-Id": "*", "X-Original-Forwarded-For": "127.0.0.1",
		"Remote-User": who.OpenID, "X-Forwarded-User": who.OpenID, "X-Tenant": program,
	}
}

// forgeries are header lines by which a client tries to be somebody: T01, T04,
// T05, T06, T09, T13.
func forgeries() map[string]string {
	lines := map[string]string{
		"folded line": "X-Foo: a\n X-User-Id: folded into X-Foo\n",
		"forwarded":   "X-Forwarded-Uri: /public/x\nX-Original-URL: /public/x\nX-HTTP-Method-Override: GET\n",
	}
	var all, removal strings.Builder
	for _, name := range append(identity.HeaderNames(), "X-Tenant") {
		for _, alias := range []string{
			name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.Replace(name, "-", "_", 1),
			strings.ReplaceAll(name, "-", "."), name + "~", name + "$", strings.Replace(name, "-", "-!", 1), strings.ReplaceAll(name, "-", ""),
			"_" + name, name + "-",
		} {
			fmt.Fprintf(&all, "%s: evil\n", alias)
		}
		fmt.Fprintf(&all, "%s: evil2\n", name)
		fmt.Fprintf(&removal, ", %s ,%s", name, strings.ReplaceAll(name, "-", "_"))
	}
	lines["aliases"] = all.String()
	lines["connection"] = "Connection: close" + removal.String() + "\n"
	lines["connections"] = "Connection: close\nConnection: keep-alive" + removal.String() + "\nconnection: " + strings.ToLower(removal.String()[2:]) + "\n"
	return lines
}

// T01–T06, T09: whatever a client puts into its header, the upstream sees what
// the gateway proved, on a protected route and on a public one.
func TestForgedHeaders(t *testing.T) {
	g := guarded(t)
	for _, program := range []string{programA, programC} {
		t.Run(program, func(t *testing.T) { forgeHeaders(t, g, g.login(program, "alice"), g.proven(program, "alice")) })
	}
}

func forgeHeaders(t *testing.T, g *gateway, token string, proven map[string]string) {
	for name, forged := range forgeries() {
		t.Run(name, func(t *testing.T) {
			a := g.raw("GET /orders HTTP/1.1\nHost: x\n" + forged + bearer(token) + "\n\n")
			if a.status != http.StatusOK {
				t.Fatalf("answer is %d %s", a.status, a.body)
			}
			shown(t, a.body, proven)
			shown(t, g.raw("GET /public/x HTTP/1.1\nHost: x\n"+forged+"\n").body, nil)
			shown(t, g.raw("GET /public/x HTTP/1.1\nHost: x\n"+forged+bearer(token)+"\n\n").body, proven)
			shown(t, g.raw("GET /public/x HTTP/1.1\nHost: x\n"+forged+bearer(token+"x")+"\n\n").body, nil)
			for _, credential := range []string{"", bearer(token+"x") + "\n"} {
				a = g.raw("GET /orders HTTP/1.1\nHost: x\n" + forged + credential + "\n")
				if a.status != http.StatusUnauthorized && !strings.HasPrefix(a.body, "GET /orders") {
					t.Errorf("error route: %d %s", a.status, a.body)
				}
				shown(t, a.body, nil)
				if identities(a.body, "Authorization") != nil {
					t.Errorf("the error route's upstream sees the token:\n%s", a.body)
				}
			}
		})
	}
}

// T07: the same on WebSocket upgrades, where a proxy treats Connection in its
// own way.
func TestForgedUpgrade(t *testing.T) {
	g := guarded(t)
	for _, program := range []string{programA, programC} {
		t.Run(program, func(t *testing.T) { forgeUpgrade(t, g, g.login(program, "alice"), g.proven(program, "alice")) })
	}
}

func forgeUpgrade(t *testing.T, g *gateway, token string, proven map[string]string) {
	for name, forged := range forgeries() {
		if strings.HasPrefix(name, "connection") {
			forged = strings.Replace(forged, "Connection: close", "Connection: Upgrade", 1)
		} else {
			forged += "Connection: Upgrade\n"
		}
		t.Run(name, func(t *testing.T) {
			upgrade := "GET /socket HTTP/1.1\nHost: x\nUpgrade: websocket\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n"
			a := g.raw(upgrade + forged + bearer(token) + "\n\n")
			if a.status != http.StatusSwitchingProtocols {
				t.Fatalf("answer is %d %s", a.status, a.body)
			}
			shown(t, a.body, proven)
			if got := identities(a.body, "Connection"); len(got) != 1 || got[0] != "Upgrade" {
				t.Errorf("Connection is %q", got)
			}
			if a = g.raw(upgrade + forged + "\n"); a.status == http.StatusSwitchingProtocols && !strings.Contains(a.body, "GET /socket") {
				t.Errorf("without a session: %d %s", a.status, a.body)
			}
			shown(t, a.body, nil)
		})
	}
}

// An upstream that lets itself be upgraded to HTTP/2 reads whole requests from
// what a proxy takes for the bytes of a tunnel.
func TestNoOtherUpgrade(t *testing.T) {
	g := guarded(t)
	token := g.login(programA, "alice")
	for _, upgrade := range []string{"h2c", "H2C", "websocket, h2c", "TLS/1.0", "tcp", "websocket\nUpgrade: h2c"} {
		for _, credential := range []string{"", bearer(token) + "\n"} {
			a := g.raw("GET /public/x HTTP/1.1\nHost: x\nConnection: Upgrade, HTTP2-Settings\nUpgrade: " + upgrade +
				"\nHTTP2-Settings: AAMAAABkAAQAAP__\n" + credential + "\n")
			if a.status != http.StatusOK {
				t.Errorf("%s: %d", upgrade, a.status)
			}
			for _, name := range []string{"Upgrade", "Connection", "HTTP2-Settings"} {
				if got := identities(a.body, name); got != nil {
					t.Errorf("%s: upstream sees %s: %q", upgrade, name, got)
				}
			}
		}
	}
}

// A header of one site's own is protected on its neighbours, too: both may lead
// to the same upstream.
func TestSitesShareOneGuard(t *testing.T) {
	g := start(t, setup{caddyfile: `{
	admin unix//DIR/admin.sock
	miniprogram {
		program wechat ` + programA + ` {
			secret ` + secretA + `
			api PLATFORM
		}
		store memory
	}
}
http://a.test:PORT {
	miniprogram {
		header X-Tenant {http.auth.user.program}
	}
	reverse_proxy UPSTREAM
}
http://b.test:PORT {
	miniprogram {
		optional
	}
	reverse_proxy UPSTREAM
}`})
	if a := g.get("/", "Host: b.test", "X-Tenant: evil", "X_Tenant: evil"); a.status != http.StatusOK || strings.Contains(a.body, "evil") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// T13: headers by which some upstreams take another path or method decide
// nothing where the path or the method decided that no session is needed.
func TestNoOverrideOnPublicRoutes(t *testing.T) {
	g := start(t, setup{directive: "public {\npath /public\nmethod GET\n}"})
	overrides := []string{"X-Original-URL: /admin", "X-Rewrite-URL: /admin", "X-HTTP-Method-Override: DELETE", "X-Method-Override: DELETE"}
	a := g.get("/public", overrides...)
	if a.status != http.StatusOK || strings.Contains(a.body, "admin") || strings.Contains(a.body, "DELETE") {
		t.Errorf("%d %s", a.status, a.body)
	}
	a = g.get("/public", append(overrides, bearer(g.login(programA, "alice")))...)
	if !strings.Contains(a.body, "/admin") {
		t.Errorf("with a session: %d %s", a.status, a.body)
	}
}

// T08: trailers become headers on the other side of a proxy, after everything
// was checked; announced or not.
func TestForgedTrailers(t *testing.T) {
	g := guarded(t)
	token := g.login(programA, "alice")
	for name, announced := range map[string]string{
		"announced": "Trailer: X-User-Id, X-Wx-Openid\n", "another announced": "Trailer: X-Foo\n", "not announced": "",
	} {
		for _, method := range []string{"POST", "GET"} {
			t.Run(name+"/"+method, func(t *testing.T) {
				a := g.raw(method + " /orders HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n" + announced + bearer(token) +
					"\n\n3\nabc\n0\nX-User-Id: evil\nX_Wx_Openid: evil\nX-Foo: evil\n\n")
				if a.status != http.StatusOK {
					t.Fatalf("answer is %d %s", a.status, a.body)
				}
				shown(t, a.body, g.proven(programA, "alice"))
				if !strings.Contains(a.body, "abc") {
					t.Errorf("the body is lost:\n%s", a.body)
				}
			})
		}
	}
}

// C0: an error that arises before the directive has its turn takes the request,
// as its sender made it, to the error routes.
func TestErrorBeforeTheDirective(t *testing.T) {
	g := start(t, setup{caddyfile: `{
	admin unix//DIR/admin.sock
	miniprogram {
		program wechat ` + programA + ` {
			secret ` + secretA + `
			api PLATFORM
		}
		store memory
	}
}
http://ADDRESS {
	route {
		error /early 403
		miniprogram {
			header X-Tenant {http.auth.user.program}
		}
		reverse_proxy UPSTREAM
	}
	handle_errors {
		reverse_proxy UPSTREAM
	}
}`})
	token := g.login(programA, "alice")
	for name, forged := range forgeries() {
		t.Run(name, func(t *testing.T) {
			a := g.raw("GET /early HTTP/1.1\nHost: x\n" + forged + bearer(token) + "\n\n")
			if !strings.HasPrefix(a.body, "GET /early") {
				t.Fatalf("the error route's upstream was not reached: %d %s", a.status, a.body)
			}
			shown(t, a.body, nil)
			if identities(a.body, "Authorization") != nil {
				t.Errorf("the error route's upstream sees the token:\n%s", a.body)
			}
		})
	}
}

// T46: CONNECT would open a tunnel whose bytes nobody looks at.
func TestConnect(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	before := g.upstream.count()
	a := g.raw("CONNECT " + g.address + " HTTP/1.1\nHost: x\n" + bearer(token) + "\n\n")
	a.expect(t, http.StatusMethodNotAllowed, "method_not_allowed")
	if g.upstream.count() != before {
		t.Error("the upstream was reached")
	}
}

// T18: a path that servers read in different ways never decides that a request
// needs no session.
func TestAmbiguousPublicPath(t *testing.T) {
	g := start(t, setup{directive: "public {\npath /public/*\n}"})
	for _, path := range []string{"/public/", "/public/x", "/public/x/", "/public/%E5%B0%8F", "/public/a%20b", "/public/x?a=..;/%2f"} {
		if a := g.raw("GET " + path + " HTTP/1.1\nHost: x\n\n"); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	before := g.upstream.count()
	token := g.login(programA, "alice")
	for _, path := range []string{
		"/public/..;/admin", "/public/..%5cadmin", "/public/..\\admin", "/public/%252e%252e/admin", "/public%2fx",
		"/x/../public/y", "//public/x", "/public/x%23/../admin", "/public/x%00", "/public/./x", "/public//x", "/public/x;y", "/public/%ff",
		"/public/a%3fb", "/public/a%25", "/public/%2e%2e/admin", "/public/..%2fadmin", "/public/../admin", "/public/.", "/public/..",
		"/secret%23/public/x", "/admin?/public/", "/PUBLIC/../admin",
	} {
		a := g.raw("GET " + path + " HTTP/1.1\nHost: x\n\n")
		if word := a.word(); word != "ambiguous_path" && word != "session_missing" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if g.upstream.count() != before {
		t.Error("the upstream was reached")
	}
	if a := g.raw("GET /public/..%2fadmin HTTP/1.1\nHost: x\n" + bearer(token) + "\n\n"); a.status != http.StatusOK {
		t.Errorf("with a session no decision hangs on the path, yet: %d %s", a.status, a.body)
	}
}
