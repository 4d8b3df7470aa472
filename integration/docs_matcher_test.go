// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"strings"
	"testing"
)

// A matcher that matches too early, or nobody, routes staff to the public and
// the public to staff. The example of the option reference, run as it stands
// there, with what it says about directives that run before the gateway's.
func TestDocsMatcher(t *testing.T) {
	g := prepare(t, setup{})
	for _, f := range fences(t, optionReference) {
		if strings.Contains(f.code, "@staff") {
			g.setup.caddyfile = strings.NewReplacer(
				"{\n\tminiprogram {\n\t\tprogram", "{\n\tadmin unix//DIR/admin.sock\n\tminiprogram {\n\t\tstore memory\n\t\tprogram",
				"api.example.com {\n", "http://ADDRESS {\n\theader @user X-Early known\n\theader X-Early-Id \"[{http.auth.user.id}]\"\n",
				"handle @user {\n", "handle @user {\n\t\theader @user X-Late known\n\t\theader X-Late-Id \"[{http.auth.user.id}]\"\n",
				"wx0123456789abcdef", programA,
				"{env.WECHAT_SECRET}", secretA+"\n\t\t\tapi PLATFORM",
				"oaYkyJdFj0OqVZhV8RrCyZgKO1cA", g.openID(programA, "alice"),
				"reverse_proxy admin:8080", "respond admin",
				"reverse_proxy lounge:8080", "respond lounge",
				"reverse_proxy legacy:8080", "respond legacy",
			).Replace(f.code)
		}
	}
	if g.setup.caddyfile == "" {
		t.Fatal("the option reference has no example of the matcher")
	}
	g.run()
	alice, bob := bearer(g.login(programA, "alice")), bearer(g.login(programA, "bob"))
	for _, test := range []struct {
		path, want string
		status     int
		lines      []string
	}{
		{"/orders", "Sign in.", http.StatusUnauthorized, nil},
		{"/admin/users", "Sign in.", http.StatusUnauthorized, nil},
		{"/orders", "legacy", http.StatusOK, []string{alice}},
		{"/admin/users", "admin", http.StatusOK, []string{alice}},
		{"/admin/users", "legacy", http.StatusOK, []string{bob}},
		{"/lounge/bar", "lounge", http.StatusOK, []string{bob}},
	} {
		if a := g.get(test.path, test.lines...); a.status != test.status || a.body != test.want {
			t.Errorf("%s: answer is %d %s, want %d %s", test.path, a.status, a.body, test.status, test.want)
		}
	}
	a := g.get("/orders", bob)
	for name, want := range map[string]string{
		"X-Early": "", "X-Early-Id": "[{http.auth.user.id}]",
		"X-Late": "known", "X-Late-Id": "[" + g.openID(programA, "bob") + "]",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
