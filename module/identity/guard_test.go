// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"net/http"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// tokenCharacters are those that a header name may hold beside letters and
// digits (RFC 9110, section 5.6.2).
const tokenCharacters = "!#$%&'*+-.^_`|~"

// T01, T04, T05: the names by which an upstream may take a header for one of
// ours, and some that it does not.
func TestProtects(t *testing.T) {
	g := NewGuard("X-Tenant", "x-9")
	for _, name := range []string{
		"X-User-Id", "x-user-id", "X_USER_ID", "X-User_Id", "X.User.Id", "XUserId", "x--user--id", "X-User-Id~", "~X-User-Id",
		"X-Us!er-Id", "X-WX-OPENID", "X-Wx-Call-Id", "Remote-User", "REMOTE_USER", "remoteuser", "X-Forwarded-User",
		"X-Identity-Assertion", "X-Data-Verified", "X-Tenant", "x_tenant", "X-Original-Forwarded-For", "X9",
	} {
		if !g.Protects(name) {
			t.Errorf("%s is not protected", name)
		}
	}
	for _, name := range []string{
		"", "-", "X-User", "X-User-Ids", "User-Id", "X-Forwarded-For", "Authorization", "Accept", "X-Tenants", "X-8",
		strings.Repeat("x", 1000), strings.Repeat("-", 1000), "X-User-Id" + strings.Repeat("x", 100),
	} {
		if g.Protects(name) {
			t.Errorf("%s is protected", name)
		}
	}
}

// Every token character, inserted, appended or substituted anywhere in every
// protected name, leads to the same header on some upstream.
func TestProtectsEveryAlias(t *testing.T) {
	g := NewGuard()
	for _, name := range HeaderNames() {
		for _, c := range tokenCharacters {
			for i := range len(name) + 1 {
				if alias := name[:i] + string(c) + name[i:]; !g.Protects(alias) {
					t.Errorf("%s is not protected", alias)
				}
			}
			if alias := strings.ReplaceAll(name, "-", string(c)); !g.Protects(alias) {
				t.Errorf("%s is not protected", alias)
			}
		}
	}
}

// T02, T03, T06–T09: what Clean takes out of a request, and what it leaves.
func TestClean(t *testing.T) {
	for name, test := range map[string]struct {
		header, want http.Header
		attempts     int
	}{
		"nothing to do": {
			header: http.Header{"Accept": {"*/*"}, "Authorization": {"Bearer x"}},
			want:   http.Header{"Accept": {"*/*"}, "Authorization": {"Bearer x"}},
		},
		"aliases": {
			header:   http.Header{"X-User-Id": {"a", "b"}, "X_user_id": {"c"}, "X-User-Id~": {"d"}, "X-Us.er-Id": {"e"}, "Accept": {"*/*"}},
			want:     http.Header{"Accept": {"*/*"}},
			attempts: 4,
		},
		"connection names an identity header": {
			header:   http.Header{"Connection": {"close, X-User-Id", "x_wx_openid ,, "}, "Accept": {"*/*"}},
			want:     http.Header{"Accept": {"*/*"}},
			attempts: 2,
		},
		"connection names another header": {
			header: http.Header{"Connection": {"keep-alive, X-Hop"}, "X-Hop": {"1"}, "Accept": {"*/*"}},
			want:   http.Header{"Accept": {"*/*"}},
		},
		"upgrade": {
			header:   http.Header{"Connection": {"UPGRADE, X-User-Id"}, "Upgrade": {"websocket"}},
			want:     http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}},
			attempts: 1,
		},
		"upgrade to http/2 in clear": {
			header:   http.Header{"Connection": {"Upgrade, HTTP2-Settings"}, "Upgrade": {"h2c"}, "Http2-Settings": {"AAMAAABkAAQAAP__"}},
			want:     http.Header{},
			attempts: 1,
		},
		"upgrade to either": {
			header:   http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket, h2c"}},
			want:     http.Header{},
			attempts: 1,
		},
		"two upgrades": {
			header:   http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket", "h2c"}},
			want:     http.Header{},
			attempts: 1,
		},
		"settings alone": {
			header: http.Header{"Http2-Settings": {"AAMAAABkAAQAAP__"}},
			want:   http.Header{},
		},
		"upgrade without a protocol": {
			header: http.Header{"Connection": {"Upgrade"}},
			want:   http.Header{},
		},
		"connection names upgrade's header": {
			header: http.Header{"Connection": {"close, upgrade"}, "Upgrade": {"websocket"}},
			want:   http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}},
		},
		"trailer announced": {
			header: http.Header{"Trailer": {"X-Foo"}},
			want:   http.Header{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &http.Request{Header: test.header, Trailer: http.Header{"X-Foo": nil}}
			if attempts := NewGuard().Clean(r); attempts != test.attempts {
				t.Errorf("%d attempts, want %d", attempts, test.attempts)
			}
			if r.Trailer != nil {
				t.Error("trailers are left")
			}
			if len(r.Header) != len(test.want) {
				t.Errorf("header is %v, want %v", r.Header, test.want)
			}
			for name, values := range test.want {
				if strings.Join(r.Header[name], ";") != strings.Join(values, ";") {
					t.Errorf("%s is %q, want %q", name, r.Header[name], values)
				}
			}
		})
	}
}

// The invariant, by generation: after Clean no header folds to a protected
// name, and no option of Connection can remove one that is set afterwards.
func TestCleanHoldsItsInvariant(t *testing.T) {
	g := NewGuard("X-Tenant")
	names := append(HeaderNames(), "X-Tenant", "Accept", "Upgrade", "X-Other")
	alias := rapid.Custom(func(t *rapid.T) string {
		var b strings.Builder
		for _, c := range rapid.SampledFrom(names).Draw(t, "name") {
			switch rapid.IntRange(0, 5).Draw(t, "change") {
			case 0:
				b.WriteString(strings.ToUpper(string(c)))
			case 1:
				b.WriteRune(c)
				b.WriteByte(tokenCharacters[rapid.IntRange(0, len(tokenCharacters)-1).Draw(t, "extra")])
			default:
				b.WriteRune(c)
			}
		}
		return b.String()
	})
	rapid.Check(t, func(t *rapid.T) {
		r := &http.Request{Header: http.Header{}}
		for range rapid.IntRange(0, 8).Draw(t, "headers") {
			name := alias.Draw(t, "header")
			r.Header[name] = append(r.Header[name], "evil")
		}
		for range rapid.IntRange(0, 3).Draw(t, "connections") {
			r.Header.Add("Connection", strings.Join(rapid.SliceOfN(alias, 0, 4).Draw(t, "options"), " ,"))
		}
		g.Clean(r)
		for name := range r.Header {
			if g.Protects(name) {
				t.Fatalf("%s is left", name)
			}
		}
		if left := r.Header["Connection"]; left != nil && (len(left) != 1 || left[0] != "Upgrade") {
			t.Fatalf("Connection is %q", left)
		}
	})
}

func TestFold(t *testing.T) {
	for name, want := range map[string]string{"X-User_Id~": "xuserid", "-": "", "": "", "TE": "te"} {
		if got := Fold(name); got != want {
			t.Errorf("%q folds to %q, want %q", name, got, want)
		}
	}
}

func TestEncodeValue(t *testing.T) {
	for value, want := range map[string]string{
		"":                     "",
		"oGZUI0egBJY1zhBYw2K":  "oGZUI0egBJY1zhBYw2K",
		"a b":                  "a%20b",
		"100%":                 "100%25",
		"小程序":                  "%E5%B0%8F%E7%A8%8B%E5%BA%8F",
		"x\r\nX-User-Id: evil": "x%0D%0AX-User-Id:%20evil",
		"\x00\x7f\xff":         "%00%7F%FF",
		"a,b;c":                "a,b;c",
	} {
		if got := EncodeValue(value); got != want {
			t.Errorf("%q becomes %q, want %q", value, got, want)
		}
	}
}

func BenchmarkClean(b *testing.B) {
	g := NewGuard("X-Tenant")
	header := http.Header{
		"Accept": {"*/*"}, "Accept-Encoding": {"gzip"}, "Accept-Language": {"zh-CN"}, "Authorization": {"Bearer x"},
		"Content-Type": {"application/json"}, "Referer": {"https://servicewechat.com/wx/0/page-frame.html"},
		"User-Agent": {"MicroMessenger"}, "X-Requested-With": {"x"}, "X-Forwarded-For": {"1.1.1.1"},
	}
	r := &http.Request{Header: header}
	b.ReportAllocs()
	for b.Loop() {
		g.Clean(r)
	}
}
