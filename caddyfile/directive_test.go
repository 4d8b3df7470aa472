// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package caddyfile

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/headers" // something to stand beside the directive
)

// directive parses the directive and returns its route as JSON.
func directive(t *testing.T, input string) (string, error) {
	t.Helper()
	values, err := parseDirective(httpcaddyfile.Helper{Dispenser: caddyfile.NewTestDispenser(input)})
	if err != nil {
		return "", err
	}
	if len(values) != 1 {
		t.Fatalf("the directive makes %d values", len(values))
	}
	route, ok := values[0].Value.(caddyhttp.Route)
	if !ok {
		t.Fatalf("the directive makes a %T", values[0].Value)
	}
	data, err := json.Marshal(route)
	if err != nil {
		t.Fatal(err)
	}
	return string(data), nil
}

func TestDirective(t *testing.T) {
	for _, test := range []struct{ name, input, want string }{
		{"bare", "miniprogram", `{"handle":[{"handler":"miniprogram"}]}`},
		{"empty block", "miniprogram {\n}", `{"handle":[{"handler":"miniprogram"}]}`},
		{
			"sets of public are alternatives", "miniprogram {\npublic path /a /b\npublic {\npath /c\nmethod GET\n}\n}",
			`{"handle":[{"handler":"miniprogram","public":[{"path":["/a","/b"]},{"method":["GET"],"path":["/c"]}]}]}`,
		},
		{
			"a matcher twice in one set of public", "miniprogram {\npublic {\npath /a\npath /b\n}\n}",
			`{"handle":[{"handler":"miniprogram","public":[{"path":["/a","/b"]}]}]}`,
		},
		{
			"the option after public", "miniprogram {\npublic path /a\noptional\n}",
			`{"handle":[{"handler":"miniprogram","optional":true,"public":[{"path":["/a"]}]}]}`,
		},
		{
			"header value of several words", "miniprogram {\nheader X-A \"a {http.auth.user.id}\"\nheader X-B b\n}",
			`{"handle":[{"extra_headers":[{"name":"X-A","value":"a {http.auth.user.id}"},{"name":"X-B","value":"b"}],"handler":"miniprogram"}]}`,
		},
		{
			"login_limit", "miniprogram {\nlogin_limit 7 1d\n}",
			`{"handle":[{"handler":"miniprogram","login_limit":{"events":7,"window":86400000000000}}]}`,
		},
	} {
		if got, err := directive(t, test.input); err != nil || got != test.want {
			t.Errorf("%s: got %s, %v\nwant %s", test.name, got, err, test.want)
		}
	}
}

func TestDirectiveRefused(t *testing.T) {
	const matcher = "miniprogram takes no matcher: it covers the whole site, so that no route is left unguarded; name what needs no session in public, at Testfile:1"
	for _, test := range []struct{ name, input, want string }{
		{"path matcher", "miniprogram /api/*", matcher},
		{"path matcher and a block", "miniprogram /api/* {\noptional\n}", matcher},
		{"wildcard matcher", "miniprogram *", matcher},
		{"named matcher", "miniprogram @api", matcher},
		{"argument", "miniprogram wechat", "wrong argument count or unexpected line ending after 'wechat', at Testfile:1"},
		{"header twice in another case", "miniprogram {\nheader X-A a\nheader x-a b\n}", "header x-a is already set, at Testfile:3"},
		{"public of nothing", "miniprogram {\npublic\n}", "public needs at least one request matcher, at Testfile:2"},
		{"limit without a number", "miniprogram {\nlogin_limit many 1m\n}", `login_limit needs a whole number of at least 1, not "many", at Testfile:2`},
		{"limit without a time", "miniprogram {\nlogin_limit 5 always\n}", `the time of login_limit must be a duration above zero such as 90s or 30d, not "always", at Testfile:2`},
		{"unknown", "miniprogram {\nsession 5m\n}", `unrecognized option "session", at Testfile:2`},
	} {
		if got, err := directive(t, test.input); err == nil || err.Error() != test.want {
			t.Errorf("%s: got %s, %v\nwant %s", test.name, got, err, test.want)
		}
	}
}

// The complaint, word for word: "the plain directive fails until one adds an
// order option". And wherever a site's author writes the directive, it has to
// run before what could answer a request.
func TestDirectiveIsOrdered(t *testing.T) {
	adapter := caddyfile.Adapter{ServerType: httpcaddyfile.ServerType{}}
	data, warnings, err := adapter.Adapt([]byte("localhost {\n\trespond ok\n\tminiprogram\n\theader X-A b\n}\n"), nil)
	if err != nil || len(warnings) != 0 {
		t.Fatal(err, warnings)
	}
	last := -1
	for _, handler := range []string{"headers", "miniprogram", "static_response"} {
		at := bytes.Index(data, []byte(`"handler":"`+handler+`"`))
		if at <= last {
			t.Errorf("handler %s is not in its place: %s", handler, data)
		}
		last = at
	}
}
