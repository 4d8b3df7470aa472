// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"strings"
	"testing"
)

// Configurations that would undo what the gateway does: what can only be a mistake
// is refused, and what may be meant is warned of, so that nobody finds out from an
// attacker. Those beside them are as they should be, and say nothing.
func TestUnsafeConfigurations(t *testing.T) {
	const (
		changed = "identity header is changed after the gateway has set it"
		past    = "upstream of the gateway is reached by a route that goes past it"
		plain   = "session tokens go over plain HTTP to a public address"
		trusts  = "trusted_proxies trusts everybody"
		covers  = "option lists a pattern that covers an identity header"
	)
	site := func(directives string) string {
		return "http://ADDRESS {\nminiprogram\n" + directives + "\nreverse_proxy UPSTREAM\n}"
	}
	server := func(options string) string { return "servers {\n" + options + "\n}" }
	for name, test := range map[string]struct {
		global, sites string
		refused       string // what the error says
		warned        string // what the log says; empty for none of the warnings
	}{
		"as it should be":     {sites: site("")},
		"two sites":           {sites: site("") + "\nhttp://localhost:1 {\nbind 127.0.0.1\nminiprogram\nreverse_proxy UPSTREAM\n}"},
		"underscore listed":   {global: server("expected_underscore_headers X_User_Id"), sites: site(""), refused: "expected_underscore_headers lists X_User_Id"},
		"underscores by glob": {global: server("expected_underscore_headers x_user_*"), sites: site(""), warned: covers},
		"dot listed":          {global: server("expected_dot_headers x-wx.openid"), sites: site(""), refused: "expected_dot_headers lists x-wx.openid"},
		"others listed":       {global: server("expected_underscore_headers webhook_id"), sites: site("")},
		"one of the site's own": {
			global: server("expected_underscore_headers X_Tenant"), refused: "lists X_Tenant",
			sites: "http://ADDRESS {\nminiprogram {\nheader X-Tenant {http.auth.user.program}\n}\nreverse_proxy UPSTREAM\n}",
		},
		"set by request_header":        {sites: site("request_header X-User-Id {http.request.header.X-Foo}"), warned: changed},
		"another spelling":             {sites: site("request_header x_user_id forged"), warned: changed},
		"removed by request_header":    {sites: site("request_header -X-User-*"), warned: changed},
		"set to what is proven":        {sites: site("request_header X-User-Id {http.auth.user.unionid}")},
		"another header":               {sites: site("request_header X-Foo {http.request.header.X-Bar}")},
		"set by header_up":             {sites: "http://ADDRESS {\nminiprogram\nreverse_proxy UPSTREAM {\nheader_up X-WX-OPENID {header.X-Foo}\n}\n}", warned: changed},
		"copied by forward_auth":       {sites: site("forward_auth UPSTREAM {\nuri /\ncopy_headers X-User-Id\n}"), warned: changed},
		"a route beside it":            {sites: "http://ADDRESS {\nhandle /api/* {\nminiprogram\nreverse_proxy UPSTREAM\n}\nhandle {\nreverse_proxy UPSTREAM\n}\n}", warned: past},
		"a site beside it":             {sites: site("") + "\nhttp://localhost:1 {\nbind 127.0.0.1\nreverse_proxy UPSTREAM\n}", warned: past},
		"a route before it":            {sites: "http://ADDRESS {\nroute {\nreverse_proxy /internal/* UPSTREAM\nminiprogram\nreverse_proxy UPSTREAM\n}\n}", warned: past},
		"a route in a matcher's block": {sites: "http://ADDRESS {\n@api path /api/*\nroute @api {\nminiprogram\n}\nreverse_proxy UPSTREAM\n}", warned: ""},
		"another upstream beside it":   {sites: site("") + "\nhttp://localhost:1 {\nbind 127.0.0.1\nreverse_proxy 127.0.0.1:2\n}"},
		"handle behind it":             {sites: "http://ADDRESS {\nminiprogram\nhandle /a/* {\nreverse_proxy UPSTREAM\n}\nhandle {\nreverse_proxy UPSTREAM\n}\n}"},
		"a named route behind it":      {sites: "&(app) {\nreverse_proxy UPSTREAM\n}\nhttp://ADDRESS {\nminiprogram\ninvoke app\n}"},
		"error routes":                 {sites: site("handle_errors {\nreverse_proxy UPSTREAM\n}")},
		"twice":                        {sites: "http://ADDRESS {\nroute {\nminiprogram\nminiprogram\nreverse_proxy UPSTREAM\n}\n}", refused: "miniprogram stands twice"},
		"twice, in a block":            {sites: "http://ADDRESS {\nminiprogram\nhandle /a/* {\nminiprogram\nreverse_proxy UPSTREAM\n}\n}", refused: "miniprogram stands twice"},
		"public address":               {sites: "http://:PORT {\nminiprogram\nreverse_proxy UPSTREAM\n}", warned: plain},
		"public address, by name":      {sites: "http://api.example.com:PORT {\nminiprogram\nreverse_proxy UPSTREAM\n}", warned: plain},
		"this machine's name":          {sites: "http://localhost:PORT {\nminiprogram\nreverse_proxy UPSTREAM\n}"},
		"private address":              {sites: "http://ADDRESS {\nbind 127.0.0.1\nminiprogram\nreverse_proxy UPSTREAM\n}"},
		"behind a proxy":               {global: server("trusted_proxies static 10.0.0.0/8"), sites: "http://:PORT {\nminiprogram\nreverse_proxy UPSTREAM\n}"},
		"public address with TLS":      {global: "skip_install_trust", sites: "https://localhost:PORT {\ntls internal\nminiprogram\nreverse_proxy UPSTREAM\n}"},
		"everybody is trusted":         {global: server("trusted_proxies static 10.0.0.0/8 0.0.0.0/0"), sites: site(""), warned: trusts},
		"everybody is trusted by IPv6": {global: server("trusted_proxies static ::/0"), sites: site(""), warned: trusts},
		"nobody is guarded":            {global: server("trusted_proxies static 0.0.0.0/0"), sites: "http://ADDRESS {\nreverse_proxy UPSTREAM\n}"},
	} {
		t.Run(name, func(t *testing.T) {
			g := prepare(t, setup{})
			text := "{\nadmin unix//DIR/admin.sock\n" + test.global + "\nminiprogram {\nprogram wechat " + programA + " {\nsecret " + secretA +
				"\napi PLATFORM\n}\nstore memory\n}\n}\n"
			idle := setup{caddyfile: text + "http://ADDRESS {\nrespond idle\n}"}
			g.setup = setup{caddyfile: strings.Replace(idle.caddyfile, test.global, "", 1)}
			g.run()
			before := len(g.log.String())
			err := g.reload(setup{caddyfile: text + test.sites})
			if (err != nil) != (test.refused != "") || (err != nil && !strings.Contains(err.Error(), test.refused)) {
				t.Fatalf("want %q, got %v", test.refused, err)
			}
			if err == nil {
				eventually(t, "all is said", func() bool { return strings.Contains(g.log.String()[before:], "mini-program gateway is ready") })
			}
			said := g.log.String()[before:]
			for _, warning := range []string{changed, past, plain, trusts, covers} {
				if got, want := strings.Contains(said, warning), test.warned == warning; got != want {
					t.Errorf("%q: warned %t, want %t\n%s", warning, got, want, said)
				}
			}
		})
	}
}
