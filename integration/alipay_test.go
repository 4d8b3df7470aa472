// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// alipayAPI is the interface that exchanges Alipay's codes.
const alipayAPI = "alipay.system.oauth.token"

// Users of two platforms on one site, with one upstream: each is told apart by
// platform and program, and signs in by the same endpoints.
func TestAlipayAndWeChatOnOneSite(t *testing.T) {
	g := start(t, setup{options: withAlipay, directive: "headers user cloudrun"})
	wechat, alipay := g.login(programA, "alice"), g.login(programC, "alice")
	for token, want := range map[string][2]string{wechat: {"wechat", programA}, alipay: {"alipay", programC}} {
		a := g.get("/orders", bearer(token), "X-User-Id: evil", "X_User_Openid: evil", "X-User-Platform: evil")
		openID := g.openID(want[1], "alice")
		for name, value := range map[string]string{
			"X-User-Id": openID, "X-User-Openid": openID, "X-User-Platform": want[0], "X-User-Program": want[1], "X-Wx-Openid": openID,
		} {
			if got := identities(a.body, name); len(got) != 1 || got[0] != value {
				t.Errorf("%s: %s is %q, want %q", want[0], name, got, value)
			}
		}
		if strings.Contains(a.body, "evil") {
			t.Errorf("%s: forged headers reach the upstream:\n%s", want[0], a.body)
		}
	}
	if a := g.get("/orders", inline(programC, g.code(programC, "bob"))); a.status != http.StatusOK || a.header.Get("Authorization") == "" {
		t.Errorf("inline: %d %s", a.status, a.body)
	}
	g.post("/miniprogram/login", `{"program":"`+programA+`","code":"`+g.code(programC, "bob")+`"}`).expect(t, 401, "code_invalid")
	withConsent, err := g.platform.Login(programC, "carol", "auth_user", "auth_zhima")
	if err != nil {
		t.Fatal(err)
	}
	if a := g.get("/orders", inline(programC, withConsent)); a.status != http.StatusOK {
		t.Errorf("a code of other scopes: %d %s", a.status, a.body)
	}
	if a := g.post("/miniprogram/logout", `{"everywhere":true}`, bearer(alipay)); a.status != http.StatusNoContent {
		t.Errorf("logout: %d %s", a.status, a.body)
	}
	g.get("/", bearer(alipay)).expect(t, 401, "session_revoked")
	if a := g.get("/", bearer(wechat)); a.status != http.StatusOK {
		t.Errorf("the user of the same name on the other platform: %d %s", a.status, a.body)
	}

	only := start(t, setup{options: withAlipay, directive: "programs " + programA})
	only.post("/miniprogram/login", only.loginBody(programC, "alice")).expect(t, 403, "program_not_allowed")
}

// A code is exchanged once, and refused afterwards.
func TestAlipayCodeIsSpentOnce(t *testing.T) {
	g := start(t, setup{options: withAlipay, directive: "programs " + programC})
	body := `{"code":"` + g.code(programC, "alice") + `"}`
	first, again := g.token(g.post("/miniprogram/login", body)), g.token(g.post("/miniprogram/login", body))
	if first != again || g.platform.Calls().Count(programC, alipayAPI) != 1 {
		t.Errorf("two sessions, or %d exchanges", g.platform.Calls().Count(programC, alipayAPI))
	}
	g.post("/miniprogram/login", `{"code":"unknown"}`).expect(t, 401, "code_invalid")
	g.post("/miniprogram/login", `{"code":"a&b"}`).expect(t, 400, "invalid_request")
	g.post("/miniprogram/login", `{"code":"`+strings.Repeat("a", 10<<10)+`"}`).expect(t, 400, "invalid_request")
}

// Alipay moves its users from user_id to open_id: the app behind the gateway
// knows them by one id all the time, and nobody is signed out.
func TestAlipayUserKeepsHisID(t *testing.T) {
	g := start(t, setup{options: withAlipay, directive: "programs " + programC})
	stage := func(name simulator.Migration) {
		t.Helper()
		if err := g.platform.SetMigration(programC, "", name); err != nil {
			t.Fatal(err)
		}
	}
	who := func(token string) (id, openID []string) {
		t.Helper()
		a := g.get("/", bearer(token))
		if a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return identities(a.body, "X-User-Id"), identities(a.body, "X-User-Openid")
	}
	alice, err := g.platform.Identity(programC, "alice")
	if err != nil {
		t.Fatal(err)
	}
	stage(simulator.MigrationUserID)
	before := g.login(programC, "alice")
	if id, openID := who(before); len(id) != 1 || id[0] != alice.UserID || openID != nil {
		t.Errorf("before: X-User-Id %q, X-User-Openid %q", id, openID)
	}
	stage(simulator.MigrationBoth)
	during := g.login(programC, "alice")
	stage(simulator.MigrationOpenID)
	after := g.login(programC, "alice")
	for name, token := range map[string]string{"before": before, "during": during, "after": after} {
		if id, openID := who(token); len(id) != 1 || id[0] != alice.UserID || len(openID) != 1 || openID[0] != alice.OpenID {
			t.Errorf("%s, in the end: X-User-Id %q, X-User-Openid %q", name, id, openID)
		}
	}
	if id, _ := who(g.login(programC, "newcomer")); len(id) != 1 || id[0] != g.openID(programC, "newcomer") {
		t.Errorf("a newcomer is %q", id)
	}
}

// What a platform, or somebody in its place, can answer instead of a signed
// grant: nobody gets in by it, and the client has its word.
func TestAlipayHostileAnswers(t *testing.T) {
	g := start(t, setup{options: withAlipay + "\nexchange {\ntimeout 2s\n}", directive: "programs " + programC})
	for name, test := range map[string]struct {
		fault simulator.Fault
		words string
	}{
		"unsigned":         {simulator.Fault{Kind: "unsigned"}, "platform_error"},
		"wrong signature":  {simulator.Fault{Kind: "wrong_signature"}, "platform_error"},
		"other signature":  {simulator.Fault{Kind: "other_signature"}, "platform_error"},
		"forged node":      {simulator.Fault{Kind: "forged_node"}, "platform_error ok"},
		"forged first":     {simulator.Fault{Kind: "forged_node", First: true}, "platform_error ok"},
		"two nodes":        {simulator.Fault{Kind: "duplicate_node"}, "platform_error"},
		"two nodes, first": {simulator.Fault{Kind: "duplicate_node", First: true}, "platform_error"},
		"case":             {simulator.Fault{Kind: "case_node"}, "platform_error"},
		"case, first":      {simulator.Fault{Kind: "case_node", First: true}, "platform_error"},
		"sign first":       {simulator.Fault{Kind: "sign_first"}, "ok"},
		"white space":      {simulator.Fault{Kind: "white_space"}, "ok"},
		"escaped slashes":  {simulator.Fault{Kind: "escaped_slashes"}, "ok"},
		"string numbers":   {simulator.Fault{Kind: "string_numbers"}, "ok"},
		"gbk":              {simulator.Fault{Kind: "gbk"}, "platform_error ok"},
		"html":             {simulator.Fault{Kind: simulator.FaultStatus, Status: 200}, "platform_error"},
		"1 GB":             {simulator.Fault{Kind: simulator.FaultHuge, Bytes: 1 << 30}, "platform_error"},
		"drip":             {simulator.Fault{Kind: simulator.FaultDrip}, "platform_unavailable"},
		"code invalid":     {simulator.Fault{Kind: simulator.FaultErrcode, Code: "isv.code-invalid"}, "code_invalid"},
		"bad signature":    {simulator.Fault{Kind: simulator.FaultErrcode, Code: "isv.invalid-signature"}, "program_misconfigured"},
		"clock":            {simulator.Fault{Kind: simulator.FaultErrcode, Code: "isv.invalid-timestamp"}, "program_misconfigured"},
		"busy":             {simulator.Fault{Kind: simulator.FaultErrcode, Code: "isp.unknow-error"}, "platform_unavailable"},
		"too fast":         {simulator.Fault{Kind: simulator.FaultErrcode, Code: "isv.app-call-limited"}, "rate_limited"},
	} {
		t.Run(name, func(t *testing.T) {
			g.platform.ClearFaults()
			test.fault.Path = alipayAPI
			if err := g.platform.SetFault(test.fault); err != nil {
				t.Fatal(err)
			}
			a := g.post("/miniprogram/login", g.loginBody(programC, "alice"))
			word := a.word()
			if a.status == http.StatusOK {
				word = "ok"
			}
			if !strings.Contains(" "+test.words+" ", " "+word+" ") {
				t.Errorf("%d %s, want %s", a.status, a.body, test.words)
			}
			if a.status == http.StatusOK && !strings.Contains(a.body, g.openID(programC, "alice")) {
				t.Errorf("somebody else got in: %s", a.body)
			}
		})
	}
	if log := g.log.String(); strings.Contains(log, simulator.DemoAlipayPrivateKey[100:200]) || !strings.Contains(log, "clock") {
		t.Error("the log holds the private key, or does not speak of the clock")
	}
}
