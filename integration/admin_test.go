// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// The right of access: everything that is kept of a user, by one call, and no
// credential in it.
func TestExport(t *testing.T) {
	g := start(t, setup{options: withAlipayData})
	first, token := g.login(programA, "alice"), g.login(programA, "alice")
	if e := g.exported(programA); len(e.Sessions) != 2 || e.PlatformKeys == 0 || e.Profile != nil || e.Avatar != nil {
		t.Errorf("without a profile: %+v", e)
	}
	g.put(`{"nickname":"张三","email":"a@example.com"}`, token).profile(t)
	g.post("/miniprogram/phone", object("code", g.phoneCode(programA, "alice", "13580006666")), bearer(token)).expectStatus(t, 200)
	path := g.uploaded(token, pngFile(t, 8, 8))
	a := g.askUser("export", programA, g.openID(programA, "alice"))
	e := a.exported(t)
	alice, err := g.platform.Identity(programA, "alice")
	if err != nil {
		t.Fatal(err)
	}
	if !same(e.User, map[string]string{"platform": "wechat", "program": programA, "openid": alice.OpenID, "unionid": alice.UnionID}) {
		t.Errorf("the user is %v", e.User)
	}
	want := map[string]string{"nickname": "张三", "email": "a@example.com", "avatar_url": "http://" + g.address + path}
	if e.Profile == nil || !same(e.Profile.Stated, want) || !same(e.Profile.Verified, map[string]string{"phone_number": "13580006666", "country_code": "86"}) || e.Profile.Version != 3 {
		t.Errorf("the profile is %+v", e.Profile)
	}
	if e.Avatar == nil || e.Avatar.Type != "image/png" || string(e.Avatar.Data) != g.get(path).body {
		t.Errorf("the picture is %+v", e.Avatar)
	}
	for what, secret := range map[string]string{"token": token, "first token": first, "session key": g.sessionKey(programA, "alice"), "secret": secretA} {
		if strings.Contains(a.body, secret) {
			t.Errorf("the %s is in the export", what)
		}
	}
	// What is kept is kept without sessions, too.
	g.post("/miniprogram/logout", `{"everywhere":true}`, bearer(token))
	if e := g.exported(programA); len(e.Sessions) != 0 || e.Profile == nil || e.Profile.Stated["nickname"] != "张三" || e.User["openid"] != alice.OpenID {
		t.Errorf("signed out: %+v", e)
	}
	g.login(programB, "alice")
	if e := g.exported(programB); e.Profile != nil || len(e.Sessions) != 1 {
		t.Errorf("in another program: %+v", e)
	}
}

// A session key that leaked is replaced, on the platform as in the gateway: what is
// encrypted from now on opens at once, in sessions that were open before.
func TestResetSessionKey(t *testing.T) {
	const reset = "/wxa/resetusersessionkey"
	g := start(t, setup{options: withAlipayData})
	token := g.login(programA, "alice")
	old := dataBody(g.handed(programA, "alice", phoneData))
	if a := g.post("/miniprogram/decrypt", old, bearer(token)); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	leaked := g.sessionKey(programA, "alice")
	if a := g.askUser("reset_session_key", programA, g.openID(programA, "alice")); a.status != http.StatusNoContent || a.body != "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if g.sessionKey(programA, "alice") == leaked || g.platform.Calls().Count(programA, reset) != 1 {
		t.Fatal("the platform has the same key")
	}
	if a := g.post("/miniprogram/decrypt", dataBody(g.handed(programA, "alice", stepsData)), bearer(token)); a.status != http.StatusOK {
		t.Errorf("with the new key: %d %s", a.status, a.body)
	}
	if a := g.get("/", bearer(token)); a.status != http.StatusOK {
		t.Errorf("the session: %d %s", a.status, a.body)
	}
	// A key that is void already cannot be replaced: the user has to sign in.
	g.signInElsewhere(programA, secretA, "alice")
	g.askUser("reset_session_key", programA, g.openID(programA, "alice")).expectStatus(t, 409)
	g.login(programA, "alice")
	g.askUser("reset_session_key", programA, g.openID(programA, "alice")).expectStatus(t, 204)
	g.fault(simulator.Fault{Kind: simulator.FaultReset, Path: reset})
	a := g.askUser("reset_session_key", programA, g.openID(programA, "alice"))
	a.expectStatus(t, 503)
	if strings.Contains(a.body, g.sessionKey(programA, "alice")) || strings.Contains(a.body, "access_token") || strings.Contains(a.body, g.openID(programA, "alice")) {
		t.Errorf("the answer shows what it must not: %s", a.body)
	}
	g.platform.ClearFaults()
	g.login(programC, "alice")
	g.askUser("reset_session_key", programC, g.openID(programC, "alice")).expectStatus(t, 409)
	g.askUser("reset_session_key", programA, g.openID(programA, "nobody")).expectStatus(t, 409)
}

// What operators mistype: nothing is erased by it, and the answer says what to do.
func TestAdminRefuses(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	openID := g.openID(programA, "alice")
	for name, test := range map[string]struct {
		body   string
		status int
	}{
		"unknown user":          {object("program", programA, "openid", "oNobody"), 404},
		"user of another":       {object("program", programB, "openid", openID), 404},
		"no user":               {object("program", programA), 400},
		"no program":            {object("openid", openID), 400},
		"unknown program":       {object("program", "wxunknown", "openid", openID), 400},
		"wrong platform":        {object("platform", "alipay", "program", programA, "openid", openID), 400},
		"unconfigured, unknown": {object("platform", "wechat", "program", "wxunknown", "openid", openID), 404},
		"not JSON":              {"program=" + programA, 400},
		"list":                  {"[]", 400},
		"number":                {`{"program":"` + programA + `","openid":7}`, 400},
		"twice":                 {`{"openid":"x",` + object("program", programA, "openid", openID)[1:], 400},
		"empty":                 {"", 400},
		"unknown member":        {object("program", programA, "openid", openID, "sure", "yes"), 400},
		"empty platform":        {object("platform", "", "program", programA, "openid", openID), 400},
		"64 KiB":                {object("program", programA, "openid", strings.Repeat("x", 64<<10)), 413},
	} {
		t.Run(name, func(t *testing.T) {
			g.ask(http.MethodPost, "/miniprogram/users/export", test.body).expectStatus(t, test.status)
			for _, action := range []string{"erase", "reset_session_key"} {
				if test.status != 404 {
					g.ask(http.MethodPost, "/miniprogram/users/"+action, test.body).expectStatus(t, test.status)
				}
			}
		})
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		for _, action := range []string{"export", "erase", "reset_session_key"} {
			a := g.ask(method, "/miniprogram/users/"+action, object("program", programA, "openid", openID))
			if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != http.MethodPost {
				t.Errorf("%s %s: %d %s", method, action, a.status, a.body)
			}
		}
	}
	// The site has none of this.
	g.post("/miniprogram/users/export", object("program", programA, "openid", openID), bearer(token)).expect(t, 404, "not_found")
	if a := g.get("/", bearer(token)); a.status != http.StatusOK {
		t.Errorf("the user: %d %s", a.status, a.body)
	}
}

// A program that is not served any more still has users with rights.
func TestAdminAfterProgramIsGone(t *testing.T) {
	g := start(t, setup{options: withAlipayData})
	g.put(`{"nickname":"Al"}`, g.login(programC, "alice")).profile(t)
	g.setup.options = ""
	if err := g.reload(g.setup); err != nil {
		t.Fatal(err)
	}
	openID := g.openID(programC, "alice")
	g.askUser("export", programC, openID).expectStatus(t, 400)
	body := object("platform", "alipay", "program", programC, "openid", openID)
	if e := g.ask(http.MethodPost, "/miniprogram/users/export", body).exported(t); e.Profile == nil || e.Profile.Stated["nickname"] != "Al" {
		t.Errorf("the export is %+v", e)
	}
	g.ask(http.MethodPost, "/miniprogram/users/reset_session_key", body).expectStatus(t, 409)
	g.ask(http.MethodPost, "/miniprogram/users/erase", body).expectStatus(t, 204)
	g.ask(http.MethodPost, "/miniprogram/users/export", body).expectStatus(t, 404)
}

// Alipay moves users from user_id to open_id: an operator finds a user by either,
// and what is erased is all of him, so that he comes back as a new user.
func TestAdminDuringMigration(t *testing.T) {
	g := start(t, setup{options: withAlipayData, directive: "programs " + programC})
	stage := func(name simulator.Migration) {
		t.Helper()
		if err := g.platform.SetMigration(programC, "", name); err != nil {
			t.Fatal(err)
		}
	}
	id := func(token string) string {
		return strings.Join(identities(g.get("/", bearer(token)).body, "X-User-Id"), "|")
	}
	for user, erasedBy := range map[string]func(simulator.Identity) string{
		"alice": func(i simulator.Identity) string { return i.UserID },
		"bob":   func(i simulator.Identity) string { return i.OpenID },
	} {
		t.Run(user, func(t *testing.T) {
			who, err := g.platform.Identity(programC, user)
			if err != nil {
				t.Fatal(err)
			}
			stage(simulator.MigrationUserID)
			g.put(`{"nickname":"Al"}`, g.login(programC, user)).profile(t)
			stage(simulator.MigrationBoth)
			g.login(programC, user)
			stage(simulator.MigrationOpenID)
			after, other := g.login(programC, user), g.login(programC, "carol")
			if p := g.profile(after); id(after) != who.UserID || p.Stated["nickname"] != "Al" {
				t.Fatalf("after the migration: %s %+v", id(after), p)
			}
			for _, known := range []string{who.UserID, who.OpenID} {
				if e := g.askUser("export", programC, known).exported(t); len(e.Sessions) != 3 || e.Profile == nil || e.Profile.Stated["nickname"] != "Al" || e.User["known_as"] != who.UserID {
					t.Errorf("found by %s: %+v", known, e)
				}
			}
			g.askUser("erase", programC, erasedBy(who)).expectStatus(t, 204)
			for _, gone := range []string{who.UserID, who.OpenID} {
				g.askUser("export", programC, gone).expectStatus(t, 404)
			}
			g.get("/", bearer(after)).expect(t, 401, "session_revoked")
			fresh := g.login(programC, user)
			if p := g.profile(fresh); id(fresh) != who.OpenID || len(p.Stated) != 0 {
				t.Errorf("when he is back: %s %+v", id(fresh), p)
			}
			g.profile(other)
		})
	}
}
