// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/provider/providertest"
)

const (
	testAppID  = "2021000000000000"
	testAESKey = "AAECAwQFBgcICQoLDA0ODw=="
	testToken  = "202601BBcanary0123456789abcdef0123456X01"
)

// start provisions and validates a provider that ends with the test.
func start(t testing.TB, p *Provider) *Provider {
	t.Helper()
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

// newProvider makes a provider with keys.
func newProvider(t testing.TB, bases []string) *Provider {
	t.Helper()
	return start(t, &Provider{ID: testAppID, PrivateKey: appKeyText, AlipayPublicKey: platformText, API: bases})
}

// serve runs a platform that answers in the given way, and returns its URL.
func serve(t testing.TB, how http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(how)
	t.Cleanup(server.Close)
	return server.URL + "/gateway.do"
}

// readBody reads the body of a request.
func readBody(r *http.Request) string {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	return string(body)
}

// formOf returns the body of a request, which is a form.
func formOf(r *http.Request) url.Values {
	form, err := url.ParseQuery(readBody(r))
	if err != nil {
		return nil
	}
	return form
}

// signed puts a node, as the platform signs it, into an envelope. more stands
// between the node and the signature.
func signed(name, node, more string) string {
	signature, err := sign(platformKey, node)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{%q:%s,%s"sign":%q}`, name, node, more, signature)
}

// tokenNode is the node of a login.
const tokenNode = "alipay_system_oauth_token_response"

// nodeOf is the platform's node for a grant.
func nodeOf(grant provider.Grant) string {
	node := map[string]any{
		"access_token": "authbseB0123456789abcdef0123456789abcX01", "refresh_token": "authbseBfedcba9876543210fedcba9876543X01",
		"expires_in": 1296000, "re_expires_in": "2592000", "auth_start": "2026-01-02 03:04:06",
	}
	for name, id := range map[string]string{"open_id": grant.OpenID, "user_id": grant.UserID, "union_id": grant.UnionID} {
		if id != "" {
			node[name] = id
		}
	}
	data, err := json.Marshal(node)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// refusalNode is the platform's node for a refusal.
func refusalNode(code, subCode, message string) string {
	data, err := json.Marshal(map[string]string{"code": code, "msg": "Invalid Arguments", "sub_code": subCode, "sub_msg": message})
	if err != nil {
		panic(err)
	}
	return string(data)
}

// testCode returns a code of the form that the platform gives.
func testCode(n int) string { return fmt.Sprintf("6e19cbba50b848169d431e44ec%06d", n) }

// testGrant returns the grant of user n, named in one of the ways that there are.
func testGrant(n int) provider.Grant {
	grant := provider.Grant{Renames: true}
	if n%3 != 0 {
		grant.OpenID = fmt.Sprintf("083abcDEF0123456789-_abcDEF0123456789-_abc%05d", n)
		grant.UnionID = fmt.Sprintf("%016d", n)
	}
	if n%3 != 1 {
		grant.UserID = fmt.Sprintf("2088%012d", n)
	}
	return grant
}

// succeed answers as the platform does, with the content type that it sends.
func succeed(more string) func(http.ResponseWriter, *http.Request, provider.Grant) {
	return func(w http.ResponseWriter, _ *http.Request, grant provider.Grant) {
		w.Header().Set("Content-Type", "text/html;charset=utf-8")
		_, _ = io.WriteString(w, signed(tokenNode, nodeOf(grant), more))
	}
}

func conform(t *testing.T, more string, make func(t testing.TB, bases []string) provider.Provider) {
	providertest.Run(t, providertest.Suite{
		AppID:   testAppID,
		Secrets: []string{appKeyText, testAESKey, testToken},
		New:     make,
		Code:    testCode,
		Grant:   testGrant,
		CodeOf:  func(r *http.Request) string { return formOf(r).Get("code") },
		Succeed: succeed(more),
		Refuse: func(w http.ResponseWriter, _ *http.Request, message string) {
			w.Header().Set("trace_id", strings.Map(func(r rune) rune { return max(r, ' ') }, message))
			_, _ = io.WriteString(w, signed(errorNode, refusalNode("40002", "isv.code-invalid", message), more))
		},
		Malformed: []string{"x y", "x.y", "x/y", "x+y", "x_y", "x-y", "Ünïcode", strings.Repeat("x", 65), "x&amp;y"},
		Unusable: []string{
			signed(tokenNode, "{}", ""),
			signed(tokenNode, "[]", ""),
			signed(tokenNode, "null", ""),
			signed(tokenNode, `"igATcyTqqgv1AFpBiHJyVf94zn4d80DW"`, ""),
			signed(tokenNode, `{"access_token":"a","open_id":7}`, ""),
			signed(tokenNode, `{"access_token":"a","sub_code":{},"open_id":"o"}`, ""),
			signed("alipay_user_info_share_response", nodeOf(testGrant(1)), ""),
			strings.Replace(signed(tokenNode, nodeOf(testGrant(1)), more), `"sign"`, `"no_sign"`, 1),
			strings.Replace(signed(tokenNode, nodeOf(testGrant(1)), more), "authbse", "authusr", 1),
		},
	})
}

func TestConformance(t *testing.T) {
	conform(t, "", func(t testing.TB, bases []string) provider.Provider {
		return start(t, &Provider{
			ID: testAppID, PrivateKey: appKeyText, AlipayPublicKey: platformText, AESKey: testAESKey, AppAuthToken: testToken, API: bases,
		})
	})
}

func BenchmarkExchange(b *testing.B) {
	answer := []byte(signed(tokenNode, nodeOf(testGrant(1)), ""))
	base := serve(b, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html;charset=utf-8")
		_, _ = w.Write(answer)
	})
	p := newProvider(b, []string{base})
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

// What an exchange costs without the network: one signature, one verification.
func BenchmarkSignAndRead(b *testing.B) {
	answer := &provider.Answer{Status: 200, Body: []byte(signed(tokenNode, nodeOf(testGrant(1)), ""))}
	text := vectors["R1"]["string_to_sign"]
	for name, run := range map[string]func() error{
		"sign": func() error {
			_, err := sign(appKey, text)
			return err
		},
		"read": func() error {
			_, _, err := testClient.readGrant(b.Context(), &reply{Answer: answer, method: methodToken})
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
