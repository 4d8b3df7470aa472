// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestCode2Session(t *testing.T) {
	s, _ := newTest(t)
	recorder := do(s, http.MethodGet, loginURL(login(t, s, testApp, "alice")), "")
	if recorder.Code != http.StatusOK {
		t.Errorf("status is %d", recorder.Code)
	}
	// WeChat labels this JSON as plain text; a client that asks for JSON by the
	// content type fails against the real platform.
	if contentType := recorder.Header().Get("Content-Type"); contentType != "text/plain" {
		t.Errorf("content type is %q", contentType)
	}
	form := regexp.MustCompile(
		`^\{"session_key":"([A-Za-z0-9+/]{22}==)","openid":"(o[A-Za-z0-9_-]{27})","unionid":"(o[A-Za-z0-9_-]{27})"\}$`)
	parts := form.FindStringSubmatch(recorder.Body.String())
	if parts == nil {
		t.Fatalf("answer is %s", recorder.Body)
	}
	if key, err := base64.StdEncoding.DecodeString(parts[1]); err != nil || len(key) != 16 {
		t.Errorf("session key %q is %d bytes, error %v", parts[1], len(key), err)
	}
	identity, err := s.Identity(testApp, "alice")
	if err != nil || identity != (Identity{OpenID: parts[2], UnionID: parts[3]}) {
		t.Errorf("identity is %v, error %v, answer %s", identity, err, recorder.Body)
	}
}

// Each errcode of code2Session, and that it comes with HTTP 200 as text/plain
// with a trace id. Only a right secret may learn anything about a code.
func TestCode2SessionErrors(t *testing.T) {
	s, clock := newTest(t)
	used := login(t, s, testApp, "alice")
	do(s, http.MethodGet, loginURL(used), "")
	expired := login(t, s, testApp, "alice")
	clock.advance(5 * time.Minute)
	usedLongAgo := used
	used = login(t, s, testApp, "alice")
	do(s, http.MethodGet, loginURL(used), "")
	phone, err := s.SharePhone(Phone{Program: testApp, User: "alice", Number: "13580006666"})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		parameter, value string
		want             int
		message          string
	}{
		"missing appid":    {"appid", "", 41002, "appid missing"},
		"missing secret":   {"secret", "", 41004, "appsecret missing"},
		"missing code":     {"js_code", "", 41008, "missing code"},
		"missing grant":    {"grant_type", "", 40002, "invalid grant_type"},
		"wrong grant":      {"grant_type", "client_credential", 40002, "invalid grant_type"},
		"unknown appid":    {"appid", "wx0000000000000000", 40013, "invalid appid"},
		"wrong secret":     {"secret", "other-secret", 40125, "invalid appsecret"},
		"code never was":   {"js_code", "0712cDoV0cfty22AeloV0daMoV02cDog", 40029, "invalid code"},
		"mock code":        {"js_code", "the code is a mock one", 40029, "invalid code"},
		"expired code":     {"js_code", expired, 40029, "invalid code"},
		"foreign code":     {"js_code", login(t, s, otherApp, "alice"), 40029, "invalid code"},
		"phone code":       {"js_code", phone, 40029, "invalid code"},
		"used code":        {"js_code", used, 40163, "code been used"},
		"used and expired": {"js_code", usedLongAgo, 40029, "invalid code"},
		"wrong secret with a used code": {
			"secret", "guess", 40125, "invalid appsecret",
		},
	} {
		t.Run(name, func(t *testing.T) {
			target, err := url.Parse(loginURL(used))
			if err != nil {
				t.Fatal(err)
			}
			query := target.Query()
			query.Set(test.parameter, test.value)
			target.RawQuery = query.Encode()
			recorder := do(s, http.MethodGet, target.String(), "")
			if recorder.Code != http.StatusOK || recorder.Header().Get("Content-Type") != "text/plain" {
				t.Errorf("answer is %d %s", recorder.Code, recorder.Header().Get("Content-Type"))
			}
			wantErrcode(t, callJSON(t, s, http.MethodGet, target.String(), ""), test.want)
			form := regexp.MustCompile(`^\{"errcode":\d+,"errmsg":"` + test.message +
				`, rid: [0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}"\}$`)
			if !form.MatchString(recorder.Body.String()) {
				t.Errorf("answer is %s", recorder.Body)
			}
		})
	}
}

// The interface reads the query. A client that posts a form is told that the
// appid is missing, which is a known riddle.
func TestCode2SessionIgnoresForms(t *testing.T) {
	s, _ := newTest(t)
	target, err := url.Parse(loginURL(login(t, s, testApp, "alice")))
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, weChatLoginPath, strings.NewReader(target.RawQuery))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	recorder := httptest.NewRecorder()
	s.ServeHTTP(recorder, r)
	if !strings.Contains(recorder.Body.String(), `"errcode":41002`) {
		t.Errorf("answer is %s", recorder.Body)
	}
}

// A refused call leaves the code fresh: what refused it was not the code.
func TestRefusedCallSparesCode(t *testing.T) {
	s, _ := newTest(t)
	target := loginURL(login(t, s, testApp, "alice"))
	bad := strings.Replace(target, testSecret, "guess", 1)
	wantErrcode(t, callJSON(t, s, http.MethodGet, bad, ""), 40125)
	wantErrcode(t, callJSON(t, s, http.MethodGet, target, ""), 0)
}

func TestCodeLifetimeOption(t *testing.T) {
	s, clock := newTest(t, func(c *Config) { c.Programs[0].CodeLifetime = 10 * time.Second })
	first, second := login(t, s, testApp, "alice"), login(t, s, testApp, "alice")
	clock.advance(10*time.Second - 1)
	wantErrcode(t, callJSON(t, s, http.MethodGet, loginURL(first), ""), 0)
	clock.advance(1)
	wantErrcode(t, callJSON(t, s, http.MethodGet, loginURL(second), ""), 40029)
}

// An openid belongs to a user in one program, a unionid to the user in all.
func TestIdentities(t *testing.T) {
	s, _ := newTest(t)
	seen := map[string]string{}
	for _, name := range []string{"alice", "bob", "Alice", "爱丽丝"} {
		for _, program := range []string{testApp, otherApp} {
			identity, err := s.Identity(program, name)
			if err != nil {
				t.Fatal(err)
			}
			if who, taken := seen[identity.OpenID]; taken {
				t.Errorf("%s in %s has the openid of %s", name, program, who)
			}
			seen[identity.OpenID] = name + " in " + program
		}
		here, _ := s.Identity(testApp, name)
		there, _ := s.Identity(otherApp, name)
		if here.UnionID != there.UnionID || here.UnionID == here.OpenID {
			t.Errorf("the identities of %s are %v and %v", name, here, there)
		}
	}
	again, _ := newTest(t)
	before, _ := s.Identity(testApp, "alice")
	after, _ := again.Identity(testApp, "alice")
	if before != after {
		t.Errorf("a restart makes %v of %v", after, before)
	}
}

// A program that is not bound to an Open Platform account gets no unionid at
// all, not an empty one.
func TestNoUnionID(t *testing.T) {
	s, _ := newTest(t, func(c *Config) { c.Programs[0].NoUnionID = true })
	body := do(s, http.MethodGet, loginURL(login(t, s, testApp, "alice")), "").Body.String()
	if strings.Contains(body, "unionid") || !strings.Contains(body, "openid") {
		t.Errorf("answer is %s", body)
	}
}
