// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/minigate/minigate/module/provider"
)

// read reads an answer of code2Session with the given body.
func read(body string) (provider.Grant, error) {
	return testClient.readGrant(answerOf(body), testCode(0))
}

func TestGrants(t *testing.T) {
	const openid, unionid, key = "oGZUI0egBJY1zhBYw2KhdUfwVJJE", "o6_bmasdasdsad6_2sgVt7hMZOPfL", "tiihtNczf5v6AKRyjwEUhQ=="
	for body, want := range map[string]provider.Grant{
		`{"session_key":"` + key + `","openid":"` + openid + `"}`:                                 {OpenID: openid, SessionKey: key},
		`{"openid":"` + openid + `","session_key":"` + key + `","unionid":"` + unionid + `"}`:     {OpenID: openid, UnionID: unionid, SessionKey: key},
		`{"openid":"` + openid + `","session_key":"` + key + `","unionid":null,"errcode":0}`:      {OpenID: openid, SessionKey: key},
		`{"openid":"` + openid + `","session_key":"` + key + `","unionid":"","errcode":"0"}`:      {OpenID: openid, SessionKey: key},
		"\xef\xbb\xbf" + `{"openid":"` + openid + `","session_key":"` + key + `","expires_in":7}`: {OpenID: openid, SessionKey: key},
		`{"openid":"` + openid + `","session_key":"` + key + `","errmsg":"ok","new":{"x":[1]}}`:   {OpenID: openid, SessionKey: key},
		`{"openid":"用户","session_key":"tiihtNczf5v6AKRyjwEUhQ=="}`:                                {OpenID: "用户", SessionKey: key},
	} {
		if got, err := read(body); err != nil || got != want {
			t.Errorf("%s: got %+v %v", body, got, err)
		}
	}
	grant := func(openid, key, unionid string) string {
		return fmt.Sprintf(`{"openid":%s,"session_key":%s,"unionid":%s}`, openid, key, unionid)
	}
	good := func(s string) string { return `"` + s + `"` }
	for _, body := range []string{
		`{"errcode":0,"errmsg":"ok"}`,
		`{"openid":"` + openid + `","OpenID":"x"}`,
		`{"OpenID":"` + openid + `","Session_Key":"` + key + `"}`,
		`{"openid":"a","openid":"b","session_key":"` + key + `"}`,
		grant(`""`, good(key), "null"),
		grant("null", good(key), "null"),
		grant("7", good(key), "null"),
		grant(`{"a":"b"}`, good(key), "null"),
		grant(good(strings.Repeat("x", 129)), good(key), "null"),
		grant(`"a\u0000b"`, good(key), "null"),
		grant(`"a\r\nX-User-Id: b"`, good(key), "null"),
		grant(`"a\u202eb"`, good(key), "null"),
		grant(`"a\ud800"`, good(key), "null"),
		grant("\"a\xff\"", good(key), "null"),
		grant(`"a\ufffd"`, good(key), "null"),
		grant(good(openid), `""`, "null"),
		grant(good(openid), "null", "null"),
		grant(good(openid), "7", "null"),
		grant(good(openid), good("not base64 of 16 bytes!!"), "null"),
		grant(good(openid), good("tiihtNczf5v6AKRyjwEUhQ"), "null"),
		grant(good(openid), good("tiihtNczf5v6AKRyjwEU"), "null"),
		grant(good(openid), good("tiihtNczf5v6AKRyjwEUhaQ="), "null"),
		grant(good(openid), `"tiihtNczf5v6\nAKRyjwEUhQ=="`, "null"),
		grant(good(openid), good(key), "7"),
		grant(good(openid), good(key), "{}"),
		grant(good(openid), good(key), "false"),
		grant(good(openid), good(key), `"a\u0000b"`),
		grant(good(openid), good(key), good(strings.Repeat("x", 129))),
	} {
		got, err := read(body)
		if e := errorOf(t, err); e.Reason != provider.PlatformFault || got != (provider.Grant{}) {
			t.Errorf("%s: got %+v %v", body, got, err)
		}
	}
	// A refusal that looks like a grant is a refusal.
	got, err := read(`{"errcode":40029,"openid":"` + openid + `","session_key":"` + key + `"}`)
	if e := errorOf(t, err); e.Reason != provider.CodeInvalid || got != (provider.Grant{}) {
		t.Errorf("got %+v %v", got, err)
	}
}

func TestCheckLoginCode(t *testing.T) {
	for code, want := range map[string]provider.Reason{
		"":                           provider.CodeMalformed,
		"a b":                        provider.CodeMalformed,
		"a+b":                        provider.CodeMalformed,
		"a\n":                        provider.CodeMalformed,
		"é":                          provider.CodeMalformed,
		strings.Repeat("x", 129):     provider.CodeMalformed,
		mockCode:                     provider.CodeInvalid,
		mockCode + " ":               provider.CodeMalformed,
		strings.ToUpper(mockCode):    provider.CodeMalformed,
		"the code is a mock one\x00": provider.CodeMalformed,
	} {
		if e := errorOf(t, checkLoginCode(code)); e.Reason != want {
			t.Errorf("%q: got %v, want %v", code, e, want)
		}
	}
	if err := checkLoginCode(mockCode); !strings.Contains(err.Error(), "without a real AppID") {
		t.Errorf("got %v", err)
	}
	for _, code := range []string{"a", "-", "_", "0712cDoV0cfty22AeloV0daMoV02cDog", strings.Repeat("f", 64), strings.Repeat("x", 128)} {
		if err := checkLoginCode(code); err != nil {
			t.Errorf("%q: %v", code, err)
		}
	}
}

func FuzzReadGrant(f *testing.F) {
	for _, seed := range []string{
		`{"session_key":"tiihtNczf5v6AKRyjwEUhQ==","openid":"oGZUI0egBJY1zhBYw2KhdUfwVJJE","unionid":"o6_bmasdasdsad6_2sgVt7hMZOPfL"}`,
		`{"errcode":40029,"errmsg":"invalid code, hints: [ req_id: aBcD ] rid: 62c3f1f2-0a1b2c3d-4e5f6a7b"}`,
		`{"errcode":"-1","errmsg":"` + testSecret + testCode(0) + `"}`,
		`{"openid":"\ud800","session_key":""}`,
		"\xef\xbb\xbf{}",
		"<html>",
	} {
		f.Add(200, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		grant, err := testClient.readGrant(&provider.Answer{Status: status, Body: body}, testCode(0))
		if err == nil {
			if !provider.IsID(grant.OpenID) || !isSessionKey(grant.SessionKey) || grant.UnionID != "" && !provider.IsID(grant.UnionID) {
				t.Fatalf("grant %+v", grant)
			}
			return
		}
		e := errorOf(t, err)
		if grant != (provider.Grant{}) || len(err.Error()) > 1024 || !utf8.ValidString(err.Error()) {
			t.Fatalf("got %+v %q", grant, err)
		}
		if text := err.Error() + e.TraceID; strings.Contains(text, testSecret) || strings.Contains(text, testCode(0)) {
			t.Fatalf("error shows a secret: %s", text)
		}
	})
}

func FuzzCheckLoginCode(f *testing.F) {
	for _, seed := range []string{"", "0712cDoV0cfty22AeloV0daMoV02cDog", mockCode, "x&appid=evil", "x\r\n", "\xff", strings.Repeat("x", 129)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, code string) {
		err := checkLoginCode(code)
		if err != nil {
			_ = errorOf(t, err)
			if err.Error() != checkLoginCode("").Error() && code != mockCode {
				t.Fatalf("error depends on the code: %v", err)
			}
			return
		}
		if code == "" || len(code) > 128 || strings.ContainsFunc(code, func(r rune) bool {
			return !strings.ContainsRune("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-", r)
		}) {
			t.Fatalf("accepted %q", code)
		}
	})
}
