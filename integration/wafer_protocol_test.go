// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// waferAnswer is an answer to a login, as clients of both generations see it.
type waferAnswer struct {
	Magic   int               `json:"F2C224D4-2BCE-4C64-AF9F-A6D872000D1A"`
	Session map[string]string `json:"session"`
	Code    int               `json:"code"`
	Data    struct {
		Skey     string         `json:"skey"`
		UserInfo map[string]any `json:"userinfo"`
	} `json:"data"`
}

// What the platform encrypted on the phone reaches the client as its user
// information; what it did not is left out, and the login stands.
func TestWaferUserInfo(t *testing.T) {
	g := start(t, setup{directive: "programs " + programA + "\nclients wafer"})
	for name, test := range map[string]struct {
		encryption simulator.Encryption
		change     func(*simulator.Encrypted)
		nickname   any
	}{
		"as encrypted":     {simulator.Encryption{Data: json.RawMessage(`{"nickName":"小明","gender":1}`)}, nil, "小明"},
		"with the openid":  {simulator.Encryption{Data: json.RawMessage(`{"nickName":"小明"}`), WithOpenID: true}, nil, "小明"},
		"another's openid": {simulator.Encryption{Data: json.RawMessage(`{"nickName":"evil","openId":"oSomebodyElse"}`)}, nil, nil},
		"another program":  {simulator.Encryption{Data: json.RawMessage(`{"nickName":"evil"}`), Watermark: simulator.Watermark{AppID: programB}}, nil, nil},
		"old":              {simulator.Encryption{Data: json.RawMessage(`{"nickName":"evil"}`), Watermark: simulator.Watermark{Timestamp: 1477314187}}, nil, nil},
		"changed": {simulator.Encryption{Data: json.RawMessage(`{"nickName":"evil"}`)}, func(e *simulator.Encrypted) {
			e.EncryptedData = "AAAA" + e.EncryptedData[4:]
		}, nil},
		"pre-2016": {simulator.Encryption{Data: json.RawMessage(`{"nickName":"evil"}`)}, func(e *simulator.Encrypted) { e.IV = "" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			code := g.code(programA, "alice")
			test.encryption.Program, test.encryption.User = programA, "alice"
			encrypted, err := g.platform.Encrypt(test.encryption)
			if err != nil {
				t.Fatal(err)
			}
			if test.change != nil {
				test.change(&encrypted)
			}
			lines := []string{"X-WX-Code: " + code, "X-WX-Encrypted-Data: " + encrypted.EncryptedData}
			if encrypted.IV != "" {
				lines = append(lines, "X-WX-IV: "+encrypted.IV)
			}
			a := g.get("/any/url", lines...)
			var body waferAnswer
			if err := json.Unmarshal([]byte(a.body), &body); err != nil || a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
			info := body.Data.UserInfo
			if info["openId"] != g.openID(programA, "alice") || info["nickName"] != test.nickname {
				t.Errorf("userinfo is %v", info)
			}
			if body.Magic != 1 || body.Code != 0 || body.Session["id"] == "" || body.Session["skey"] != body.Data.Skey {
				t.Errorf("%s", a.body)
			}
		})
	}
}

// The credentials of wafer clients, good and bad, and what becomes of them.
func TestWaferCredentials(t *testing.T) {
	g := start(t, setup{directive: "programs " + programA + "\nclients wafer\npublic {\npath /public\n}"})
	var login waferAnswer
	if err := json.Unmarshal([]byte(g.get("/login", "X-WX-Code: "+g.code(programA, "alice")).body), &login); err != nil {
		t.Fatal(err)
	}
	id, skey := "X-WX-Id: "+login.Session["id"], "X-WX-Skey: "+login.Session["skey"]
	for name, test := range map[string]struct {
		lines  []string
		status int
		word   string
	}{
		"first generation":             {[]string{id, skey}, 200, ""},
		"second generation":            {[]string{skey}, 200, ""},
		"id of another session":        {[]string{"X-WX-Id: x", skey}, 200, "session_invalid"},
		"bad skey, first":              {[]string{id, "X-WX-Skey: x"}, 200, "session_invalid"},
		"bad skey, second":             {[]string{"X-WX-Skey: x"}, 401, "session_invalid"},
		"id alone":                     {[]string{id}, 200, "session_missing"},
		"nothing":                      {nil, 401, "session_missing"},
		"two":                          {[]string{skey, skey}, 400, "ambiguous_credentials"},
		"with a bearer token":          {[]string{skey, bearer(login.Session["skey"])}, 400, "ambiguous_credentials"},
		"empty code":                   {[]string{"X-WX-Code: "}, 400, "invalid_request"},
		"a code of another program":    {[]string{"X-WX-Code: " + g.code(programB, "alice")}, 401, "code_invalid"},
		"own client's bad bearer":      {[]string{bearer("x")}, 401, "session_invalid"},
		"own client's missing session": {[]string{"Authorization: Basic YTpi"}, 401, "session_missing"},
	} {
		t.Run(name, func(t *testing.T) {
			a := g.get("/orders", test.lines...)
			if test.word != "" {
				a.expect(t, test.status, test.word)
				return
			}
			if got := identities(a.body, "X-User-Openid"); a.status != test.status || len(got) != 1 || got[0] != g.openID(programA, "alice") {
				t.Errorf("%d %s", a.status, a.body)
			}
			for _, name := range []string{"X-WX-Id", "X-WX-Skey"} {
				if identities(a.body, name) != nil {
					t.Errorf("the app was shown %s", name)
				}
			}
		})
	}
	if a := g.get("/public", "X-WX-Skey: x"); a.status != http.StatusOK || identities(a.body, "X-WX-Skey") != nil {
		t.Errorf("a public route: %d %s", a.status, a.body)
	}
	own := start(t, setup{directive: "programs " + programA + "\nclients wafer", routes: "reverse_proxy UPSTREAM\nhandle_errors {\nreverse_proxy UPSTREAM\n}"})
	for name, lines := range map[string][]string{
		"ambiguous": {"X-WX-Skey: credential", bearer("x")},
		"nothing":   {"X-WX-Encrypted-Data: credential"},
	} {
		if a := own.get("/orders", lines...); !strings.HasPrefix(a.body, "GET /orders") || strings.Contains(a.body, "credential") {
			t.Errorf("error route, %s: %d %s", name, a.status, a.body)
		}
	}
	a := g.get("/miniprogram/session", "X-WX-Id: x", "X-WX-Skey: x")
	a.expect(t, http.StatusOK, "session_invalid")
}
