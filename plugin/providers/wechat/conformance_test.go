// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/provider/providertest"
)

const (
	testAppID  = "wx0123456789abcdef"
	testSecret = "canary5ecret0123456789abcdef0123"
)

// newProvider makes a provider that ends with the test.
func newProvider(t testing.TB, bases []string) *Provider {
	t.Helper()
	p := &Provider{ID: testAppID, Secret: testSecret, API: bases}
	t.Cleanup(func() {
		if err := p.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	if err := p.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	return p
}

// testCode returns a code of the form that the platform gives.
func testCode(n int) string { return fmt.Sprintf("0712cDoV0cfty22AeloV0daMoV%06d", n) }

// testGrant returns the grant of user n; every second one has no unionid.
func testGrant(n int) provider.Grant {
	grant := provider.Grant{
		OpenID:     fmt.Sprintf("oGZUI0egBJY1zhBYw2Khd%07d", n),
		SessionKey: base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "key of user %04d", n)),
	}
	if n%2 == 0 {
		grant.UnionID = fmt.Sprintf("o6_bmasdasdsad6_2sgVt%07d", n)
	}
	return grant
}

// succeed answers as https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-login/code2Session.html
// describes, with the content type that the platform sends.
func succeed(w http.ResponseWriter, _ *http.Request, grant provider.Grant) {
	answer := map[string]string{"openid": grant.OpenID, "session_key": grant.SessionKey}
	if grant.UnionID != "" {
		answer["unionid"] = grant.UnionID
	}
	w.Header().Set("Content-Type", "text/plain")
	_ = json.NewEncoder(w).Encode(answer)
}

func TestConformance(t *testing.T) {
	grant := testGrant(0)
	providertest.Run(t, providertest.Suite{
		AppID:   testAppID,
		Secrets: []string{testSecret},
		New: func(t testing.TB, bases []string) provider.Provider {
			return newProvider(t, bases)
		},
		Code:    testCode,
		Grant:   testGrant,
		CodeOf:  func(r *http.Request) string { return r.URL.Query().Get("js_code") },
		Succeed: succeed,
		Refuse: func(w http.ResponseWriter, _ *http.Request, message string) {
			_ = json.NewEncoder(w).Encode(map[string]any{"errcode": 40029, "errmsg": message})
		},
		Malformed: []string{"x y", "x.y", "x/y", "x+y", "Ünïcode"},
		Unusable: []string{
			`{"openid":"` + grant.OpenID + `"}`,
			`{"session_key":"` + grant.SessionKey + `"}`,
			`{"openid":7,"session_key":"` + grant.SessionKey + `"}`,
			`{"openid":["` + grant.OpenID + `"],"session_key":"` + grant.SessionKey + `"}`,
			`{"errcode":true}`,
			`{"errcode":{}}`,
			`{"errcode":"forty"}`,
			`{"errcode":40029.5}`,
		},
	})
}

// The request is the documented one, and holds nothing else.
func TestRequest(t *testing.T) {
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ := io.ReadAll(r.Body)
		if len(body) != 0 || r.ContentLength != 0 || len(r.TransferEncoding) != 0 {
			t.Errorf("the request has a body: %q", body)
		}
		succeed(w, r, testGrant(0))
	}))
	t.Cleanup(server.Close)
	if _, err := newProvider(t, []string{server.URL}).Exchange(t.Context(), testCode(0)); err != nil {
		t.Fatal(err)
	}
	want := "/sns/jscode2session?appid=" + testAppID + "&grant_type=authorization_code&js_code=" + testCode(0) + "&secret=" + testSecret
	if got.Method != http.MethodGet || got.URL.String() != want {
		t.Errorf("got %s %s, want GET %s", got.Method, got.URL, want)
	}
}

// A secret may have characters that mean something in a URL.
func TestSecretIsEncoded(t *testing.T) {
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.Query().Get("secret")
		succeed(w, r, testGrant(0))
	}))
	t.Cleanup(server.Close)
	p := newProvider(t, []string{server.URL})
	p.client.secret = "a&appid=evil#?%00+é"
	if _, err := p.Exchange(t.Context(), testCode(0)); err != nil || got != p.client.secret {
		t.Errorf("got %q %v", got, err)
	}
}

func BenchmarkExchange(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, `{"session_key":"tiihtNczf5v6AKRyjwEUhQ==","openid":"oGZUI0egBJY1zhBYw2KhdUfwVJJE"}`)
	}))
	b.Cleanup(server.Close)
	p := newProvider(b, []string{server.URL})
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := p.Exchange(b.Context(), testCode(0)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "exchanges/s")
}
