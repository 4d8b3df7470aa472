// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/minigate/minigate/module/provider"
)

// The platform's own example, and two for the empty message. Who decodes the key
// first gets 87009 for ever (community doc 000eec37a08dc0b2158c2c7c65b000).
func TestSign(t *testing.T) {
	for _, test := range []struct{ key, message, want string }{
		{"o0q0otL8aEzpcZL/FT9WsQ==", `{"foo":"bar"}`, "654571f79995b2ce1e149e53c0a33dc39c0a74090db514261454e8dbe432aa0b"},
		{"o0q0otL8aEzpcZL/FT9WsQ==", "", "46e043c5525c2d817c44be603d30837a808a1d930d038f6fdc3e62a201fed128"},
		{"tiihtNczf5v6AKRyjwEUhQ==", "", "7154f9f8b4b76b92f541cbf0e37d48840fa06e5e42da92a6f80168a1516a4735"},
		{
			"gDyVgzwa0mFz9uUP7M6GQQ==", "1559129713_67297598215591297148AP6DT9ybtniUJfbwx20afc706a711eefc",
			"b002b824688dd8593a6079e11d8c5e8734fbcb39a6d5906eb347bfbcad79c617",
		},
	} {
		if got := sign(test.key, test.message); got != test.want {
			t.Errorf("%s %q: got %s, want %s", test.key, test.message, got, test.want)
		}
	}
	decoded, err := base64.StdEncoding.DecodeString("o0q0otL8aEzpcZL/FT9WsQ==")
	if err != nil {
		t.Fatal(err)
	}
	if got := sign(string(decoded), `{"foo":"bar"}`); got != "bfa6883695fed51bb7e5897ce895842574a58f8a9cc5c4343f47c515ab337b89" {
		t.Errorf("with the decoded key: got %s", got)
	}
}

// testHolder holds the key of the vectors.
var testHolder = provider.Holder{OpenID: testOpenID, SessionKey: "tiihtNczf5v6AKRyjwEUhQ=="}

// keyServer is a provider whose platform gives one answer, and the requests that
// it made.
func keyServer(t *testing.T, body string) (p *Provider, requests *[]string) {
	t.Helper()
	requests = new([]string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*requests = append(*requests, r.Method+" "+r.URL.String())
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return newProvider(t, []string{server.URL}), requests
}

func TestSessionKeyRequests(t *testing.T) {
	const fresh = "o0q0otL8aEzpcZL/FT9WsQ=="
	p, requests := keyServer(t, `{"errcode":0,"errmsg":"ok","openid":"`+testOpenID+`","session_key":"`+fresh+`"}`)
	if err := p.CheckSessionKey(t.Context(), "a&b", testHolder); err != nil {
		t.Error(err)
	}
	if got, err := p.ResetSessionKey(t.Context(), "a&b", testHolder); err != nil || got != fresh {
		t.Errorf("got %q %v", got, err)
	}
	const query = "?access_token=a%26b&openid=" + testOpenID + "&sig_method=hmac_sha256&signature=7154f9f8b4b76b92f541cbf0e37d48840fa06e5e42da92a6f80168a1516a4735"
	want := "GET /wxa/checksession" + query + " GET /wxa/resetusersessionkey" + query
	if got := strings.Join(*requests, " "); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// A key is good only if the platform says so in as many words, and a new one is
// the user's only if it has the form of one and nobody else's name on it.
func TestSessionKeyAnswers(t *testing.T) {
	const (
		fresh = "o0q0otL8aEzpcZL/FT9WsQ=="
		ok    = `{"errcode":0,"errmsg":"ok"`
	)
	for body, want := range map[string]struct {
		check, reset provider.Reason
		checks       bool
		key          string
	}{
		ok + `,"session_key":"` + fresh + `"}`:                                         {checks: true, key: fresh},
		ok + `,"session_key":"` + fresh + `","openid":"` + testOpenID + `"}`:           {checks: true, key: fresh},
		ok + `,"session_key":"` + fresh + `","openid":"oGZUI0egBJY1zhBYw2Khd0000001"}`: {checks: true},
		ok + `,"session_key":"` + fresh + `","openid":""}`:                             {checks: true},
		ok + `,"session_key":"` + fresh + `","openid":7}`:                              {checks: true},
		ok + `,"session_key":"tiihtNczf5v6AKRyjwEU"}`:                                  {checks: true},
		ok + `}`:                         {checks: true},
		`{}`:                             {},
		`{"errmsg":"ok"}`:                {},
		`{"errcode":null,"errmsg":"ok"}`: {},
		`<html>`:                         {},
		`{"errcode":87009,"session_key":"` + fresh + `"}`: {check: provider.KeyStale, reset: provider.KeyStale},
		`{"errcode":"87007"}`:                             {check: provider.KeyStale, reset: provider.KeyStale},
		`{"errcode":42001}`:                               {check: provider.TokenRejected, reset: provider.TokenRejected},
	} {
		p, _ := keyServer(t, body)
		err := p.CheckSessionKey(t.Context(), testToken, testHolder)
		if want.checks && err != nil || !want.checks && errorOf(t, err).Reason != want.check {
			t.Errorf("checking, %s: %v", body, err)
		}
		key, err := p.ResetSessionKey(t.Context(), testToken, testHolder)
		if key != want.key || key != "" && err != nil || key == "" && errorOf(t, err).Reason != want.reset {
			t.Errorf("resetting, %s: got %q %v", body, key, err)
		}
	}
}

// A session without a key, as one that was made elsewhere, is not asked about: the
// platform would be asked with the signature of an empty key.
func TestSessionKeyWithoutCall(t *testing.T) {
	p, requests := keyServer(t, `{"errcode":0}`)
	for _, holder := range []provider.Holder{
		{},
		{OpenID: testOpenID},
		{SessionKey: testHolder.SessionKey},
		{OpenID: testOpenID, SessionKey: "short"},
		{OpenID: "a\x00b", SessionKey: testHolder.SessionKey},
	} {
		if e := errorOf(t, p.CheckSessionKey(t.Context(), testToken, holder)); e.Reason != provider.KeyStale {
			t.Errorf("%+v: %v", holder, e)
		}
		_, err := p.ResetSessionKey(t.Context(), testToken, holder)
		if e := errorOf(t, err); e.Reason != provider.KeyStale {
			t.Errorf("%+v: %v", holder, e)
		}
	}
	if len(*requests) != 0 {
		t.Errorf("%v", *requests)
	}
}

// What the platform repeats of a call is not in the error, nor in what names the
// call for its support desk.
func TestSessionKeyErrorsHide(t *testing.T) {
	signature := sign(testHolder.SessionKey, "")
	for _, hidden := range []string{testToken, testOpenID, testHolder.SessionKey, signature, testSecret} {
		p, _ := keyServer(t, `{"errcode":87009,"errmsg":"invalid signature `+hidden+` rid: `+hidden+`"}`)
		err := p.CheckSessionKey(t.Context(), testToken, testHolder)
		if e := errorOf(t, err); strings.Contains(err.Error()+e.TraceID, hidden) || !strings.Contains(err.Error(), "[redacted]") {
			t.Errorf("%v %s", err, e.TraceID)
		}
	}
	// An answer that never comes shows no more: the query is in net/http's errors.
	p := newProvider(t, []string{"http://127.0.0.1:1"})
	err := p.CheckSessionKey(t.Context(), testToken, testHolder)
	if e := errorOf(t, err); e.Reason != provider.Unavailable || strings.Contains(err.Error(), testToken) || strings.Contains(err.Error(), testOpenID) {
		t.Errorf("%v", err)
	}
}
