// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/module/provider"
)

// testClient is a client that reads answers and calls nobody.
var testClient = &client{appID: testAppID, secret: testSecret}

// answerOf is an answer with the given body.
func answerOf(body string) *provider.Answer {
	return &provider.Answer{Status: 200, Body: []byte(body)}
}

// errorOf returns the *provider.Error that err must be.
func errorOf(t testing.TB, err error) *provider.Error {
	t.Helper()
	var e *provider.Error
	if !errors.As(err, &e) {
		t.Fatalf("want a *provider.Error, got %v", err)
	}
	return e
}

// What the gateway does next hangs on the reason: a token that is wrongly called
// rejected is renewed for nothing, one that is not stops every call until it ends
// (40001 storms: silenceper/wechat#516, ArtisanCloud/PowerWeChat#200).
func TestErrorCodes(t *testing.T) {
	calls := map[string]func(*provider.Answer) error{
		"login": func(a *provider.Answer) error { _, err := testClient.readGrant(a, testCode(0)); return err },
		"token": func(a *provider.Answer) error { _, _, err := testClient.readToken(a); return err },
		"phone": func(a *provider.Answer) error { _, err := testClient.readPhone(a); return err },
		"key":   func(a *provider.Answer) error { _, err := testClient.open(a, sessionKeyReasons); return err },
	}
	for _, test := range []struct {
		errcode                  int
		login, token, phone, key provider.Reason
	}{
		{-1, provider.Unavailable, provider.Unavailable, provider.Unavailable, provider.Unavailable},
		{40029, provider.CodeInvalid, provider.PlatformFault, provider.CodeInvalid, provider.PlatformFault},
		{40163, provider.CodeUsed, provider.PlatformFault, provider.CodeUsed, provider.PlatformFault},
		{41008, provider.CodeMalformed, provider.PlatformFault, provider.CodeMalformed, provider.PlatformFault},
		{40097, provider.CodeMalformed, provider.PlatformFault, provider.CodeMalformed, provider.Misconfigured},
		{40226, provider.UserBlocked, provider.UserBlocked, provider.UserBlocked, provider.UserBlocked},
		{50002, provider.UserBlocked, provider.UserBlocked, provider.UserBlocked, provider.UserBlocked},
		{45009, provider.RateLimited, provider.RateLimited, provider.RateLimited, provider.RateLimited},
		{45011, provider.RateLimited, provider.RateLimited, provider.RateLimited, provider.RateLimited},
		{40001, provider.Misconfigured, provider.Misconfigured, provider.TokenRejected, provider.TokenRejected},
		{40014, provider.Misconfigured, provider.Misconfigured, provider.TokenRejected, provider.TokenRejected},
		{42001, provider.Misconfigured, provider.Misconfigured, provider.TokenRejected, provider.TokenRejected},
		{41001, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{40013, provider.Misconfigured, provider.Misconfigured, provider.CodeInvalid, provider.Misconfigured},
		{40002, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{40090, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{40125, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{40164, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{40243, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{41002, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{41004, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{43002, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{47001, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{48001, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{50004, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{50007, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{89503, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{89506, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{89507, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured, provider.Misconfigured},
		{87007, provider.PlatformFault, provider.PlatformFault, provider.PlatformFault, provider.KeyStale},
		{87008, provider.PlatformFault, provider.PlatformFault, provider.PlatformFault, provider.Misconfigured},
		{87009, provider.PlatformFault, provider.PlatformFault, provider.PlatformFault, provider.KeyStale},
		{1, provider.PlatformFault, provider.PlatformFault, provider.PlatformFault, provider.PlatformFault},
		{-2, provider.PlatformFault, provider.PlatformFault, provider.PlatformFault, provider.PlatformFault},
		{429000, provider.PlatformFault, provider.PlatformFault, provider.PlatformFault, provider.PlatformFault},
	} {
		wait := map[int]time.Duration{45009: time.Hour, 45011: time.Minute}[test.errcode]
		wants := map[string]provider.Reason{"login": test.login, "token": test.token, "phone": test.phone, "key": test.key}
		for call, want := range wants {
			for _, form := range []string{`{"errcode":%d,"errmsg":"why"}`, `{"errcode":"%d","errmsg":"why"}`} {
				err := calls[call](answerOf(fmt.Sprintf(form, test.errcode)))
				e := errorOf(t, err)
				if e.Reason != want || e.PlatformCode != fmt.Sprint(test.errcode) || e.PlatformMessage != "why" || e.RetryAfter != wait {
					t.Errorf("%s, %d: got %+v, want %v", call, test.errcode, e, want)
				}
			}
		}
	}
}

func TestErrorMessages(t *testing.T) {
	for _, test := range []struct{ errmsg, message, trace string }{
		{"invalid code, rid: 62c3f1f2-0a1b2c3d-4e5f6a7b", "", "62c3f1f2-0a1b2c3d-4e5f6a7b"},
		{"invalid code rid:62c3f1f2-0a1b2c3d-4e5f6a7b", "", "62c3f1f2-0a1b2c3d-4e5f6a7b"},
		{"invalid code, hints: [ req_id: aBcD_1234.x ]", "", "aBcD_1234.x"},
		{"invalid code, hints: [ req_id: aBcD ] rid: later", "", "aBcD"},
		{"arid: x", "", ""},
		{"rid: ", "", ""},
		{"rid: <b>x</b>", "", ""},
		{"rid: " + strings.Repeat("x", 65), "", ""},
		{"rid: " + testCode(0), "rid: [redacted]", ""},
		{"rid: " + testSecret, "rid: [redacted]", ""},
		{"invalid code " + testCode(0), "invalid code [redacted]", ""},
		{"line\r\nfeed\x00\x1b[31m", "linefeed[31m", ""},
		{strings.Repeat("x", 1000), strings.Repeat("x", 253) + "…", ""},
		{"", "", ""},
	} {
		if test.message == "" {
			test.message = test.errmsg
		}
		_, err := read(fmt.Sprintf(`{"errcode":40029,"errmsg":%s}`, quote(test.errmsg)))
		if e := errorOf(t, err); e.PlatformMessage != test.message || e.TraceID != test.trace {
			t.Errorf("%q: got %q %q, want %q %q", test.errmsg, e.PlatformMessage, e.TraceID, test.message, test.trace)
		}
	}
	for _, errmsg := range []string{"7", "null", "{}", "[]", "true"} {
		_, err := read(`{"errcode":40029,"errmsg":` + errmsg + `}`)
		if e := errorOf(t, err); e.PlatformMessage != "" || e.Reason != provider.CodeInvalid {
			t.Errorf("errmsg %s: got %+v", errmsg, e)
		}
	}
}

// quote writes s as a JSON string.
func quote(s string) string {
	var b strings.Builder
	for _, r := range s {
		fmt.Fprintf(&b, `\u%04x`, r)
	}
	return `"` + b.String() + `"`
}
