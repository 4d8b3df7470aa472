// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestParseAuthParams(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"":                            {},
		"code=abc":                    {"code": "abc"},
		`program="wx1", code="a-b_c"`: {"program": "wx1", "code": "a-b_c"},
		`CODE = "a" ,,program=b ,`:    {"code": "a", "program": "b"},
		`code="a\"b\\c, d=e"`:         {"code": `a"b\c, d=e`},
		`code=""`:                     {"code": ""},
		"\tcode=a\t":                  {"code": "a"},
		"code":                        nil,
		"code=":                       nil,
		"=a":                          nil,
		`code="a`:                     nil,
		`code="a\\`:                   nil,
		`code="a"b`:                   nil,
		"code=a program=b":            nil,
		"code=a,code=b":               nil,
		"code=a,CODE=a":               nil,
		"code=a/b":                    nil,
		"code:a":                      nil,
	} {
		got, ok := parseAuthParams(text)
		if ok != (want != nil) || (ok && !maps.Equal(got, want)) {
			t.Errorf("%q: %v, %v; want %v", text, got, ok, want)
		}
	}
}

func FuzzParseAuthParams(f *testing.F) {
	f.Add(`program="wx1", code="abc"`)
	f.Add(`a="\"`)
	f.Fuzz(func(t *testing.T, text string) {
		params, ok := parseAuthParams(text)
		if !ok {
			return
		}
		for name := range params {
			if name == "" || name != strings.ToLower(name) {
				t.Errorf("%q has a parameter %q", text, name)
			}
		}
	})
}

func TestIsPlainObject(t *testing.T) {
	for text, want := range map[string]bool{
		"{}": true, ` {"a":1} `: true, `{"a":{"b":[1,2,{"c":null}]}}`: true, `{"a":1,"b":{"a":1}}`: true,
		"": false, "[]": false, "1": false, `"{}"`: false, "{}{}": false, "{} x": false, `{"a":1,"a":2}`: false, `{"a":1,"A":2}`: false,
		`{"a":{"b":1,"b":1}}`: false, `[{"a":1,"a":1}]`: false, `{"a":[{"b":1,"b":1}]}`: false, "{": false, `{"a"}`: false, `{"a":1,}`: false,
		`{"a":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + "}": false, "\xff": false, "{\"a\":1}\x00": false,
	} {
		if got := isPlainObject([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func FuzzIsPlainObject(f *testing.F) {
	f.Add([]byte(`{"program":"wx1","code":"abc"}`))
	f.Add([]byte(`{"a":{"a":[]}}`))
	f.Add([]byte(`{"a\u0062":1,"AB" : 2}`))
	f.Add([]byte(`{"a":["b","b"],"b":{"a":"a"},"c":"\\"}`))
	f.Add([]byte(`{"1":1,"2":1,"3":1,"4":1,"5":1,"6":1,"7":1,"8":1,"9":1,"A":1,"B":1,"b":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		plain := isPlainObject(data)
		if plain && (!json.Valid(data) || json.Unmarshal(data, &map[string]any{}) != nil) {
			t.Errorf("%q is no object", data)
		}
		if json.Unmarshal(data, &map[string]any{}) != nil || bytes.TrimSpace(data)[0] != '{' {
			return
		}
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		if want := namesByDecoder(decoder, maxDepth); plain != want {
			t.Errorf("%q: %v, by the decoder %v", data, plain, want)
		}
	})
}

// namesByDecoder does what hasUniqueNames does, in another way: it consumes one
// value of decoder.
func namesByDecoder(decoder *json.Decoder, depth int) bool {
	token, err := decoder.Token()
	delim, container := token.(json.Delim)
	if err != nil || !container {
		return err == nil
	}
	if depth == 0 {
		return false
	}
	seen := make(map[string]bool)
	for decoder.More() {
		if delim == '{' {
			token, err := decoder.Token()
			name, ok := token.(string)
			if name = strings.ToLower(strings.ToUpper(name)); err != nil || !ok || seen[name] {
				return false
			}
			seen[name] = true
		}
		if !namesByDecoder(decoder, depth-1) {
			return false
		}
	}
	_, err = decoder.Token()
	return err == nil
}

// T18: see the C0 rows of what a stock path matcher lets through.
func TestAmbiguousPath(t *testing.T) {
	for raw, want := range map[string]bool{
		"/": false, "/a": false, "/a/b/": false, "/%E5%B0%8F": false, "/a%20b": false, "/a.b/..c/d..": false, "/a%2eb": false,
		"/public/..;/admin": true, "/public/..%5cadmin": true, "/public/%252e%252e/admin": true, "/public%2fx": true,
		"/x/../public/y": true, "//public/x": true, "/public/x%23/../admin": true, "/public/x%00": true, "/public/%2e%2e/admin": true,
		"/a;b": true, "/a%3bb": true, "/a//b": true, "/./a": true, "/a/.": true, "/a/..": true, "/a%7f": true, "/a%ff": true, "/%25": true,
		"/a%3fb": true, "/a%0d%0ab": true, "a": true, "*": true,
	} {
		u, err := url.ParseRequestURI(raw)
		if err != nil {
			u = &url.URL{Path: raw}
		}
		if got := ambiguousPath(u); got != want {
			t.Errorf("%s: %v, want %v", raw, got, want)
		}
	}
	if !ambiguousPath(&url.URL{Path: `/public/..\admin`}) {
		t.Error("a backslash is a separator to some")
	}
}

func FuzzAmbiguousPath(f *testing.F) {
	f.Add("/public/x")
	f.Add("/public/..%2fadmin")
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.ParseRequestURI(raw)
		if err != nil || ambiguousPath(u) {
			return
		}
		if segments := strings.Split(u.Path, "/"); slices.Contains(segments, "..") || slices.Contains(segments, ".") ||
			strings.ContainsAny(u.Path, "\\;%\x00") {
			t.Errorf("%q passes as %q", raw, u.Path)
		}
	})
}

func TestRefererHints(t *testing.T) {
	for referer, want := range map[string]bool{
		"https://servicewechat.com/wx0123456789abcdef/12/page-frame.html": true,
		"https://wx0123456789abcdef.hybrid.alipay-eco.com/":               true,
		"http://servicewechat.com/wx0123456789abcdef/12/page-frame.html":  false,
		"https://servicewechat.com/?wx0123456789abcdef":                   false,
		"": false, ":": false, "https://": false,
	} {
		if got := slices.Contains(refererHints(referer), "wx0123456789abcdef"); got != want {
			t.Errorf("%s: %v, want %v", referer, got, want)
		}
	}
}
