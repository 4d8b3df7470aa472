// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// What is mistyped, forgotten or an empty variable of a script revokes nothing.
func TestRevokeRefuses(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	openID := g.openID(programA, "alice")
	id := g.inspect(object("access_token", token)).Session
	for _, body := range []string{
		``, `{}`, `[]`, `null`, `{"everyone":false}`, `{"everyone":"true"}`, `{"everyone":1}`, `{"Everyone":null}`,
		object("program", programA),
		object("openid", openID),
		object("program", "", "openid", openID),
		object("program", programA, "openid", ""),
		object("session", "", "program", programA, "openid", openID),
		object("session", id, "program", programA),
		object("session", id, "openid", openID),
		object("session", id, "platform", "wechat"),
		object("session", token),
		`{"session":null,"program":"` + programA + `","openid":"` + openID + `"}`,
		`{"program":"` + programA + `","all":false}`,
		`{"program":"` + programA + `","openid":null,"all":true}`,
		`{"program":"` + programA + `","openid":"","all":true}`,
		`{"program":"` + programA + `","openid":"` + openID + `","all":true}`,
		`{"program":"` + programA + `","everyone":true}`,
		`{"program":"` + programA + `","all":true,"everyone":true}`,
		`{"platform":"wechat","all":true}`,
		`{"all":true}`,
		`{"all":true,"everyone":true}`,
		`{"session":"` + id + `","everyone":true}`,
		`{"session":"` + id + `","all":true}`,
		`{"platform":"wechat","everyone":true}`,
		`{"program":"wxunknown","all":true}`,
		`{"platform":"alipay","program":"` + programA + `","all":true}`,
		`{"program":"` + programA + `","openId":"x","all":true}`,
		`{"everyone":true,"everyone":true}`,
		`{"everyone":true,"dry_run":true}`,
		`{"everyone":true} {}`,
	} {
		g.askSessions("revoke", body).expectStatus(t, 400)
	}
	a := g.ask(http.MethodPost, "/miniprogram/sessions/revoke", `{"everyone":true,"dry_run":true}`)
	if !strings.Contains(a.body, "dry_run") || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s %v", a.body, a.header)
	}
	if a := g.get("/", bearer(token)); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// auditLines returns what the gateway's log has of admin calls.
func (g *gateway) auditLines() []map[string]any {
	var lines []map[string]any
	for line := range strings.SplitSeq(g.log.String(), "\n") {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == "admin call" {
			lines = append(lines, entry)
		}
	}
	return lines
}

// Who signed out whom, and who tried to: each call is one line, and no line has an
// openid, a token, or what else was typed into the wrong place.
func TestAdminCallsAreAudited(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	openID := g.openID(programA, "alice")
	id := g.inspect(object("access_token", token)).Session
	calls := []struct {
		method, path, body string
		status             float64
		fields             []string
	}{
		{"POST", "sessions/list", object("program", programA, "openid", openID), 200, []string{"program", "user", "sessions"}},
		{"POST", "sessions/inspect", object("session", id), 200, []string{"session", "user"}},
		{"POST", "sessions/inspect", object("access_token", token), 200, []string{"token", "session", "user"}},
		{"POST", "sessions/revoke", object("session", token), 400, nil},
		{"POST", "sessions/revoke", object("session", openID), 400, nil},
		{"POST", "sessions/revoke", object("program", openID, "openid", programA), 400, nil},
		{"POST", "sessions/revoke", object("platform", "wechat", "program", openID, "openid", programA), 404, []string{"program_digest", "user"}},
		{"POST", "sessions/revoke", `{"` + openID + `":true}`, 400, nil},
		{"POST", "sessions/revoke", object("session", id, "program", programA, "openid", openID), 200, []string{"session", "program", "user", "revoked"}},
		{"POST", "sessions/revoke", object("program", programA, "openid", openID), 200, []string{"program", "user", "revoked"}},
		{"POST", "sessions/revoke", `{"program":"` + programA + `","all":true}`, 200, []string{"program", "all"}},
		{"POST", "sessions/revoke", `{"everyone":true}`, 200, []string{"everyone"}},
		{"POST", "users/export", object("program", programA, "openid", openID), 200, []string{"program", "user"}},
		{"POST", "users/erase", object("program", programA, "openid", openID), 204, []string{"program", "user"}},
		{"GET", "programs", "", 200, nil},
		{"GET", "keys", "", 200, nil},
		{"POST", "check", "{}", 200, []string{"ok"}},
		{"GET", "sessions/revoke", "", 405, nil},
		{"DELETE", "keys", "", 405, nil},
		{"POST", "sessions/inspect", `{"access_token":7}`, 400, nil},
		{"POST", "sessions/inspect", `{"access_token":"` + strings.Repeat("x", 70_000) + `"}`, 413, nil},
	}
	for _, call := range calls {
		before := len(g.auditLines())
		a := g.ask(call.method, "/miniprogram/"+call.path, call.body)
		if float64(a.status) != call.status || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s %.80s: %d %s %v", call.method, call.path, call.body, a.status, a.body, a.header)
		}
		var lines []map[string]any
		eventually(t, "the line of "+call.path, func() bool {
			lines = g.auditLines()
			return len(lines) > before
		})
		line := lines[before]
		if len(lines) != before+1 || line["action"] != call.path || line["status"] != call.status || line["remote"] == nil {
			t.Errorf("%s %.80s: %d lines, %v", call.path, call.body, len(lines)-before, line)
		}
		for _, field := range call.fields {
			if line[field] == nil {
				t.Errorf("%s %s: the line has no %s: %v", call.path, call.body, field, line)
			}
		}
		if failed := line["error"] != nil; failed != (call.status >= 400) {
			t.Errorf("%s %s: %v", call.path, call.body, line)
		}
	}
	for what, canary := range map[string]string{"openid": openID, "token": token, "start of token": token[:len(token)-10]} {
		if strings.Contains(g.log.String(), canary) {
			t.Errorf("the %s is in the log", what)
		}
	}
	methods := []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodHead}
	for _, action := range []string{"list", "inspect", "revoke"} {
		for _, method := range methods {
			if a := g.ask(method, "/miniprogram/sessions/"+action, "{}"); a.status != 405 || !slices.Equal(a.header["Allow"], []string{"POST"}) {
				t.Errorf("%s %s: %d %v", method, action, a.status, a.header)
			}
		}
	}
}

// After a reload that fails the gateway goes on with the configuration before; so
// does its admin endpoint, though Caddy has replaced it already.
func TestAdminAfterFailedReload(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	for _, broken := range []setup{
		{options: "store file /proc/none/x.db"},
		{options: "seal_key {env.MINIGATE_NOT_SET}"},
		{routes: "reverse_proxy UPSTREAM\n}\nhttp://127.0.0.1:1 {\nbind 192.0.2.1"},
	} {
		if err := g.reload(broken); err == nil {
			t.Fatal("the reload succeeds")
		}
		eventually(t, "the endpoint knows of the session", func() bool {
			a := g.askSessions("list", "")
			return a.status == http.StatusOK && strings.Count(a.body, `"id"`) == 1
		})
	}
	g.askSessions("revoke", `{"everyone":true}`).expectStatus(t, 200)
	g.get("/", bearer(token)).expect(t, 401, "session_revoked")
}
