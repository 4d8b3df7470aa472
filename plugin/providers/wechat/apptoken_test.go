// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/module/provider"
)

// A token goes into the query of later calls and into a store: one of another
// form is a fault here, not there. A lifetime of zero is a call for each call.
func TestReadToken(t *testing.T) {
	const form = `{"access_token":%s,"expires_in":%s}`
	for seconds, want := range map[string]time.Duration{
		"1": time.Second, "345": 345 * time.Second, `"7200"`: 2 * time.Hour, "14400": 4 * time.Hour,
	} {
		token, lifetime, err := testClient.readToken(answerOf(fmt.Sprintf(form, `"`+testToken+`"`, seconds)))
		if err != nil || token != testToken || lifetime != want {
			t.Errorf("%s: got %q %v %v", seconds, token, lifetime, err)
		}
	}
	longest := strings.Repeat("x", 2048)
	if token, _, err := testClient.readToken(answerOf(fmt.Sprintf(form, `"`+longest+`"`, "1"))); err != nil || token != longest {
		t.Errorf("longest: %v", err)
	}
	for _, body := range []string{
		`{}`, `{"access_token":"` + testToken + `"}`, `{"expires_in":7200}`,
		fmt.Sprintf(form, `""`, "7200"),
		fmt.Sprintf(form, `null`, "7200"),
		fmt.Sprintf(form, `7`, "7200"),
		fmt.Sprintf(form, `"a b"`, "7200"),
		fmt.Sprintf(form, `"a\r\nb"`, "7200"),
		fmt.Sprintf(form, `"é"`, "7200"),
		fmt.Sprintf(form, `"`+longest+`x"`, "7200"),
		fmt.Sprintf(form, `"`+testToken+`"`, "0"),
		fmt.Sprintf(form, `"`+testToken+`"`, "-1"),
		fmt.Sprintf(form, `"`+testToken+`"`, "14401"),
		fmt.Sprintf(form, `"`+testToken+`"`, "9223372036854775807"),
		fmt.Sprintf(form, `"`+testToken+`"`, "7200.5"),
		fmt.Sprintf(form, `"`+testToken+`"`, `"soon"`),
		fmt.Sprintf(form, `"`+testToken+`"`, "null"),
	} {
		token, lifetime, err := testClient.readToken(answerOf(body))
		if e := errorOf(t, err); e.Reason != provider.PlatformFault || token != "" || lifetime != 0 || strings.Contains(err.Error(), testToken) {
			t.Errorf("%s: got %q %v %v", body, token, lifetime, err)
		}
	}
	_, _, err := testClient.readToken(answerOf(`{"errcode":40125,"errmsg":"invalid appsecret ` + testSecret + `","access_token":"` + testToken + `","expires_in":7200}`))
	if e := errorOf(t, err); e.Reason != provider.Misconfigured || e.PlatformMessage != "invalid appsecret [redacted]" {
		t.Errorf("got %+v", e)
	}
}

// The request is the documented one: never forced, for that ends the other nodes'
// token and can be done 20 times a day; and without \u escapes, which the
// platform refuses (47002).
func TestTokenRequest(t *testing.T) {
	var got *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, `{"access_token":"`+testToken+`","expires_in":7200}`)
	}))
	t.Cleanup(server.Close)
	p := newProvider(t, []string{server.URL})
	p.client.secret = `s&<>"\s`
	if _, _, err := p.AppToken(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodPost || got.URL.String() != "/cgi-bin/stable_token" || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %s %s %s", got.Method, got.URL, got.Header.Get("Content-Type"))
	}
	want := `{"grant_type":"client_credential","appid":"` + testAppID + `","secret":"s&<>\"\\s","force_refresh":false}` + "\n"
	if string(body) != want {
		t.Errorf("got %s, want %s", body, want)
	}
}
