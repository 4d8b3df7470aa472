// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/minigate/minigate/module/provider"
)

func TestGrants(t *testing.T) {
	const token, open, user, union = `"access_token":"authbseB01"`, `"open_id":"083_-x"`, `"user_id":"2088102150000000"`, `"union_id":"u1"`
	for node, want := range map[string]provider.Grant{
		"{" + token + "," + open + "}":                                                     {OpenID: "083_-x"},
		"{" + token + "," + user + "}":                                                     {UserID: "2088102150000000"},
		"{" + user + "," + open + "," + token + "}":                                        {OpenID: "083_-x", UserID: "2088102150000000"},
		"{" + token + "," + open + "," + union + "}":                                       {OpenID: "083_-x", UnionID: "u1"},
		"{" + token + "," + open + `,"user_id":"","union_id":null}`:                        {OpenID: "083_-x"},
		"{" + token + "," + user + `,"open_id":null,"union_id":""}`:                        {UserID: "2088102150000000"},
		"{" + token + "," + open + `,"alipay_user_id":"20880000000000000000000000000000"}`: {OpenID: "083_-x"},
		"{" + token + "," + open + `,"expires_in":"1296000","re_expires_in":2592000}`:      {OpenID: "083_-x"},
		"{" + token + "," + open + `,"expires_in":{},"new":[[{}]]}`:                        {OpenID: "083_-x"},
		"{" + token + `,"open_id":"\u0030\u00383_-x"}`:                                     {OpenID: "083_-x"},
		"{" + token + `,"open_id":"` + strings.Repeat("x", 128) + `"}`:                     {OpenID: strings.Repeat("x", 128)},
	} {
		want.Renames = true
		if got, err := read(signed(tokenNode, node, "")); err != nil || got != want {
			t.Errorf("%s: got %+v %v", node, got, err)
		}
	}
	for _, node := range []string{
		"{}", "{" + token + "}", "{" + open + "}", "{" + user + "}",
		`{"access_token":"",` + open + "}",
		`{"access_token":null,` + open + "}",
		`{"access_token":7,` + open + "}",
		"{" + token + `,"open_id":""}`,
		"{" + token + `,"open_id":"","user_id":""}`,
		"{" + token + `,"open_id":7}`,
		"{" + token + `,"user_id":2088102150000000}`,
		"{" + token + `,"open_id":["a"]}`,
		"{" + token + `,"open_id":true}`,
		"{" + token + `,"open_id":"a\u0000b"}`,
		"{" + token + `,"open_id":"a\r\nX-User-Id: b"}`,
		"{" + token + `,"open_id":"a\u202eb"}`,
		"{" + token + `,"open_id":"a\ud800"}`,
		"{" + token + `,"open_id":"` + strings.Repeat("x", 129) + `"}`,
		"{" + token + "," + open + `,"user_id":"a\u0000b"}`,
		"{" + token + "," + open + `,"user_id":` + `{}` + "}",
		"{" + token + "," + open + `,"union_id":7}`,
		"{" + token + "," + open + `,"union_id":"` + strings.Repeat("x", 129) + `"}`,
		"{" + token + "," + open + `,"open_id":"other"}`,
		"{" + token + "," + open + `,"Open_Id":"other"}`,
		"{" + token + "," + open + `,"open_\u0069d":"other"}`,
		`{"ACCESS_TOKEN":"a","OPEN_ID":"b"}`,
		"[" + token + "]", "null", `""`, "7",
	} {
		got, err := read(signed(tokenNode, node, ""))
		if e := errorOf(t, err); e.Reason != provider.PlatformFault || got != (provider.Grant{}) {
			t.Errorf("%s: got %+v %v", node, got, err)
		}
	}
}

// Whoever can change an answer on its way must gain nothing by it: not by a second
// node that one reader sees and another does not, and not without a signature.
func TestForgedAnswers(t *testing.T) {
	node := nodeOf(testGrant(1))
	signature, err := sign(platformKey, node)
	if err != nil {
		t.Fatal(err)
	}
	byApp, err := sign(appKey, node)
	if err != nil {
		t.Fatal(err)
	}
	const evil = `{"access_token":"evil","user_id":"2088000000000000"}`
	pair := func(name, value string) string { return fmt.Sprintf("%q:%s", name, value) }
	good, seal := pair(tokenNode, node), pair("sign", `"`+signature+`"`)
	if got, err := read("{" + good + "," + seal + "}"); err != nil || got != testGrant(1) {
		t.Fatalf("got %+v %v", got, err)
	}
	for name, members := range map[string][]string{
		"two nodes":                   {good, pair(tokenNode, evil), seal},
		"two nodes, forged first":     {pair(tokenNode, evil), good, seal},
		"two nodes, sign first":       {seal, pair(tokenNode, evil), good},
		"the same node twice":         {good, good, seal},
		"forged node beside it":       {good, pair("alipay_user_info_share_response", evil), seal},
		"forged error beside it":      {good, pair(errorNode, refusalNode("40002", "isv.code-invalid", "")), seal},
		"null error beside it":        {good, pair(errorNode, "null"), seal},
		"name in another case":        {good, pair(strings.ToUpper(tokenNode), evil), seal},
		"only in another case":        {pair(strings.ToUpper(tokenNode), node), seal},
		"name escaped":                {good, `"\u0061lipay_system_oauth_token_response":` + evil, seal},
		"name with a long s":          {good, pair("alipay_ſystem_oauth_token_reſponse", evil), seal},
		"two signatures":              {good, seal, pair("sign", `"x"`)},
		"signature in another case":   {good, seal, pair("Sign", `"x"`)},
		"another node signed":         {pair(tokenNode, evil), seal},
		"signed by the app":           {good, pair("sign", `"`+byApp+`"`)},
		"signature no base64":         {good, pair("sign", `"%%%"`)},
		"signature cut":               {good, pair("sign", `"`+signature[:340]+`"`)},
		"signature not text":          {good, pair("sign", "7")},
		"signature an object":         {good, pair("sign", "{}")},
		"signature empty":             {good, pair("sign", `""`)},
		"signature null":              {good, pair("sign", "null")},
		"no signature":                {good},
		"node as text":                {pair(tokenNode, fmt.Sprintf("%q", node)), seal},
		"error with a bad signature":  {pair(errorNode, refusalNode("40002", "isv.code-invalid", "")), seal},
		"busy with a bad signature":   {pair(errorNode, refusalNode("20000", "isp.unknow-error", "")), seal},
		"certificate of a wrong form": {good, pair("alipay_cert_sn", `"../../etc"`), seal},
		"certificate a number":        {good, pair("alipay_cert_sn", "7"), seal},
		"signed inside the node":      {pair(tokenNode, strings.TrimSuffix(evil, "}")+","+seal+"}")},
		"node in a node":              {pair("response", "{"+good+"}"), seal},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := read("{" + strings.Join(members, ",") + "}")
			if e := errorOf(t, err); e.Reason != provider.PlatformFault || got != (provider.Grant{}) || e.PlatformCode != "" {
				t.Errorf("got %+v %v", got, err)
			}
		})
	}
}

// The second try is for the signature; what is read is what was signed, so that a
// backslash that was slipped in is not.
func TestEscapedSlashes(t *testing.T) {
	const plain = `{"access_token":"a/b","open_id":"o/1"}`
	signature, err := sign(platformKey, plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{
		plain,
		`{"access_token":"a\/b","open_id":"o\/1"}`,
		`{"access_token":"a\/b","open_id":"o/1"}`,
	} {
		got, err := read(fmt.Sprintf(`{%q:%s,"sign":%q}`, tokenNode, node, signature))
		if err != nil || got.OpenID != "o/1" {
			t.Errorf("%s: got %+v %v", node, got, err)
		}
	}
	if got, err := read(fmt.Sprintf(`{%q:%s,"sign":%q}`, tokenNode, `{"access_token":"a\/b","open_id":"o\\/1"}`, signature)); err == nil {
		t.Errorf("got %+v", got)
	}
	const escaped = `{"access_token":"a","open_id":"o\/1"}`
	if signature, err = sign(platformKey, escaped); err != nil {
		t.Fatal(err)
	}
	got, err := read(fmt.Sprintf(`{%q:%s,"sign":%q}`, tokenNode, `{"access_token":"a","open_id":"o\\/1"}`, signature))
	if err == nil && got.OpenID != "o/1" {
		t.Errorf("got %+v", got)
	}
}

// The platform falls back to GBK where it does not find the charset.
func TestCharsets(t *testing.T) {
	gbk := `{"error_response":{"code":"40002","sub_code":"isv.code-invalid","sub_msg":"` + "\xca\xda\xc8\xa8\xc2\xeb" + `"}}`
	good := signed(tokenNode, nodeOf(testGrant(1)), "")
	for _, test := range []struct {
		contentType, body string
		ok                bool
	}{
		{"text/html;charset=utf-8", good, true},
		{"text/html; charset=UTF-8", good, true},
		{"text/html; charset=\"utf8\"", good, true},
		{"application/json", good, true},
		{"", good, true},
		{"what;;;", good, true},
		{"text/html;charset=GBK", good, false},
		{"text/html;charset=gb18030", good, false},
		{"text/html;charset=utf-16", good, false},
		{"text/html;charset=GBK", gbk, false},
		{"text/html;charset=utf-8", gbk, false},
		{"", gbk, false},
		{"", strings.Replace(good, "authbse", "authbse\xff", 1), false},
	} {
		r := replyOf(test.body)
		if test.contentType != "" {
			r.Header.Set("Content-Type", test.contentType)
		}
		got, _, err := testClient.readGrant(t.Context(), r)
		if test.ok != (err == nil) || test.ok != (got == testGrant(1)) {
			t.Errorf("%q: got %+v %v", test.contentType, got, err)
		} else if err != nil && err.Error() != "platform fault: reading the answer: it is not in UTF-8" {
			t.Errorf("%q: %v", test.contentType, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"S1", "S3", "S4", "S5", "S7", "S8", "E1"} {
		f.Add(200, "text/html;charset=utf-8", vectors[name]["body"])
	}
	f.Add(503, "", "<html>")
	f.Add(200, "text/html;charset=GBK", "\xef\xbb\xbf{}")
	f.Add(200, "", `{"error_response":{"sub_code":"isv.invalid-timestamp","sub_msg":"`+testCode(0)+`"}}`)
	f.Fuzz(func(t *testing.T, status int, contentType, body string) {
		r := replyOf(body)
		r.Status = status
		r.Header["Content-Type"] = []string{contentType}
		r.Header["Trace_id"] = []string{contentType}
		grant, _, err := testClient.readGrant(t.Context(), r)
		if err == nil {
			// Nothing is signed but what the vectors have.
			signed := vectors["S1"]["signed_bytes"]
			if !strings.Contains(body, signed) && !strings.Contains(strings.ReplaceAll(body, `\/`, "/"), signed) || grant.OpenID != "083abcDEF0123456789-_abcDEF0123456789-_abcDEF01" {
				t.Fatalf("grant %+v of %s", grant, body)
			}
			return
		}
		e := errorOf(t, err)
		if grant != (provider.Grant{}) || len(err.Error()) > 1024 || !utf8.ValidString(err.Error()) {
			t.Fatalf("got %+v %q", grant, err)
		}
		if text := err.Error() + e.TraceID; strings.Contains(text, testCode(0)) || strings.Contains(text, testToken) {
			t.Fatalf("error shows a secret: %s", text)
		}
	})
}

// hasTwins folds as encoding/json does where it matches names to fields.
func FuzzTwins(f *testing.F) {
	f.Add("open_id", "Open_Id")
	f.Add("sign", "ſign")
	f.Add("k", "\u212a")
	f.Fuzz(func(t *testing.T, a, b string) {
		if a == b || !utf8.ValidString(a) || !utf8.ValidString(b) {
			return
		}
		twins := hasTwins(provider.Fields{a: json.RawMessage("1"), b: json.RawMessage("2")})
		if strings.EqualFold(a, b) && !twins {
			t.Fatalf("%q and %q are one name to others", a, b)
		}
	})
}
