// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/minigate/minigate/module/provider"
)

const (
	testToken  = "88_canaryT0ken_0123456789-abcdefghijklmnopqrstuvwxyz"
	testOpenID = "oGZUI0egBJY1zhBYw2Khd0000000"
)

// phoneInfo is a phone_info as in the platform's example.
func phoneInfo(number, countryCode, appID string) string {
	return fmt.Sprintf(`{"phoneNumber":%s,"purePhoneNumber":%[1]s,"countryCode":%s,"watermark":{"timestamp":1637744274,"appid":%s}}`, number, countryCode, appID)
}

// The country code is documented as a string, and a number in the platform's own
// example (phonenumber.getPhoneNumber).
func TestReadPhone(t *testing.T) {
	const own = `"` + testAppID + `"`
	for info, want := range map[string]provider.PhoneNumber{
		phoneInfo(`"13580006666"`, `"86"`, own):                                             {Number: "13580006666", CountryCode: "86"},
		phoneInfo(`"13580006666"`, `86`, own):                                               {Number: "13580006666", CountryCode: "86"},
		phoneInfo(`"2025550123"`, `"1"`, own):                                               {Number: "2025550123", CountryCode: "1"},
		phoneInfo(`"0612345678"`, `"39"`, own):                                              {Number: "0612345678", CountryCode: "39"},
		phoneInfo(`"1234"`, `"1242"`, own):                                                  {Number: "1234", CountryCode: "1242"},
		phoneInfo(`"13580006666"`, `"86"`, "null"):                                          {Number: "13580006666", CountryCode: "86"},
		`{"phoneNumber":"+442071234567","purePhoneNumber":"2071234567","countryCode":"44"}`: {Number: "2071234567", CountryCode: "44"},
	} {
		for _, errcode := range []string{`"errcode":0,"errmsg":"ok",`, `"errcode":"0",`, ""} {
			got, err := testClient.readPhone(answerOf(`{` + errcode + `"phone_info":` + info + `}`))
			if err != nil || got != want {
				t.Errorf("%s: got %+v %v", info, got, err)
			}
		}
		if got, err := plainPhoneNumber([]byte(info)); err != nil || got != want {
			t.Errorf("%s in data: got %+v %v", info, got, err)
		}
	}
	for _, info := range []string{
		"null", "7", `"x"`, "[]", "{}", `{"phoneNumber":"13580006666","countryCode":"86"}`,
		`{"purePhoneNumber":"13580006666"}`,
		`{"purePhoneNumber":"13580006666","purePhoneNumber":"13580006667","countryCode":"86"}`,
		phoneInfo(`13580006666`, `"86"`, own),
		phoneInfo(`null`, `"86"`, own),
		phoneInfo(`"+8613580006666"`, `"86"`, own),
		phoneInfo(`"135 8000 6666"`, `"86"`, own),
		phoneInfo(`"135****6666"`, `"86"`, own),
		phoneInfo(`"１３５８"`, `"86"`, own),
		phoneInfo(`"123"`, `"86"`, own),
		phoneInfo(`"1234567890123456"`, `"86"`, own),
		phoneInfo(`"13580006666"`, `"+86"`, own),
		phoneInfo(`"13580006666"`, `"86\u0000"`, own),
		phoneInfo(`"13580006666"`, `""`, own),
		phoneInfo(`"13580006666"`, `null`, own),
		phoneInfo(`"13580006666"`, `true`, own),
		phoneInfo(`"13580006666"`, `8.6`, own),
		phoneInfo(`"13580006666"`, `-86`, own),
		phoneInfo(`"13580006666"`, `12345`, own),
	} {
		got, err := testClient.readPhone(answerOf(`{"errcode":0,"phone_info":` + info + `}`))
		if e := errorOf(t, err); e.Reason != provider.PlatformFault || got != (provider.PhoneNumber{}) || strings.Contains(err.Error(), "1358") {
			t.Errorf("%s: got %+v %v", info, got, err)
		}
		if got, err := plainPhoneNumber([]byte(info)); !errors.Is(err, provider.ErrData) || got != (provider.PhoneNumber{}) {
			t.Errorf("%s in data: got %+v %v", info, got, err)
		}
	}
	// A number that was given to another program.
	for _, appID := range []string{`"wx0000000000000000"`, `""`, `7`} {
		got, err := testClient.readPhone(answerOf(`{"errcode":0,"phone_info":` + phoneInfo(`"13580006666"`, `"86"`, appID) + `}`))
		if e := errorOf(t, err); e.Reason != provider.PlatformFault || got != (provider.PhoneNumber{}) {
			t.Errorf("for %s: got %+v %v", appID, got, err)
		}
	}
	// A refusal that has a number is a refusal.
	got, err := testClient.readPhone(answerOf(`{"errcode":40029,"phone_info":` + phoneInfo(`"13580006666"`, `"86"`, own) + `}`))
	if e := errorOf(t, err); e.Reason != provider.CodeInvalid || got != (provider.PhoneNumber{}) {
		t.Errorf("got %+v %v", got, err)
	}
}

// The request is the documented one: JSON, for a form is 47001, with the openid,
// without which a thief of the code gets the number under his own name.
func TestPhoneRequest(t *testing.T) {
	var got *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, `{"errcode":0,"phone_info":`+phoneInfo(`"13580006666"`, `86`, `"`+testAppID+`"`)+`}`)
	}))
	t.Cleanup(server.Close)
	if _, err := newProvider(t, []string{server.URL}).PhoneByCode(t.Context(), "a&b=c+<d>", testCode(0), testOpenID); err != nil {
		t.Fatal(err)
	}
	if target := "/wxa/business/getuserphonenumber?access_token=a%26b%3Dc%2B%3Cd%3E"; got.Method != http.MethodPost || got.URL.String() != target {
		t.Errorf("got %s %s, want POST %s", got.Method, got.URL, target)
	}
	if want := `{"code":"` + testCode(0) + `","openid":"` + testOpenID + `"}` + "\n"; string(body) != want || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %s %s, want %s", got.Header.Get("Content-Type"), body, want)
	}
}

// What cannot be a code, or has no user, costs no call.
func TestPhoneWithoutCall(t *testing.T) {
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls++ }))
	t.Cleanup(server.Close)
	p := newProvider(t, []string{server.URL})
	for _, code := range []string{"", "x y", "x+y", `x","openid":"y`, "é", mockCode, strings.Repeat("x", 129)} {
		_, err := p.PhoneByCode(t.Context(), testToken, code, testOpenID)
		if e := errorOf(t, err); e.Reason != provider.CodeMalformed {
			t.Errorf("%q: %v", code, err)
		}
	}
	for _, openID := range []string{"", "a\x00b", strings.Repeat("x", 129)} {
		_, err := p.PhoneByCode(t.Context(), testToken, testCode(0), openID)
		if e := errorOf(t, err); e.Reason != provider.PlatformFault {
			t.Errorf("%q: %v", openID, err)
		}
	}
	if calls != 0 {
		t.Errorf("%d calls", calls)
	}
}

// An answer is a number or an error, and no error shows what it must not.
func FuzzReadPhone(f *testing.F) {
	for _, seed := range []string{
		`{"errcode":0,"errmsg":"ok","phone_info":` + phoneInfo(`"13580006666"`, `"86"`, `"`+testAppID+`"`) + `}`,
		`{"phone_info":` + phoneInfo(`"13580006666"`, `86`, `null`) + `}`,
		`{"errcode":"40029","errmsg":"` + testToken + testCode(0) + testOpenID + testSecret + `, rid: 62c3f1f2-0a1b2c3d-4e5f6a7b"}`,
		`{"errcode":40001,"errmsg":"rid: ` + testOpenID + `"}`,
		"<html>",
	} {
		f.Add(200, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		number, err := testClient.readPhone(&provider.Answer{Status: status, Body: body}, testToken, testCode(0), testOpenID)
		if err == nil {
			if !isDigits(number.Number, 4, 15) || !isDigits(number.CountryCode, 1, 4) {
				t.Fatalf("number %+v", number)
			}
			return
		}
		e := errorOf(t, err)
		if number != (provider.PhoneNumber{}) || len(err.Error()) > 1024 || !utf8.ValidString(err.Error()) {
			t.Fatalf("got %+v %q", number, err)
		}
		for _, hidden := range []string{testSecret, testToken, testCode(0), testOpenID} {
			if strings.Contains(err.Error()+e.TraceID, hidden) {
				t.Fatalf("error shows a secret: %v %s", err, e.TraceID)
			}
		}
	})
}
