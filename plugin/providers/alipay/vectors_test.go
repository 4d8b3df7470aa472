// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"crypto/rsa"
	_ "embed"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/module/provider"
)

//go:embed testdata/vectors.json
var vectorFile []byte

// vectors are test vectors of the interface, by name and field. Those of requests
// and of whole answers were compared with the platform's own SDK.
var vectors = func() map[string]map[string]string {
	var v map[string]map[string]string
	if err := json.Unmarshal(vectorFile, &v); err != nil {
		panic(err)
	}
	return v
}()

// The keys of the vectors, which are used nowhere else.
var (
	appKeyText    = vectors["K0"]["app_private_pkcs8"]
	appPublicText = vectors["K0"]["app_public"]
	platformText  = vectors["K0"]["alipay_public"]
	appKey        = mustKey(appKeyText)
	platformKey   = mustKey(vectors["K0"]["alipay_private_pkcs8"])
)

func mustKey(text string) *rsa.PrivateKey {
	key, err := parsePrivateKey(text)
	if err != nil {
		panic(err)
	}
	return key
}

// errorOf returns the *provider.Error that err must be.
func errorOf(t testing.TB, err error) *provider.Error {
	t.Helper()
	var e *provider.Error
	if !errors.As(err, &e) {
		t.Fatalf("want a *provider.Error, got %v", err)
	}
	return e
}

func TestPublicKeysOfVectors(t *testing.T) {
	for text, key := range map[string]*rsa.PrivateKey{appPublicText: appKey, platformText: platformKey} {
		if got, err := parsePublicKey(text); err != nil || !got.Equal(&key.PublicKey) {
			t.Errorf("%v", err)
		}
	}
}

// The text that is signed and its signature are the platform's, byte for byte.
func TestRequestVectors(t *testing.T) {
	for _, name := range []string{"R1", "R2", "R3", "R4"} {
		want := vectors[name]
		all := params{"sign": "not part of it", "": "x", "empty": ""}
		for pair := range strings.SplitSeq(want["string_to_sign"], "&") {
			name, value, _ := strings.Cut(pair, "=")
			all[name] = value
		}
		if got := all.text(); got != want["string_to_sign"] {
			t.Errorf("%s: the text is\n%s\nwant\n%s", name, got, want["string_to_sign"])
		}
		signature, err := sign(appKey, all.text())
		if err != nil || signature != want["sign"] {
			t.Errorf("%s: the signature is\n%s %v\nwant\n%s", name, signature, err, want["sign"])
		}
		if !isSigned(&appKey.PublicKey, []byte(all.text()), signature) || isSigned(&platformKey.PublicKey, []byte(all.text()), signature) {
			t.Errorf("%s: the signature cannot be verified", name)
		}
	}
}

// A whole request of the client is that of the vectors.
func TestRequestsAreThoseOfVectors(t *testing.T) {
	const code = "4b203fe6c11548bcabd8da5bb087a83b"
	for name, set := range map[string]func(*client){
		"R1": func(*client) {},
		"R2": func(c *client) {
			c.appCertSN = "866efef280dec9137a87d047ac446315"
			c.rootCertSN = "687b59193f3f462dd5336e5abf83c5d8_02941eef3187dddf3d3b83462e1dfcf6"
		},
		"R3": func(c *client) { c.appAuthToken = "202601BB0123456789abcdef0123456789abcX01" },
	} {
		t.Run(name, func(t *testing.T) {
			var got *http.Request
			var body string
			base := serve(t, func(w http.ResponseWriter, r *http.Request) {
				got, body = r, readBody(r)
				_, _ = w.Write([]byte(vectors["S1"]["body"]))
			})
			p := newProvider(t, []string{base})
			p.client.appID = "2021000000000001"
			p.client.now = func() time.Time { return time.Date(2026, 1, 1, 19, 4, 5, 999, time.UTC) }
			set(p.client)
			grant, err := p.Exchange(t.Context(), code)
			if err != nil || grant.OpenID != "083abcDEF0123456789-_abcDEF0123456789-_abcDEF01" {
				t.Fatalf("%+v %v", grant, err)
			}
			if got.Method != http.MethodPost || got.Header.Get("Content-Type") != "application/x-www-form-urlencoded;charset=utf-8" {
				t.Errorf("%s %q", got.Method, got.Header)
			}
			form, err := url.ParseQuery(body)
			if err != nil {
				t.Fatal(err)
			}
			query := got.URL.Query()
			if query.Get("sign") != vectors[name]["sign"] || query.Get("charset") != "utf-8" {
				t.Errorf("the query is %q", query)
			}
			all := make(params)
			for _, values := range []url.Values{query, form} {
				for name, value := range values {
					if len(value) != 1 || value[0] == "" || all[name] != "" {
						t.Errorf("%s is %q", name, value)
					}
					all[name] = value[0]
				}
			}
			if text := all.text(); text != vectors[name]["string_to_sign"] {
				t.Errorf("what was sent signs as\n%s\nwant\n%s", text, vectors[name]["string_to_sign"])
			}
			for _, name := range []string{"grant_type", "code", "app_auth_token"} {
				if query.Has(name) || form.Get(name) != all[name] {
					t.Errorf("%s is not in the body", name)
				}
			}
			delete(form, "app_auth_token")
			if len(form) != 2 {
				t.Errorf("the body is %q", body)
			}
		})
	}
}

// What is verified is the node byte for byte, wherever it stands.
func TestAnswerVectors(t *testing.T) {
	c := &client{keys: fixedKey{&platformKey.PublicKey}, now: time.Now}
	for name, method := range map[string]string{
		"S1": methodToken, "S2": "alipay.user.info.share", "S3": methodToken, "S6": "alipay.user.info.share", "S7": methodToken,
		"E1": "alipay.open.auth.token.app.query",
	} {
		r := &reply{Answer: &provider.Answer{Status: 200, Body: []byte(vectors[name]["body"])}, method: method}
		e, err := r.open()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		received, signed := vectors[name]["signed_bytes"], vectors[name]["signed_bytes"]
		switch name {
		case "S6":
			received, signed = vectors[name]["signed_bytes_as_received"], vectors[name]["signed_bytes_actual"]
			if isSigned(&platformKey.PublicKey, e.node, e.sign) {
				t.Error("S6 passes at the first try")
			}
		case "S7":
			received, signed = vectors["S1"]["signed_bytes"], vectors["S1"]["signed_bytes"]
		}
		if string(e.node) != received {
			t.Errorf("%s: the node is\n%s\nwant\n%s", name, e.node, received)
		}
		if node, err := c.verify(t.Context(), e); err != nil || string(node) != signed {
			t.Errorf("%s: verified\n%s %v\nwant\n%s", name, node, err, signed)
		}
	}
	for name, want := range map[string]string{
		"S1": "", "S7": "",
		"S3": "code invalid: platform code isv.code-invalid: 授权码code无效",
		"S4": "misconfigured: platform code isv.invalid-app-id: 无效的AppID参数: the answer is not signed, so that it may not be the platform's",
		"S5": "platform fault: verifying the answer: it has no signature",
		"S8": "platform fault: answer with status 200: decoding JSON: a name stands twice",
		"E1": "platform fault: reading the answer: it has no node of its method",
	} {
		grant, err := read(vectors[name]["body"])
		switch {
		case want == "":
			good := provider.Grant{OpenID: "083abcDEF0123456789-_abcDEF0123456789-_abcDEF01", Renames: true}
			if err != nil || grant != good {
				t.Errorf("%s: got %+v %v", name, grant, err)
			}
		case err == nil || err.Error() != want || grant != (provider.Grant{}):
			t.Errorf("%s: got %+v %v\nwant %s", name, grant, err, want)
		}
	}
}

// The platform's own tests for taking the node out of an answer: white space
// where JSON allows it, and a member "sign" in the node.
func TestWhiteSpaceOfAnswers(t *testing.T) {
	for _, node := range []string{
		`{"access_token":"a","open_id":"o"}`,
		"{ \"access_token\" : \"a\" ,\r\n\t\"open_id\":\"o\" }",
		`{"sign":"xxx","access_token":"a","open_id":"o"}`,
		`{"access_token":"\"sign\":\"x\"}","open_id":"o"}`,
		`{"access_token":"a","open_id":"o","url":"https:\/\/a"}`,
	} {
		signature, err := sign(platformKey, node)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{
			`{"alipay_system_oauth_token_response":%n,"sign":"%s"}`,
			" {\n\t\"alipay_system_oauth_token_response\" : \r\n %n \n ,\n \"sign\" \t:\n \"%s\"\n}\n",
			`{"sign":"%s","alipay_system_oauth_token_response":%n}`,
			"\xef\xbb\xbf{\"sign\" : \"%s\" , \"alipay_system_oauth_token_response\" : %n }",
			`{"alipay_system_oauth_token_response":%n,"alipay_cert_sn":"7513daaaa48aa3ba2e4018d84402479c","sign":"%s","new":{"a":[1]}}`,
		} {
			body := strings.NewReplacer("%n", node, "%s", signature).Replace(form)
			if grant, err := read(body); err != nil || grant.OpenID != "o" {
				t.Errorf("%s: got %+v %v", body, grant, err)
			}
			if changed := strings.Replace(body, `"open_id":"o"`, `"open_id": "o"`, 1); changed != body {
				if grant, err := read(changed); err == nil {
					t.Errorf("a space was added after signing: got %+v", grant)
				}
			}
		}
	}
}
