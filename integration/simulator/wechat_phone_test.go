// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// sharePhone obtains a phone code.
func sharePhone(t testing.TB, s *Simulator, phone Phone) string {
	t.Helper()
	code, err := s.SharePhone(phone)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// phoneBody is the body of getPhoneNumber.
func phoneBody(code, openID string) string {
	return `{"code":"` + code + `","openid":"` + openID + `"}`
}

func TestPhoneNumber(t *testing.T) {
	s, clock := newTest(t)
	target := weChatPhonePath + "?access_token=" + stableToken(t, s)
	given := clock.Now().Unix()
	for name, test := range map[string]struct {
		phone       Phone
		full, short string
		country     string
	}{
		"from China": {Phone{Number: "13580006666"}, "13580006666", "13580006666", "86"},
		// A foreign number carries its country code.
		"foreign": {Phone{Number: "61234567", CountryCode: "852"}, "85261234567", "61234567", "852"},
	} {
		t.Run(name, func(t *testing.T) {
			test.phone.Program, test.phone.User = testApp, "alice"
			code := sharePhone(t, s, test.phone)
			clock.advance(time.Minute)
			object := callJSON(t, s, http.MethodPost, target, phoneBody(code, ""))
			wantErrcode(t, object, 0)
			info, _ := object["phone_info"].(map[string]any)
			watermark, _ := info["watermark"].(map[string]any)
			if info["phoneNumber"] != test.full || info["purePhoneNumber"] != test.short ||
				info["countryCode"] != test.country || watermark["appid"] != testApp {
				t.Errorf("answer is %v", object)
			}
			// The watermark tells when the user agreed, not when the server asked.
			if stamp, _ := watermark["timestamp"].(float64); int64(stamp) > clock.Now().Unix()-60 || int64(stamp) < given {
				t.Errorf("timestamp is %v", watermark["timestamp"])
			}
			wantErrcode(t, callJSON(t, s, http.MethodPost, target, phoneBody(code, "")), 40029)
		})
	}
}

func TestPhoneNumberErrors(t *testing.T) {
	s, clock := newTest(t)
	expired := sharePhone(t, s, Phone{Program: testApp, User: "alice", Number: "13580006666"})
	clock.advance(5 * time.Minute)
	target := weChatPhonePath + "?access_token=" + stableToken(t, s)
	code := sharePhone(t, s, Phone{Program: testApp, User: "alice", Number: "13580006666"})
	foreign := sharePhone(t, s, Phone{Program: otherApp, User: "alice", Number: "13580006666"})
	bob, _ := s.Identity(testApp, "bob")
	for name, test := range map[string]struct {
		method, target, body string
		want                 int
	}{
		"form in place of JSON":   {http.MethodPost, target, "code=" + code, 47001},
		"no body":                 {http.MethodPost, target, "", 47001},
		"code of the wrong type":  {http.MethodPost, target, `{"code":1}`, 47001},
		"no code":                 {http.MethodPost, target, `{}`, 40029},
		"login code":              {http.MethodPost, target, phoneBody(login(t, s, testApp, "alice"), ""), 40029},
		"expired code":            {http.MethodPost, target, phoneBody(expired, ""), 40029},
		"code of another program": {http.MethodPost, target, phoneBody(foreign, ""), 40013},
		"code of another user":    {http.MethodPost, target, phoneBody(code, bob.OpenID), 40029},
		"GET":                     {http.MethodGet, target, phoneBody(code, ""), 43002},
		"no token":                {http.MethodPost, weChatPhonePath, phoneBody(code, ""), 41001},
		"bad token":               {http.MethodPost, weChatPhonePath + "?access_token=x", phoneBody(code, ""), 40014},
	} {
		t.Run(name, func(t *testing.T) {
			wantErrcode(t, callJSON(t, s, test.method, test.target, test.body), test.want)
		})
	}
	// None of these spent the code: a call that fails for its token, its form or
	// its openid can be repeated.
	alice, _ := s.Identity(testApp, "alice")
	wantErrcode(t, callJSON(t, s, http.MethodPost, target, phoneBody(code, alice.OpenID)), 0)
}

func TestSharePhoneRefusesInput(t *testing.T) {
	s, _ := newTest(t)
	for name, phone := range map[string]Phone{
		"no number":         {},
		"plus sign":         {Number: "+8613580006666"},
		"too short":         {Number: "123"},
		"too long":          {Number: strings.Repeat("1", 21)},
		"other digits":      {Number: "１３５８０００６６６６"},
		"bad country":       {Number: "13580006666", CountryCode: "CN"},
		"very long country": {Number: "13580006666", CountryCode: "00086"},
	} {
		t.Run(name, func(t *testing.T) {
			phone.Program, phone.User = testApp, "alice"
			if code, err := s.SharePhone(phone); err == nil {
				t.Errorf("it was accepted, with code %q", code)
			}
		})
	}
}
