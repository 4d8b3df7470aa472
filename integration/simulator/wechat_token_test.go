// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	tokenURL   = weChatTokenPath + "?grant_type=client_credential&appid=" + testApp + "&secret=" + testSecret
	stableBody = `{"grant_type":"client_credential","appid":"` + testApp + `","secret":"` + testSecret + `"}`
	forceBody  = `{"grant_type":"client_credential","appid":"` + testApp + `","secret":"` + testSecret + `","force_refresh":true}`
)

// tokenOf returns the token and the seconds of an answer.
func tokenOf(t testing.TB, object map[string]any) (string, int) {
	t.Helper()
	token, _ := object["access_token"].(string)
	seconds, _ := object["expires_in"].(float64)
	if token == "" {
		t.Fatalf("no token in %v", object)
	}
	return token, int(seconds)
}

// plainToken gets a token from getAccessToken.
func plainToken(t testing.TB, s *Simulator) string {
	t.Helper()
	token, _ := tokenOf(t, callJSON(t, s, http.MethodGet, tokenURL, ""))
	return token
}

// stableToken gets a token from getStableAccessToken.
func stableToken(t testing.TB, s *Simulator) string {
	t.Helper()
	token, _ := tokenOf(t, callJSON(t, s, http.MethodPost, weChatStableTokenPath, stableBody))
	return token
}

// wantToken checks what a business interface says to a token. 87009 is the
// answer to a token that works, because the call's signature is wrong.
func wantToken(t testing.TB, s *Simulator, token string, want int) {
	t.Helper()
	wantErrcode(t, callJSON(t, s, http.MethodGet, keyURL(t, s, weChatCheckSessionPath, token, "no key"), ""), want)
}

func TestTokenRequestErrors(t *testing.T) {
	s, _ := newTest(t)
	for name, test := range map[string]struct {
		old, new string
		want     int
	}{
		"no appid":      {testApp, "", 41002},
		"no secret":     {testSecret, "", 41004},
		"no grant":      {"client_credential", "", 40002},
		"wrong grant":   {"client_credential", "authorization_code", 40002},
		"unknown appid": {testApp, "wx0000000000000000", 40013},
		"wrong secret":  {testSecret, "guess", 40125},
	} {
		t.Run(name, func(t *testing.T) {
			target := strings.Replace(tokenURL, test.old, test.new, 1)
			wantErrcode(t, callJSON(t, s, http.MethodGet, target, ""), test.want)
			body := strings.Replace(stableBody, test.old, test.new, 1)
			wantErrcode(t, callJSON(t, s, http.MethodPost, weChatStableTokenPath, body), test.want)
		})
	}
	// The two interfaces take their parameters in different places.
	wantErrcode(t, callJSON(t, s, http.MethodGet, weChatStableTokenPath, stableBody), 43002)
	wantErrcode(t, callJSON(t, s, http.MethodPost, weChatStableTokenPath, "appid="+testApp), 47001)
	wantErrcode(t, callJSON(t, s, http.MethodPost, weChatTokenPath, stableBody), 41002)
}

func TestTokenAnswerForm(t *testing.T) {
	s, _ := newTest(t)
	recorder := do(s, http.MethodGet, tokenURL, "")
	if contentType := recorder.Header().Get("Content-Type"); contentType != "application/json" {
		t.Errorf("content type is %q", contentType)
	}
	token, seconds := tokenOf(t, callJSON(t, s, http.MethodGet, tokenURL, ""))
	if len(token) < 128 || len(token) > 512 || seconds != 7200 {
		t.Errorf("token has %d characters and %d seconds", len(token), seconds)
	}
}

// Each call of getAccessToken replaces the token; the old one works for five
// minutes more. Two callers that do not share their token kill each other's.
func TestPlainTokenReplacesPrevious(t *testing.T) {
	s, clock := newTest(t)
	first := plainToken(t, s)
	second := plainToken(t, s)
	if first == second {
		t.Fatal("the second call returned the first token")
	}
	clock.advance(5*time.Minute - 1)
	wantToken(t, s, first, 87009)
	wantToken(t, s, second, 87009)
	clock.advance(1)
	wantToken(t, s, first, 40001)
	wantToken(t, s, second, 87009)
	clock.advance(2 * time.Hour)
	wantToken(t, s, second, 42001)
}

// The overlap does not lengthen a token's own life.
func TestOverlapEndsWithToken(t *testing.T) {
	s, clock := newTest(t)
	first := plainToken(t, s)
	clock.advance(7199 * time.Second)
	second := plainToken(t, s)
	clock.advance(time.Second)
	wantToken(t, s, first, 42001)
	wantToken(t, s, second, 87009)
}

// Without force, getStableAccessToken returns the token in force with what is
// left of its life, and renews it five minutes ahead of its end.
func TestStableTokenIsKept(t *testing.T) {
	s, clock := newTest(t)
	first := stableToken(t, s)
	clock.advance(6855 * time.Second)
	again, seconds := tokenOf(t, callJSON(t, s, http.MethodPost, weChatStableTokenPath, stableBody))
	if again != first || seconds != 345 {
		t.Errorf("the token changed: %v, or its rest is %d seconds, want 345", again != first, seconds)
	}
	clock.advance(45 * time.Second)
	second, seconds := tokenOf(t, callJSON(t, s, http.MethodPost, weChatStableTokenPath, stableBody))
	if second == first || seconds != 7200 {
		t.Errorf("the token changed: %v, and its rest is %d seconds, want 7200", second != first, seconds)
	}
	clock.advance(5*time.Minute - time.Second)
	wantToken(t, s, first, 87009)
	wantToken(t, s, second, 87009)
	clock.advance(time.Second)
	wantToken(t, s, first, 42001)
}

// The tokens of the two interfaces do not touch each other.
func TestTokensAreIsolated(t *testing.T) {
	s, clock := newTest(t)
	stable := stableToken(t, s)
	plainToken(t, s)
	plain := plainToken(t, s)
	clock.advance(time.Minute)
	tokenOf(t, callJSON(t, s, http.MethodPost, weChatStableTokenPath, forceBody))
	wantToken(t, s, plain, 87009)
	wantToken(t, s, stable, 40001)
}

// A forced refresh kills the old token at once, has no effect within 30 seconds
// of the last, and happens 20 times a day.
func TestForcedRefresh(t *testing.T) {
	s, clock := newTest(t)
	first := stableToken(t, s)
	second, _ := tokenOf(t, callJSON(t, s, http.MethodPost, weChatStableTokenPath, forceBody))
	wantToken(t, s, first, 40001)
	wantToken(t, s, second, 87009)
	clock.advance(30*time.Second - 1)
	if same, _ := tokenOf(t, callJSON(t, s, http.MethodPost, weChatStableTokenPath, forceBody)); same != second {
		t.Error("a second refresh within 30 seconds made a new token")
	}
	for range 19 {
		clock.advance(30 * time.Second)
		next, _ := tokenOf(t, callJSON(t, s, http.MethodPost, weChatStableTokenPath, forceBody))
		if next == second {
			t.Error("a refresh after 30 seconds made no new token")
		}
		second = next
	}
	clock.advance(30 * time.Second)
	wantErrcode(t, callJSON(t, s, http.MethodPost, weChatStableTokenPath, forceBody), 45009)
	wantToken(t, s, second, 87009)
	// The day begins at midnight in China; the test began at 20:00 there.
	clock.advance(4 * time.Hour)
	wantErrcode(t, callJSON(t, s, http.MethodPost, weChatStableTokenPath, forceBody), 0)
}

// What a business interface says of each sort of bad token.
func TestTokenErrors(t *testing.T) {
	s, clock := newTest(t)
	stranger, _ := newTest(t)
	expired := stableToken(t, s)
	clock.advance(2 * time.Hour)
	good := stableToken(t, s)
	for name, test := range map[string]struct {
		token string
		want  int
	}{
		"missing":      {"", 41001},
		"malformed":    {"not a token", 40014},
		"too short":    {"88_AAAA", 40014},
		"never issued": {stableToken(t, stranger), 40001},
		"with a changed character": {
			good[:20] + strings.Map(func(r rune) rune { return 'A' + (r+1)%26 }, good[20:21]) + good[21:], 40001,
		},
		"expired": {expired, 42001},
		"good":    {good, 87009},
	} {
		t.Run(name, func(t *testing.T) { wantToken(t, s, test.token, test.want) })
	}
}
