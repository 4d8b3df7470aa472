// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/minigate/minigate/module/provider"
)

// infoNode is the node of user information.
const infoNode = "alipay_user_info_share_response"

// infoReply is the reply with the given body to a call with testAccess.
func infoReply(body string) *reply {
	r := replyOf(body)
	r.method = methodInfo
	r.hidden = append(r.hidden, testAccess)
	return r
}

const testAccess = "authusrB0123456789abcdef0123456789abcX01"

// platformOf answers the exchange with a grant and the call after it with a body.
func platformOf(t *testing.T, grant provider.Grant, info string) (base string, methods *[]string) {
	methods = new([]string)
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		form := formOf(r)
		method := r.URL.Query().Get("method")
		*methods = append(*methods, method)
		if method == methodToken {
			if r.URL.Query().Has("auth_token") || form.Get("code") == "" {
				t.Errorf("the exchange is %v %v", r.URL.Query(), form)
			}
			_, _ = io.WriteString(w, signed(tokenNode, strings.Replace(nodeOf(grant), "authbse", "authusr", 1), ""))
			return
		}
		if got := r.URL.Query()["auth_token"]; len(got) != 1 || got[0] != testAccess || form.Has("code") || form.Has("auth_token") || form.Has("grant_type") {
			t.Errorf("the call has %v %v", r.URL.Query(), form)
		}
		w.Header().Set("trace_id", "trace1")
		_, _ = io.WriteString(w, info)
	}), methods
}

// The request is the platform's, byte for byte, with a body only for a merchant's
// token. In certificate mode both certificates are named. (go-pay/gopay#452: here
// of all calls they were not.)
func TestUserInfoRequests(t *testing.T) {
	for name, set := range map[string]func(*client){
		"R4":       func(*client) {},
		"merchant": func(c *client) { c.appAuthToken = testToken },
		"certificates": func(c *client) {
			c.appCertSN, c.rootCertSN = "866efef280dec9137a87d047ac446315", "687b59193f3f462dd5336e5abf83c5d8"
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got *http.Request
			var body string
			p := newProvider(t, []string{serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("method") == methodToken {
					_, _ = io.WriteString(w, vectors["S1"]["body"])
					return
				}
				got, body = r, readBody(r)
				_, _ = io.WriteString(w, signed(infoNode, `{"code":"10000"}`, ""))
			})})
			p.client.appID = "2021000000000001"
			p.client.now = func() time.Time { return time.Date(2026, 1, 1, 19, 4, 5, 0, time.UTC) }
			set(p.client)
			grant, info, err := p.UserInfoByCode(t.Context(), testCode(0))
			if err != nil || grant.OpenID != "083abcDEF0123456789-_abcDEF0123456789-_abcDEF01" || info != (provider.UserInfo{}) {
				t.Fatalf("%+v %+v %v", grant, info, err)
			}
			query := got.URL.Query()
			all := params{}
			for name, value := range query {
				all[name] = value[0]
			}
			switch name {
			case "R4":
				if query.Get("sign") != vectors["R4"]["sign"] || body != "" || all.text() != vectors["R4"]["string_to_sign"] {
					t.Errorf("the query is %v, the body %q", query, body)
				}
			case "merchant":
				if body != "app_auth_token="+testToken || query.Has("app_auth_token") {
					t.Errorf("the query is %v, the body %q", query, body)
				}
				all["app_auth_token"] = testToken
			default:
				if query.Get("app_cert_sn") != p.client.appCertSN || query.Get("alipay_root_cert_sn") != p.client.rootCertSN {
					t.Errorf("the query is %v", query)
				}
			}
			if !isSigned(&appKey.PublicKey, []byte(all.text()), query.Get("sign")) {
				t.Error("the call is not signed")
			}
		})
	}
}

// S2 is the platform's own success with everything in a text that misleads a reader
// who looks for quotes and braces; S6 is signed without the backslashes.
func TestUserInfoVectors(t *testing.T) {
	grant := provider.Grant{OpenID: "083abcDEF0123456789-_abcDEF0123456789-_abcDEF01"}
	got, err := testClient.readInfo(t.Context(), infoReply(vectors["S2"]["body"]), grant)
	if want := (provider.UserInfo{Nickname: `张"}三\`, AvatarURL: "https://tfs.alipayobjects.com/images/partner/a.png"}); err != nil || got != want {
		t.Errorf("S2: got %+v %v", got, err)
	}
	if got, err := testClient.readInfo(t.Context(), infoReply(vectors["S6"]["body"]), grant); err != nil || got != (provider.UserInfo{AvatarURL: "https://a/b"}) {
		t.Errorf("S6: got %+v %v", got, err)
	}
	if got, err := testClient.readInfo(t.Context(), infoReply(vectors["S1"]["body"]), grant); err == nil {
		t.Errorf("S1: got %+v", got)
	}
}

// Whoever could replay an answer about another user would give away his name and
// number. While a program changes to open_ids, the platform may tell more ids, or
// fewer, than it did a moment ago.
func TestIDsOfUserInfo(t *testing.T) {
	old := provider.Grant{UserID: "2088"}
	both := provider.Grant{OpenID: "083", UserID: "2088", UnionID: "u"}
	open := provider.Grant{OpenID: "083", UnionID: "u"}
	for _, test := range []struct {
		grant provider.Grant
		ids   string
		ok    bool
	}{
		{old, ``, true},
		{both, ``, true},
		{open, ``, true},
		{old, `,"user_id":"2088"`, true},
		{old, `,"user_id":"2088","open_id":"083"`, true},
		{old, `,"open_id":"083"`, true},
		{both, `,"user_id":"2088"`, true},
		{both, `,"open_id":"083","union_id":"u"`, true},
		{open, `,"user_id":"2088","open_id":"083"`, true},
		{open, `,"user_id":null,"open_id":""`, true},
		{old, `,"user_id":"2089"`, false},
		{both, `,"user_id":"2088","open_id":"084"`, false},
		{both, `,"user_id":"2089","open_id":"083"`, false},
		{open, `,"open_id":"083 "`, false},
		{open, `,"open_id":"083","union_id":"v"`, false},
		{open, `,"open_id":83`, false},
		{open, `,"open_id":"083","user_id":{}`, false},
		{open, `,"open_id":"083","open_id":"083"`, false},
		{open, `,"open_id":"083","Open_Id":"084"`, false},
	} {
		body := signed(infoNode, `{"code":"10000","nick_name":"n"`+test.ids+"}", "")
		got, err := testClient.readInfo(t.Context(), infoReply(body), test.grant)
		if test.ok && (err != nil || got.Nickname != "n") {
			t.Errorf("%+v%s: got %+v %v", test.grant, test.ids, got, err)
		}
		if !test.ok && (errorOf(t, err).Reason != provider.PlatformFault || got != (provider.UserInfo{})) {
			t.Errorf("%+v%s: got %+v %v", test.grant, test.ids, got, err)
		}
	}
}

// A refusal of this call is seldom one of the login's: the token is new, so what is
// not there is the consent. The code is spent in any case.
func TestUserInfoRefusals(t *testing.T) {
	good := `{"code":"10000","msg":"Success","nick_name":"n","open_id":"` + testGrant(1).OpenID + `"}`
	for name, test := range map[string]struct {
		body string
		want provider.Reason
	}{
		"no consent":                    {signed(infoNode, refusalNode("40006", "isv.insufficient-user-permissions", ""), ""), provider.ConsentMissing},
		"token invalid":                 {signed(infoNode, refusalNode("20001", "aop.invalid-auth-token", "无效的访问令牌 "+testAccess), ""), provider.ConsentMissing},
		"token expired":                 {signed(infoNode, refusalNode("20001", "AOP.AUTH-TOKEN-TIME-OUT", ""), ""), provider.ConsentMissing},
		"consent taken back":            {signed(infoNode, refusalNode("40003", "invalid-auth-relations", testCode(3)), ""), provider.ConsentMissing},
		"no consent, by error_response": {signed(errorNode, refusalNode("40006", "isv.insufficient-user-permissions", ""), ""), provider.ConsentMissing},
		"no consent, not signed":        {`{"` + infoNode + `":` + refusalNode("40006", "isv.insufficient-user-permissions", "") + "}", provider.ConsentMissing},
		"product not bound":             {signed(infoNode, refusalNode("40006", "isv.insufficient-isv-permissions", ""), ""), provider.Misconfigured},
		"no certificates":               {signed(infoNode, refusalNode("40002", "isv.missing-app-cert-sn", ""), ""), provider.Misconfigured},
		"busy":                          {signed(infoNode, refusalNode("20000", "isp.unknow-error", ""), ""), provider.Unavailable},
		"too many":                      {signed(infoNode, refusalNode("40005", "isv.app-call-limited", ""), ""), provider.RateLimited},
		"unknown":                       {signed(infoNode, refusalNode("40004", "isv.new-in-2030", ""), ""), provider.PlatformFault},
		"not a success":                 {signed(infoNode, `{"nick_name":"n"}`, ""), provider.PlatformFault},
		"code empty":                    {signed(infoNode, `{"code":"","nick_name":"n"}`, ""), provider.PlatformFault},
		"code of another type":          {signed(infoNode, `{"code":["10000"],"nick_name":"n"}`, ""), provider.PlatformFault},
		"success that refuses":          {signed(infoNode, `{"code":"10000","sub_code":"isv.x","nick_name":"n"}`, ""), provider.PlatformFault},
		"success as an error":           {signed(errorNode, good, ""), provider.PlatformFault},
		"not signed":                    {`{"` + infoNode + `":` + good + "}", provider.PlatformFault},
		"changed":                       {strings.Replace(signed(infoNode, good, ""), `:"n"`, `:"m"`, 1), provider.PlatformFault},
		"signed by the app":             {`{"` + infoNode + `":` + good + `,"sign":"` + signedBy(appKey, good) + `"}`, provider.PlatformFault},
		"two nodes":                     {strings.Replace(signed(infoNode, good, ""), "{", `{"`+errorNode+`":{},`, 1), provider.PlatformFault},
		"name twice":                    {signed(infoNode, strings.Replace(good, "{", `{"nick_name":"m",`, 1), ""), provider.PlatformFault},
		"name in another case":          {signed(infoNode, strings.Replace(good, "{", `{"NICK_NAME":"m",`, 1), ""), provider.PlatformFault},
		"of a login":                    {signed(tokenNode, nodeOf(testGrant(1)), ""), provider.PlatformFault},
		"of another user":               {signed(infoNode, strings.Replace(good, testGrant(1).OpenID, testGrant(2).OpenID, 1), ""), provider.PlatformFault},
		"HTML":                          {"<html>", provider.PlatformFault},
	} {
		t.Run(name, func(t *testing.T) {
			base, methods := platformOf(t, testGrant(1), test.body)
			grant, info, err := newProvider(t, []string{base}).UserInfoByCode(t.Context(), testCode(3))
			e := errorOf(t, err)
			if e.Reason != test.want || grant != (provider.Grant{}) || info != (provider.UserInfo{}) || e.TraceID != "trace1" || !provider.MayHaveSeen(err) {
				t.Errorf("got %+v %+v %v", grant, info, err)
			}
			if strings.Join(*methods, " ") != methodToken+" "+methodInfo {
				t.Errorf("the calls are %v", *methods)
			}
			if text := err.Error(); strings.Contains(text, testAccess) || strings.Contains(text, testCode(3)) {
				t.Errorf("the error shows a secret: %s", text)
			}
		})
	}
}

// The reasons of the other call are what they were.
func TestUserInfoByCodeFailsAtTheLogin(t *testing.T) {
	calls := 0
	var answer string
	p := newProvider(t, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
		calls++
		_, _ = io.WriteString(w, answer)
	})})
	for subCode, want := range map[string]provider.Reason{
		"isv.code-invalid":                  provider.CodeInvalid,
		"aop.invalid-auth-token":            provider.CodeInvalid,
		"isv.insufficient-user-permissions": provider.Misconfigured,
		"invalid-auth-relations":            provider.Misconfigured,
	} {
		calls, answer = 0, signed(errorNode, refusalNode("40002", subCode, ""), "")
		_, info, err := p.UserInfoByCode(t.Context(), testCode(0))
		if e := errorOf(t, err); e.Reason != want || calls != 1 || info != (provider.UserInfo{}) {
			t.Errorf("%s: %d calls, %v", subCode, calls, err)
		}
	}
	calls = 0
	_, _, err := p.UserInfoByCode(t.Context(), "a&b")
	if e := errorOf(t, err); e.Reason != provider.CodeMalformed || calls != 0 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// That the second call was never sent does not mean that the code was not: a
// gateway that believed so would send it again.
func TestCodeIsSpentThoughInfoWasNotSent(t *testing.T) {
	var p *Provider
	calls := 0
	base := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		calls++
		// The next connection is refused.
		api, err := provider.NewClient([]string{"http://127.0.0.1:1"})
		if err != nil {
			panic(err)
		}
		p.client.api = api
		_, _ = io.WriteString(w, signed(tokenNode, nodeOf(testGrant(1)), ""))
	})
	p = newProvider(t, []string{base})
	grant, _, err := p.UserInfoByCode(t.Context(), testCode(0))
	e := errorOf(t, err)
	if e.Reason != provider.Unavailable || !provider.MayHaveSeen(err) || grant != (provider.Grant{}) || calls != 1 || !strings.Contains(err.Error(), "the code was exchanged before") {
		t.Errorf("%d calls, %+v %v", calls, grant, err)
	}
}

// An access token is whatever the platform says, and reaches nothing but its place.
func TestAccessTokensAreEscaped(t *testing.T) {
	const token = "a+b&method=x y/%"
	var query url.Values
	p := newProvider(t, []string{serve(t, func(w http.ResponseWriter, r *http.Request) {
		if query = r.URL.Query(); query.Get("method") == methodToken {
			_, _ = io.WriteString(w, signed(tokenNode, `{"access_token":"`+token+`","open_id":"o"}`, ""))
			return
		}
		_, _ = io.WriteString(w, signed(infoNode, `{"code":"10000","open_id":"o"}`, ""))
	})})
	if _, _, err := p.UserInfoByCode(t.Context(), testCode(0)); err != nil || query.Get("auth_token") != token || query.Get("method") != methodInfo {
		t.Errorf("%v, the query is %v", err, query)
	}
}

// Whatever the platform signs, what is read of it is sane.
func FuzzReadInfo(f *testing.F) {
	for _, seed := range []string{
		"{}", `{"code":"10000"}`, vectors["S2"]["signed_bytes"], vectors["S6"]["signed_bytes_as_received"],
		`{"code":10000,"nick_name":"a\u202e","avatar":"http://tfs.alipayobjects.com/a","email":"a@b.cn","mobile":"1-23456","gender":"M","open_id":"o"}`,
		refusalNode("40006", "isv.insufficient-user-permissions", "x"),
	} {
		f.Add(seed)
	}
	grant := provider.Grant{OpenID: "o"}
	f.Fuzz(func(t *testing.T, node string) {
		info, err := testClient.readInfo(t.Context(), infoReply(signed(infoNode, node, "")), grant)
		if err != nil {
			if errorOf(t, err); info != (provider.UserInfo{}) {
				t.Fatalf("got %+v %v", info, err)
			}
			return
		}
		for _, name := range []string{"nickname", "avatar_url", "country", "province", "city", "email", "phone_number", "country_code"} {
			text := *info.Field(name)
			if strings.ContainsFunc(text, unicode.IsControl) || strings.ContainsAny(text, "\u202a\u202e\u2066\u2069") ||
				len([]rune(text)) > longestURL || name != "avatar_url" && len([]rune(text)) > 128 {
				t.Fatalf("%s is %q", name, text)
			}
		}
		if info.AvatarURL != "" && !strings.HasPrefix(info.AvatarURL, "https://") || strings.ContainsAny(info.AvatarURL, " \"<>\\") ||
			strings.Trim(info.PhoneNumber+info.CountryCode, "0123456789") != "" || strings.ContainsAny(info.Email, "* <>") {
			t.Fatalf("got %+v", info)
		}
	})
}
