// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/module/provider"
)

// testClient is a client that reads answers and calls nobody.
var testClient = &client{appID: testAppID, key: appKey, keys: fixedKey{&platformKey.PublicKey}, now: time.Now}

// read reads an answer with the given body.
func read(body string) (provider.Grant, error) {
	grant, _, err := testClient.readGrant(context.Background(), replyOf(body))
	return grant, err
}

// replyOf is the reply with the given body to an exchange of testCode(0).
func replyOf(body string) *reply {
	return &reply{
		Answer: &provider.Answer{Status: 200, Header: make(http.Header), Body: []byte(body)},
		method: methodToken,
		hidden: []string{testToken, "c2lnbmF0dXJl+/==", testCode(0)},
	}
}

func TestSigningText(t *testing.T) {
	for _, test := range []struct {
		params params
		want   string
	}{
		{nil, ""},
		{params{"a": "1"}, "a=1"},
		{params{"b": "2", "a": "1", "a_b": "3", "B": "4", "a1": "5"}, "B=4&a=1&a1=5&a_b=3&b=2"},
		{params{"a": "", "b": "2", "": "3"}, "b=2"},
		{params{"a": "", "": "3"}, ""},
		{params{"sign": "x", "sign_type": "RSA2"}, "sign_type=RSA2"},
		{params{"a": "1 2&3=4+5%20", "b": "授权"}, "a=1 2&3=4+5%20&b=授权"},
		{params{"a": " "}, "a= "},
	} {
		if got := test.params.text(); got != test.want {
			t.Errorf("%v: got %q, want %q", test.params, got, test.want)
		}
		values := test.params.values()
		if values.Has("") || values.Has("a") && values.Get("a") == "" {
			t.Errorf("%v: sends %v", test.params, values)
		}
	}
	if got := (params{"sign": "a+b/c=", "timestamp": "2026-01-02 03:04:05"}).values().Encode(); got != "sign=a%2Bb%2Fc%3D&timestamp=2026-01-02+03%3A04%3A05" {
		t.Errorf("encodes as %s", got)
	}
}

// The platform reads timestamps in its own zone, wherever the host is. (Images
// without time zone data, smartwalle/alipay#103; hosts in UTC, alipay-easysdk#61.)
func TestTimestamp(t *testing.T) {
	var query []string
	base := serve(t, func(_ http.ResponseWriter, r *http.Request) { query = r.URL.Query()["timestamp"] })
	p := newProvider(t, []string{base})
	p.client.now = func() time.Time { return time.Unix(1767294245, 999999999) }
	if _, err := p.Exchange(t.Context(), testCode(0)); err == nil {
		t.Error("got a grant")
	}
	if len(query) != 1 || query[0] != "2026-01-02 03:04:05" {
		t.Errorf("in zone %s: got %q", time.Local, query)
	}
}

func TestTimestampInEveryZone(t *testing.T) {
	for _, zone := range []string{"UTC", "Asia/Shanghai", "America/New_York", "Pacific/Kiritimati", "no such zone", "", ":/nowhere"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTimestamp$", "-test.count=1")
		cmd.Env = append(os.Environ(), "TZ="+zone, "ZONEINFO=/nowhere")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
			t.Errorf("TZ=%s: %v\n%s", zone, err, out)
		}
	}
}

func TestCodes(t *testing.T) {
	for _, code := range []string{"a", "6e19cbba50b848169d431e44ec32GX83", strings.Repeat("f", 64), strings.Repeat("0", 40)} {
		if !isCode(code) {
			t.Errorf("refuses %q", code)
		}
	}
	called := false
	p := newProvider(t, []string{serve(t, func(http.ResponseWriter, *http.Request) { called = true })})
	for _, code := range []string{
		"", "a b", "a+b", "a-b", "a_b", "a=b", "a&code=b", "a\n", "\x00", "é", "ａ", strings.Repeat("x", 65), strings.Repeat("x", 10<<10),
	} {
		_, err := p.Exchange(t.Context(), code)
		if e := errorOf(t, err); e.Reason != provider.CodeMalformed {
			t.Errorf("%q: %v", code, err)
		}
	}
	if called {
		t.Error("a malformed code was sent")
	}
}

// A code is spent once it is sent, whatever the answer says about trying again.
func TestBusyIsNotRetried(t *testing.T) {
	for _, node := range []string{
		refusalNode("20000", "isp.unknow-error", "系统繁忙"),
		refusalNode("20000", "aop.unknow-error", ""),
		refusalNode("40005", "isv.app-call-limited", ""),
		`{"code":"20000","msg":"Service Currently Unavailable"}`,
	} {
		calls := 0
		how := func(w http.ResponseWriter, _ *http.Request) {
			calls++
			_, _ = w.Write([]byte(signed(errorNode, node, "")))
		}
		_, err := newProvider(t, []string{serve(t, how), serve(t, how)}).Exchange(t.Context(), testCode(0))
		if e := errorOf(t, err); calls != 1 || e.Reason != provider.Unavailable && e.Reason != provider.RateLimited || !provider.MayHaveSeen(err) {
			t.Errorf("%s: %d calls, %v", node, calls, err)
		}
	}
}

func FuzzCheckCode(f *testing.F) {
	for _, seed := range []string{"", testCode(0), "x&appid=evil", "x\r\n", "\xff", strings.Repeat("x", 65)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, code string) {
		want := len(code) > 0 && len(code) <= 64
		for i := range len(code) {
			want = want && strings.IndexByte("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", code[i]) >= 0
		}
		if got := isCode(code); got != want {
			t.Fatalf("%q: %v", code, got)
		}
	})
}
