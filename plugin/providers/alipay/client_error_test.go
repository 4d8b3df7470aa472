// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/module/provider"
)

// subCodes are the sub_codes that the platform documents, as it writes them.
var subCodes = map[provider.Reason][]string{
	provider.CodeInvalid: {
		"isv.code-invalid", "isv.refresh-token-invalid", "isv.refresh-token-time-out", "isv.refreshed-token-invalid",
		"aop.invalid-auth-token", "aop.auth-token-time-out",
	},
	provider.Unavailable: {"isp.unknow-error", "aop.unknow-error", "aop.unknown-error"},
	provider.RateLimited: {"isv.app-call-limited", "isv.method-call-limited"},
	provider.Misconfigured: {
		"isv.grant-type-invalid", "isv.unmatched-app-id",
		"aop.invalid-app-auth-token", "aop.app-auth-token-time-out", "aop.invalid-app-auth-token-no-api", "aop.no-product-reg-by-partner",
		"isv.missing-method", "isv.missing-signature", "isv.missing-signature-type", "isv.missing-signature-key", "isv.missing-app-id",
		"isv.missing-timestamp", "isv.missing-version", "isv.missing-signature-config", "isv.missing-app-cert-sn", "isv.missing-alipay-root-cert-sn",
		"isv.invalid-signature", "isv.invalid-app-id", "isv.invalid-timestamp", "isv.invalid-charset", "isv.invalid-format", "isv.invalid-method",
		"isv.suspected-attack", "isv.forbidden-api", "isv.app-cert-not-exist", "isv.app-cert-expired", "isv.not-online-app", "isv.invalid-openid",
		"isv.decryption-error", "isv.decryption-error-unknown", "isv.decryption-error-not-valid-encrypt-key", "isv.invalid-auth-relations",
		"isv.insufficient-isv-permissions", "isv.insufficient-user-permissions", "isv.self-invoke-forbidden", "isv.ip-forbidden", "app-openid-not-match",
	},
	provider.PlatformFault: {
		"isv.code-is-expired", "isv.new-in-2030", "isv.", "isv", "isv.isv.code-invalid", "code-invalid.isv", "ISV_CODE_INVALID", "isx.code-invalid",
	},
}

func TestSubCodes(t *testing.T) {
	named := make(map[string]bool)
	for want, names := range subCodes {
		for _, name := range names {
			named[strings.TrimPrefix(strings.TrimPrefix(bare(name), "isv."), "aop.")] = true
			forms := []string{name, strings.ToUpper(name)}
			if want != provider.PlatformFault {
				forms = append(forms, bare(name), "aop."+bare(name), "isv."+bare(name))
			}
			for _, form := range forms {
				for _, wrapper := range []string{errorNode, tokenNode} {
					for _, body := range []string{
						signed(wrapper, refusalNode("40002", form, "why"), ""),
						`{"` + wrapper + `":` + refusalNode("40002", form, "why") + `}`,
						`{"` + wrapper + `":{"code":40002,"sub_code":"` + form + `","sub_msg":"why"}}`,
					} {
						grant, err := read(body)
						e := errorOf(t, err)
						if grant != (provider.Grant{}) || e.Reason != want || e.PlatformCode != form || e.PlatformMessage != "why" {
							t.Errorf("%s: got %+v %v, want %v", body, grant, err, want)
						}
						if unsigned := strings.Contains(err.Error(), "not signed"); unsigned == strings.Contains(body, `"sign"`) {
							t.Errorf("%s: the error is %v", body, err)
						}
					}
				}
			}
		}
	}
	for name := range reasons {
		if !named[name] {
			t.Errorf("sub_code %s is in no test", name)
		}
	}
}

func TestCodesWithoutASubCode(t *testing.T) {
	for _, test := range []struct {
		node, code string
		want       provider.Reason
	}{
		{`{"code":"20000","msg":"Service Currently Unavailable"}`, "20000", provider.Unavailable},
		{`{"code":20000}`, "20000", provider.Unavailable},
		{`{"code":"20000","sub_code":"isp.new-in-2030"}`, "isp.new-in-2030", provider.Unavailable},
		{`{"code":"40005","sub_code":"isv.user-call-limited"}`, "isv.user-call-limited", provider.RateLimited},
		{`{"code":40005,"sub_code":null}`, "40005", provider.RateLimited},
		{`{"code":"40002","sub_code":""}`, "40002", provider.PlatformFault},
		{`{"code":"40002"}`, "40002", provider.PlatformFault},
		{`{"sub_code":17}`, "17", provider.PlatformFault},
	} {
		for _, wrapper := range []string{errorNode, tokenNode} {
			_, err := read(signed(wrapper, test.node, ""))
			if e := errorOf(t, err); e.Reason != test.want || e.PlatformCode != test.code {
				t.Errorf("%s: %v", test.node, err)
			}
		}
	}
	// In the node of errors there is no success.
	for _, node := range []string{`{}`, `{"code":"10000"}`, nodeOf(testGrant(1))} {
		grant, err := read(signed(errorNode, node, ""))
		if e := errorOf(t, err); e.Reason != provider.PlatformFault || grant != (provider.Grant{}) {
			t.Errorf("%s: %+v %v", node, grant, err)
		}
	}
	// A refusal that looks like a grant is a refusal.
	grant := strings.TrimSuffix(nodeOf(testGrant(1)), "}")
	for _, more := range []string{`,"sub_code":"isv.code-invalid"}`, `,"code":"40002"}`, `,"code":40002,"sub_code":""}`} {
		got, err := read(signed(tokenNode, grant+more, ""))
		if err == nil {
			t.Errorf("%s: got %+v", more, got)
		}
	}
	if got, err := read(signed(tokenNode, grant+`,"code":"10000","msg":"Success","sub_code":""}`, "")); err != nil || got != testGrant(1) {
		t.Errorf("got %+v %v", got, err)
	}
}

func TestMessages(t *testing.T) {
	for _, test := range []struct{ message, want string }{
		{"授权码code无效", "授权码code无效"},
		{"", "Invalid Arguments"},
		{"code=" + testCode(0) + "&amp;sign=c2lnbmF0dXJl+/==", "code=[redacted]&amp;sign=[redacted]"},
		{"app_auth_token=" + testToken, "app_auth_token=[redacted]"},
		{"sign=c2lnbmF0dXJl%2B%2F%3D%3D", "sign=[redacted]"},
		{"line\r\nfeed\x00\x1b[31m", "linefeed[31m"},
		{strings.Repeat("x", 1000), strings.Repeat("x", 253) + "…"},
	} {
		_, err := read(signed(errorNode, refusalNode("40002", "isv.invalid-signature", test.message), ""))
		if e := errorOf(t, err); e.PlatformMessage != test.want || e.Reason != provider.Misconfigured {
			t.Errorf("%q: got %q", test.message, e.PlatformMessage)
		}
	}
	for _, message := range []string{"7", "null", "{}", "[]", "true"} {
		_, err := read(signed(errorNode, `{"sub_code":"isv.code-invalid","sub_msg":`+message+`}`, ""))
		if e := errorOf(t, err); e.PlatformMessage != "" || e.Reason != provider.CodeInvalid {
			t.Errorf("sub_msg %s: got %+v", message, e)
		}
	}
	_, err := read(signed(errorNode, refusalNode("40002", "x "+testCode(0)+"\x00"+strings.Repeat("y", 300), ""), ""))
	if e := errorOf(t, err); strings.Contains(e.PlatformCode, testCode(0)) || len(e.PlatformCode) > 256 || strings.Contains(e.PlatformCode, "\x00") {
		t.Errorf("the code is %q", e.PlatformCode)
	}
}

// A message of the platform shows the text that it would have signed, and with
// it the code. It must not get into the log.
func TestTextToSignIsRedacted(t *testing.T) {
	var sent string
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		form := formOf(r)
		query := r.URL.Query()
		all := params{"code": form.Get("code"), "grant_type": form.Get("grant_type"), "app_auth_token": form.Get("app_auth_token")}
		sent = query.Get("sign")
		message := "验签出错, 建议检查签名字符串或签名私钥与应用公钥是否匹配 " + sent + strings.ReplaceAll(all.text(), "&", "&amp;")
		_, _ = w.Write([]byte(`{"` + errorNode + `":` + refusalNode("40002", "isv.invalid-signature", message) + `}`))
	})
	p := start(t, &Provider{ID: testAppID, PrivateKey: appKeyText, AlipayPublicKey: platformText, AppAuthToken: testToken, API: []string{base}})
	_, err := p.Exchange(t.Context(), testCode(0))
	text := errorOf(t, err).Error()
	for _, secret := range []string{testCode(0), testToken, sent} {
		if strings.Contains(text, secret) {
			t.Errorf("the error shows %s: %s", secret, text)
		}
	}
	if !strings.Contains(text, "code=[redacted]") || !strings.Contains(text, "app_auth_token=[redacted]&amp;") {
		t.Error(text)
	}
}

func TestTraceIDs(t *testing.T) {
	for id, want := range map[string]string{
		"21026b9f17672942450001234e0d2b":       "21026b9f17672942450001234e0d2b",
		"0be4-7a_x.y":                          "0be4-7a_x.y",
		"":                                     "",
		"a b":                                  "",
		"<b>":                                  "",
		strings.Repeat("x", 65):                "",
		testCode(0):                            "",
		"x" + testCode(0):                      "",
		"\x1b[31m":                             "",
		"21026b9f17672942450001234e0d2b\u202e": "21026b9f17672942450001234e0d2b",
	} {
		for _, body := range []string{vectors["S3"]["body"], vectors["S4"]["body"], vectors["S5"]["body"], "<html>", "{}"} {
			r := replyOf(body)
			r.Header.Set("trace_id", id)
			_, _, err := testClient.readGrant(t.Context(), r)
			if e := errorOf(t, err); e.TraceID != want {
				t.Errorf("%q: got %q", id, e.TraceID)
			}
		}
	}
}

// The clock that is wrong is the host's, which nothing else would show.
func TestInvalidTimestamp(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := *testClient
	c.now = func() time.Time { return now }
	for _, test := range []struct{ date, want string }{
		{now.Add(10 * time.Minute).Format(http.TimeFormat), ": it is 10m0s behind the date of the answer"},
		{now.Add(-8 * time.Hour).Format(http.TimeFormat), ": it is 8h0m0s ahead of the date of the answer"},
		{now.Format(http.TimeFormat), ", although it agrees with the date of the answer"},
		{"", ""},
		{"yesterday", ""},
	} {
		for _, subCode := range []string{"isv.invalid-timestamp", "invalid-timestamp"} {
			r := replyOf(signed(errorNode, refusalNode("40002", subCode, "非法的时间戳参数"), ""))
			if test.date != "" {
				r.Header.Set("Date", test.date)
			}
			_, _, err := c.readGrant(t.Context(), r)
			want := "misconfigured: platform code " + subCode + ": 非法的时间戳参数: the clock or the time zone of this host may be wrong" + test.want
			if err == nil || err.Error() != want {
				t.Errorf("%q: got %v\nwant %s", test.date, err, want)
			}
		}
	}
	if _, err := read(vectors["S3"]["body"]); strings.Contains(err.Error(), "clock") {
		t.Error(err)
	}
}
