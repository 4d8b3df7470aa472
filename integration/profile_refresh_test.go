// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// consentCode returns an Alipay code of a user who agreed to tell these things.
func (g *gateway) consentCode(user string, scopes ...string) string {
	g.t.Helper()
	code, err := g.platform.Login(programC, user, scopes...)
	if err != nil {
		g.t.Fatal(err)
	}
	return code
}

// WeChat: what wx.getUserInfo gives, signed or encrypted. Since 2022 that is
// 微信用户 and a grey picture for everybody, which is nobody's name: it does not
// take the place of what is known.
func TestRefreshWeChat(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	user := func(data string) simulator.Encrypted {
		return g.encrypt(simulator.Encryption{Program: programA, User: "alice", Data: []byte(data), UserInfo: true, WithOpenID: true})
	}
	refresh := func(pairs ...string) profileBody {
		t.Helper()
		return g.post("/miniprogram/profile/refresh", object(pairs...), bearer(token)).profile(t)
	}
	e := user("{}")
	if p := refresh("encryptedData", e.EncryptedData, "iv", e.IV); len(p.Verified) != 0 {
		t.Errorf("nobody's name is taken for the user's: %+v", p)
	}
	known := map[string]string{
		"nickname": "Band", "gender": "male", "language": "zh_CN", "city": "Guangzhou", "province": "Guangdong", "country": "CN",
		"avatar_url": "https://wx.qlogo.cn/mmopen/vi_32/aSKcBBPpibyKNicHNTMM0qJVh8Kjgiak2AHWr8MHM4WgMEm7GFhsf8OYrySdbvAMvTsw3mo8ibKicsnfN5pRjl1p8HQ/0",
	}
	e = user(userInfoData)
	if p := refresh("raw_data", e.RawData, "signature", e.Signature); !same(p.Verified, known) {
		t.Errorf("signed: %+v", p)
	}
	e = user(`{"nickName":"Al","gender":2,"city":"","avatarUrl":"http://thirdwx.qlogo.cn/mmopen/a/132"}`)
	p := refresh("encryptedData", e.EncryptedData, "iv", e.IV)
	known["nickname"], known["gender"], known["avatar_url"] = "Al", "female", "https://thirdwx.qlogo.cn/mmopen/a/132"
	if !same(p.Verified, known) || len(p.Stated) != 0 {
		t.Errorf("encrypted: %+v", p)
	}
	e = user("{}")
	if p := refresh("rawData", e.RawData, "signature", e.Signature); !same(p.Verified, known) {
		t.Errorf("nobody's name took the place of the user's: %+v", p)
	}

	version := g.profile(token).Version
	g.login(programA, "bob")
	ofBob := g.encrypt(simulator.Encryption{Program: programA, User: "bob", Data: []byte(userInfoData), UserInfo: true, WithOpenID: true})
	e = user(userInfoData)
	for name, test := range map[string]struct {
		body   string
		status int
		word   string
	}{
		"data of another user":      {dataBody(ofBob), 422, "data_invalid"},
		"signature of another user": {object("rawData", ofBob.RawData, "signature", ofBob.Signature), 422, "data_invalid"},
		"changed":                   {object("rawData", strings.Replace(e.RawData, "Band", "Admin", 1), "signature", e.Signature), 422, "data_invalid"},
		"of another kind":           {dataBody(g.handed(programA, "alice", stepsData)), 422, "data_invalid"},
		"a phone number":            {dataBody(g.handed(programA, "alice", phoneData)), 422, "data_invalid"},
		"a code":                    {object("code", g.code(programA, "alice")), 400, "invalid_request"},
		"plain":                     {userInfoData, 400, "invalid_request"},
		"without signature":         {object("rawData", e.RawData), 400, "invalid_request"},
		"nothing":                   {"{}", 400, "invalid_request"},
	} {
		a := g.post("/miniprogram/profile/refresh", test.body, bearer(token))
		if a.status != test.status || a.word() != test.word {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		checkErrorForm(t, a)
	}
	if p := g.profile(token); p.Version != version {
		t.Errorf("bad data changed the profile: %+v", p)
	}
}

// Alipay: a code of the scope auth_user is asked about, and tells of nobody but
// the user who is signed in.
func TestRefreshAlipay(t *testing.T) {
	const infoAPI = "alipay.user.info.share"
	g := start(t, setup{options: withAlipayData, directive: "programs " + programC})
	token := g.login(programC, "alice")
	refresh := func(code string) answer {
		t.Helper()
		return g.post("/miniprogram/profile/refresh", object("code", code), bearer(token))
	}
	told := func(fields map[string]string) {
		t.Helper()
		if err := g.platform.SetProfile(programC, "alice", fields); err != nil {
			t.Fatal(err)
		}
	}
	told(map[string]string{
		"nick_name": "张三", "gender": "F", "province": "浙江省", "city": "杭州市", "avatar": "http://tfs.alipayobjects.com/a.png",
		"mobile": "13800138000", "email": "a@example.com",
	})
	g.platform.ResetCalls()
	code := g.consentCode("alice", "auth_user")
	p := refresh(code).profile(t)
	want := map[string]string{
		"nickname": "张三", "gender": "female", "province": "浙江省", "city": "杭州市", "avatar_url": "https://tfs.alipayobjects.com/a.png",
		"phone_number": "13800138000", "country_code": "86", "email": "a@example.com",
	}
	if !same(p.Verified, want) || len(p.Stated) != 0 {
		t.Errorf("the profile is %+v", p)
	}
	if a := refresh(code); a.status != http.StatusOK {
		t.Errorf("sent again: %d %s", a.status, a.body)
	}
	if calls := g.platform.Calls(); calls.Count(programC, alipayAPI) != 1 || calls.Count(programC, infoAPI) != 1 {
		t.Errorf("calls: %+v", calls.Counts)
	}
	told(map[string]string{"nick_name": "a\u202eb", "avatar": "javascript:alert(1)", "city": "x\ny", "mobile": "138****8000", "email": "a***@example.com"})
	if p := refresh(g.consentCode("alice", "auth_user")).profile(t); !same(p.Verified, want) {
		t.Errorf("what has no sane form is taken: %+v", p)
	}
	version := g.profile(token).Version
	for name, test := range map[string]struct {
		code   string
		fault  *simulator.Fault
		status int
		word   string
	}{
		"another user's":      {g.consentCode("bob", "auth_user"), nil, 422, "data_invalid"},
		"without consent":     {g.consentCode("alice", "auth_base"), nil, 409, "consent_required"},
		"unknown":             {"unknown", nil, 401, "code_invalid"},
		"malformed":           {"a&b", nil, 400, "invalid_request"},
		"consent taken back":  {g.consentCode("alice", "auth_user"), &simulator.Fault{Kind: simulator.FaultErrcode, Code: "isv.insufficient-user-permissions", Path: infoAPI}, 409, "consent_required"},
		"unsigned answer":     {g.consentCode("alice", "auth_user"), &simulator.Fault{Kind: simulator.FaultUnsigned, Path: infoAPI}, 502, "platform_error"},
		"forged answer":       {g.consentCode("alice", "auth_user"), &simulator.Fault{Kind: simulator.FaultDuplicateNode, First: true, Path: infoAPI}, 502, "platform_error"},
		"answer about others": {g.consentCode("alice", "auth_user"), &simulator.Fault{Kind: simulator.FaultWrongTypes, Fields: []string{"open_id"}, Value: []byte(`"` + g.openID(programC, "bob") + `"`), Path: infoAPI}, 502, "platform_error"},
		"reset":               {g.consentCode("alice", "auth_user"), &simulator.Fault{Kind: simulator.FaultReset, Path: infoAPI}, 503, "platform_unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			g.platform.ClearFaults()
			if test.fault != nil {
				g.fault(*test.fault)
			}
			a := refresh(test.code)
			a.expect(t, test.status, test.word)
			checkErrorForm(t, a)
			if p := g.profile(token); p.Version != version {
				t.Errorf("the profile is %+v", p)
			}
		})
	}
	g.platform.ClearFaults()
	// A code cannot serve twice, for two ends.
	code = g.consentCode("alice", "auth_user")
	refresh(code).profile(t)
	g.post("/miniprogram/login", object("code", code)).expect(t, 401, "code_invalid")
}

// A user whose program moves from user_id to open_id is still himself, and so is
// nobody else.
func TestRefreshDuringMigration(t *testing.T) {
	g := start(t, setup{options: withAlipayData, directive: "programs " + programC})
	for _, stage := range []simulator.Migration{simulator.MigrationUserID, simulator.MigrationBoth, simulator.MigrationOpenID} {
		if err := g.platform.SetMigration(programC, "", stage); err != nil {
			t.Fatal(err)
		}
		token := g.login(programC, "alice")
		if p := g.post("/miniprogram/profile/refresh", object("code", g.consentCode("alice", "auth_user")), bearer(token)).profile(t); p.Verified["nickname"] != "alice" {
			t.Errorf("%s: %+v", stage, p)
		}
		g.post("/miniprogram/profile/refresh", object("code", g.consentCode("bob", "auth_user")), bearer(token)).expect(t, 422, "data_invalid")
	}
}
