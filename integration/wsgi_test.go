// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// startWSGI starts an app that knows headers by their CGI names only.
func startWSGI(t *testing.T) (address string) {
	t.Helper()
	return "127.0.0.1:" + startServer(t, `serving on port (\d+)`, exec.Command("python3", "wsgi/app.py"))
}

// wsgiAliases are header lines whose CGI name is, to some server, that of
// X-User-Id. VICTIM stands for the id of somebody else.
var wsgiAliases = []string{
	"X-User-Id: VICTIM",
	"x-user-id: VICTIM\nX-USER-ID: VICTIM",
	"X_User_Id: VICTIM",
	"X-User_Id: VICTIM",
	"x_USER-id: VICTIM",
	"X_User_Id: VICTIM\nX-User_Id: VICTIM\nX_User-Id: VICTIM",
	"X-User.Id: VICTIM",
	"X.User.Id: VICTIM",
	"X_User.Id: VICTIM",
	"X-User-Id~: VICTIM",
	"X-User-Id!: VICTIM",
	"X~User~Id: VICTIM",
	"X$User|Id: VICTIM",
	"X'User^Id: VICTIM",
	"X-User-`Id: VICTIM",
	"_X_User_Id: VICTIM",
	"X__User__Id: VICTIM",
	"X-User-Id-: VICTIM",
	"X-Note: a\n X-User-Id: VICTIM",
	"Connection: X-User-Id",
	"Connection: X_User_Id\nX_User_Id: VICTIM",
	"Connection: close, x-user.id\nx-user.id: VICTIM",
	"Transfer-Encoding: chunked\nTrailer: X-User-Id\n\n0\nX-User-Id: VICTIM",
	"Transfer-Encoding: chunked\nTrailer: X-Note\n\n0\nX_User_Id: VICTIM",
}

// Attack: an app that reads CGI names cannot tell X-User-Id from X_User_Id; one
// in PHP takes X-User.Id for it, too (CVE-2025-64484, CVE-2026-52845,
// GHSA-49wc-4hcv-v58q). Whatever a client sends, the app sees one HTTP_X_USER_ID
// with the user that the gateway proved, or none.
func TestWSGIUserCannotBeForged(t *testing.T) {
	if !installed(t, "python3") {
		return
	}
	address := startWSGI(t)
	for name, global := range aliasModes {
		t.Run(name, func(t *testing.T) {
			g := start(t, setup{global: global, directive: "optional", routes: "reverse_proxy " + address})
			token := g.login(programA, "bob")
			victim, bob := g.openID(programA, "alice"), g.openID(programA, "bob")
			for _, alias := range wsgiAliases {
				alias = strings.ReplaceAll(alias, "VICTIM", victim)
				g.checkCGI(alias, bearer(token)+"\n", bob, victim)
				g.checkCGI(alias, "", "", victim)
			}
		})
	}

	// Without the gateway the app falls for it, so that this test says something.
	direct := &gateway{t: t, address: address}
	for _, alias := range []string{"X_User_Id: evil", "X-User-Id: evil", "x_USER-id: evil"} {
		if a := direct.raw("GET / HTTP/1.1\nHost: a\n" + alias + "\n\n"); !strings.Contains(a.body, `"HTTP_X_USER_ID": "evil"`) {
			t.Errorf("%q: the app itself does not fall for it: %s", alias, a.body)
		}
	}
}

// checkCGI sends header lines among which one is forged, so that it names the
// victim, and fails the test unless the app sees HTTP_X_USER_ID as want, or not
// at all if that is empty.
func (g *gateway) checkCGI(forged, others, want, victim string) {
	g.t.Helper()
	a := g.raw("GET /orders HTTP/1.1\nHost: " + g.address + "\n" + others + forged + "\n\n")
	var environ map[string]string
	if err := json.Unmarshal([]byte(a.body), &environ); a.status != http.StatusOK || err != nil {
		g.t.Fatalf("%q: answer is %d %s", forged, a.status, a.body)
	}
	if got, ok := environ["HTTP_X_USER_ID"]; got != want || ok != (want != "") {
		g.t.Errorf("%q: the app sees HTTP_X_USER_ID %q, want %q", forged, got, want)
	}
	for name, value := range environ {
		// A folded line belongs to the header before it, whatever it looks like.
		if name != "HTTP_X_USER_ID" && (folded(name) == "httpxuserid" || strings.Contains(value, victim) && name != "HTTP_X_NOTE") {
			g.t.Errorf("%q: the app sees %s %q as well", forged, name, value)
		}
	}
}
