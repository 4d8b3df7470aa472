// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/simulator"
)

// inflight is a site whose upstream gets telephone numbers in plain.
var inflight = setup{options: withAlipayData, directive: "decrypt {\npath /api/phone*\n}"}

// rawBody returns the body of a raw request.
func rawBody(raw string) string {
	_, body, _ := strings.Cut(raw, "\r\n\r\n")
	return body
}

// received fails the test unless a raw request has exactly this body, its length,
// and this word of the gateway's on what it is worth.
func received(t *testing.T, a answer, body, verified string) {
	t.Helper()
	if a.status != http.StatusOK || rawBody(a.body) != body {
		t.Errorf("%d, upstream got\n%s\nwant the body\n%s", a.status, a.body, body)
	}
	if got := identities(a.body, "X-Data-Verified"); strings.Join(got, "|") != verified {
		t.Errorf("upstream sees X-Data-Verified: %q, want %q", got, verified)
	}
	if got := identities(a.body, "Content-Length"); len(got) > 1 || (len(got) == 1 && got[0] != strconv.Itoa(len(body))) {
		t.Errorf("upstream sees Content-Length: %q for %d bytes", got, len(body))
	}
}

// An upstream that reads plain JSON works as it is: it gets what was encrypted,
// byte by byte, with the word of the gateway's that it is genuine, which nobody
// else can say.
func TestInFlight(t *testing.T) {
	g := start(t, inflight)
	token, alipay := g.login(programA, "alice"), g.login(programC, "alice")
	key := g.sessionKey(programA, "alice")
	spaced := fmt.Sprintf(`{ "openGId" : "135<8>&'\u2028" ,  "number":"13580006666", "code" : 86,"watermark":{"timestamp":%d,"appid":"%s"} }`, time.Now().Unix(), programA)
	sealed := sealCBC(t, key, spaced)
	signed := g.phoneCode(programC, "alice", "13800138000")
	forged := "X-Data-Verified: evil\nX_Data_Verified: evil\nx-data_verified: evil\nX.Data.Verified: evil\nX-Data-Verified~: evil\nConnection: close, X-Data-Verified\n"
	for name, test := range map[string]struct{ token, body, want, program string }{
		"as in wx":        {token, object("encryptedData", sealed.EncryptedData, "iv", sealed.IV), spaced, programA},
		"as in Go":        {token, object("encrypted_data", sealed.EncryptedData, "iv", sealed.IV), spaced, programA},
		"with more":       {token, `{"orderId":7,` + dataBody(sealed)[1:], spaced, programA},
		"white space":     {token, " \n" + dataBody(sealed) + "\n ", spaced, programA},
		"Alipay":          {alipay, signed, alipayPhone, programC},
		"Alipay, as text": {alipay, object("response", signed), alipayPhone, programC},
		"Alipay, as data": {alipay, object("encryptedData", signed), alipayPhone, programC},
	} {
		t.Run(name, func(t *testing.T) {
			received(t, g.post("/api/phone", test.body, bearer(test.token)), test.want, test.program)
			received(t, g.do(http.MethodPut, "/API/Phone/7?x=y", test.body, "Content-Type: application/json; charset=utf-8", "Digest: md5=x", bearer(test.token)), test.want, test.program)
			a := g.send(fmt.Sprintf("POST /api/phone HTTP/1.1\nHost: x\n%sContent-Type: application/json\nContent-Length: %d\n%s\n", forged, len(test.body), bearer(test.token)), test.body)
			received(t, a, test.want, test.program)
			if strings.Contains(a.body, "evil") {
				t.Errorf("upstream sees what the client forged:\n%s", a.body)
			}
		})
	}
	user := g.do(http.MethodPost, "/api/phone", dataBody(g.handed(programA, "alice", phoneData)), "Content-Type: application/json", "Content-MD5: x", "Digest: x", "Repr-Digest: x", bearer(token)).body
	for _, name := range []string{"Content-MD5", "Digest", "Repr-Digest", "Authorization"} {
		if got := identities(user, name); got != nil {
			t.Errorf("upstream sees %s: %q of another body", name, got)
		}
	}
	if got := identities(user, "X-User-Openid"); len(got) != 1 || got[0] != g.openID(programA, "alice") {
		t.Errorf("upstream sees X-User-Openid: %q", got)
	}
	// What goes by is for the upstream: the gateway keeps nothing of it.
	if p := g.profile(token); p.Version != 0 {
		t.Errorf("the profile is %+v", p)
	}
	// One request can sign in and carry the data.
	bob := g.code(programA, "bob")
	a := g.post("/api/phone", dataBody(g.handed(programA, "bob", phoneData)), inline(programA, bob))
	if a.status != http.StatusOK || !strings.HasPrefix(rawBody(a.body), strings.TrimSuffix(phoneData, "}")) || a.header.Get("Authorization") == "" {
		t.Errorf("inline: %d %v %s", a.status, a.header, a.body)
	}
}

// Bad data never arrives, and neither does good data of nobody.
func TestInFlightRefuses(t *testing.T) {
	g := start(t, setup{options: withAlipayData, directive: inflight.directive + "\noptional\npublic {\npath /api/phone/public\n}"})
	token, alipay := g.login(programA, "alice"), g.login(programC, "alice")
	g.login(programA, "bob")
	good := dataBody(g.handed(programA, "alice", phoneData))
	before := g.upstream.count()
	refusals := make(map[string]bool)
	for name, test := range map[string]struct {
		token, body string
		status      int
		word        string
	}{
		"another user's":          {token, dataBody(g.handed(programA, "bob", phoneData)), 422, "data_invalid"},
		"no base64":               {token, object("encryptedData", "%%", "iv", "AAAA"), 422, "data_invalid"},
		"watermark a day old":     {token, dataBody(g.encrypt(simulator.Encryption{Program: programA, User: "alice", Data: []byte(phoneData), Watermark: simulator.Watermark{Timestamp: time.Now().Add(-24 * time.Hour).Unix()}})), 422, "data_invalid"},
		"not signed":              {alipay, g.response(alipayPhone, simulator.FormUnsigned), 422, "data_invalid"},
		"plain, not signed":       {alipay, g.response(alipayPhone, simulator.FormPlain), 422, "data_invalid"},
		"no iv":                   {token, object("encryptedData", "AAAA"), 400, "invalid_request"},
		"anonymous":               {"", good, 401, "session_missing"},
		"anonymous, of Alipay":    {"", g.phoneCode(programC, "alice", "13800138000"), 401, "session_missing"},
		"session is bad":          {token + "x", good, 401, "session_invalid"},
		"data of another program": {alipay, good, 400, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/api/phone", "/api/phone/public"} {
				if name == "session is bad" && path == "/api/phone/public" {
					test.word = "session_missing" // a bad session is ignored there
				}
				a := g.post(path, test.body, bearer(test.token))
				a.expect(t, test.status, test.word)
				checkErrorForm(t, a)
				if a.status == 422 {
					refusals[a.withoutID()] = true
				}
			}
		})
	}
	if n := g.upstream.count(); n != before {
		t.Errorf("%d requests reached the upstream", n-before)
	}
	if len(refusals) != 1 {
		t.Errorf("there are several refusals: %v", refusals)
	}
	// Who signs in on the way has his session though the data is bad: the code is
	// spent.
	a := g.post("/api/phone", object("encryptedData", "AAAA", "iv", "AAAA"), inline(programA, g.code(programA, "carol")))
	a.expect(t, 422, "data_invalid")
	if shown := g.get("/", "Authorization: "+a.header.Get("Authorization")); shown.status != http.StatusOK || identities(shown.body, "X-User-Openid") == nil {
		t.Errorf("inline, with bad data: the session is %q", a.header.Get("Authorization"))
	}
	received(t, g.post("/api/phone", `{"phoneNumber":"110"}`), `{"phoneNumber":"110"}`, "")
	received(t, g.post("/orders", good, bearer(token)), good, "")

	// Site's error routes have the last word on how it looks.
	routed := start(t, setup{directive: inflight.directive, routes: "reverse_proxy UPSTREAM\nhandle_errors 422 {\nrespond \"ours: {err.message}\" 422\n}"})
	token = routed.login(programA, "alice")
	a = routed.post("/api/phone", object("encryptedData", "AAAA", "iv", "AAAA"), bearer(token))
	if a.status != http.StatusUnprocessableEntity || !strings.HasPrefix(a.body, "ours: ") || routed.upstream.count() != 0 {
		t.Errorf("error route: %d %s", a.status, a.body)
	}
}

// passing are bodies that carry no open data, with the header lines and the
// bytes after them, and how a route refuses them that requires data.
func passing(t *testing.T, data string) map[string]struct {
	head, body string
	status     int
	word       string
} {
	t.Helper()
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sized := func(contentType, body string) string {
		return fmt.Sprintf("Content-Type: %s\nContent-Length: %d\n", contentType, len(body))
	}
	const plain = `{ "phoneNumber":"13580006666", "iv":"x" , "encryptedData":"" }`
	large := `{"x":"` + strings.Repeat("x", 256<<10) + `",` + data[1:]
	form := "--b\r\nContent-Disposition: form-data; name=\"encryptedData\"\r\n\r\nAAAA\r\n--b--\r\n"
	return map[string]struct {
		head, body string
		status     int
		word       string
	}{
		"plain JSON":         {sized("application/json", plain), plain, 422, "data_invalid"},
		"empty object":       {sized("application/json", "{}"), "{}", 422, "data_invalid"},
		"a list":             {sized("application/json", "["+data+"]"), "[" + data + "]", 400, "invalid_request"},
		"not JSON":           {sized("application/json", data+"x"), data + "x", 400, "invalid_request"},
		"twice":              {sized("application/json", `{"iv":"x",`+data[1:]), `{"iv":"x",` + data[1:], 400, "invalid_request"},
		"deep":               {sized("application/json", `{"x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+","+data[1:]), `{"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "," + data[1:], 400, "invalid_request"},
		"text":               {sized("text/plain", data), data, 415, "unsupported_media_type"},
		"form":               {sized("application/x-www-form-urlencoded", "encryptedData=AAAA&iv=x"), "encryptedData=AAAA&iv=x", 415, "unsupported_media_type"},
		"multipart":          {sized("multipart/form-data; boundary=b", form), form, 415, "unsupported_media_type"},
		"JSON of a kind":     {sized("application/vnd.api+json", data), data, 415, "unsupported_media_type"},
		"no type":            {fmt.Sprintf("Content-Length: %d\n", len(data)), data, 415, "unsupported_media_type"},
		"no body":            {"", "", 415, "unsupported_media_type"},
		"gzip":               {sized("application/json", zipped.String()) + "Content-Encoding: gzip\n", zipped.String(), 415, "unsupported_media_type"},
		"more than 256 KiB":  {sized("application/json", large), large, 413, "request_too_large"},
		"identity, so named": {sized("application/json", data) + "Content-Encoding: identity\n", data, 415, "unsupported_media_type"},
		"chunked":            {"Content-Type: application/json\nTransfer-Encoding: chunked\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(data), data), 400, "invalid_request"},
	}
}

// Whatever carries no open data, or may be a stream, passes byte by byte: a
// gateway in front of an app breaks nothing.
func TestInFlightPasses(t *testing.T) {
	g := start(t, inflight)
	token := g.login(programA, "alice")
	for name, test := range passing(t, dataBody(g.handed(programA, "alice", phoneData))) {
		t.Run(name, func(t *testing.T) {
			a := g.send("POST /api/phone HTTP/1.1\nHost: x\nX-Data-Verified: evil\nX_Data-Verified: evil\n"+test.head+bearer(token)+"\n", test.body)
			received(t, a, test.body, "")
			for line := range strings.SplitSeq(strings.TrimSpace(test.head), "\n") {
				if line != "" && !strings.Contains(a.body, "\r\n"+line+"\r\n") {
					t.Errorf("upstream does not see %q:\n%s", line, a.body)
				}
			}
		})
	}
}

// An upstream that believes any body is given a route on which there are no
// others than verified ones, by no way around it.
func TestInFlightRequired(t *testing.T) {
	g := start(t, setup{options: withAlipayData, directive: "decrypt required {\npath /api/phone*\n}\ndecrypt path /api/other"})
	token := g.login(programA, "alice")
	good := dataBody(g.handed(programA, "alice", phoneData))
	for name, test := range passing(t, good) {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/api/phone", "/API/PHONE", "/api/phone/../phone", "/%61pi/phone"} {
				before := g.upstream.count()
				a := g.send("POST "+path+" HTTP/1.1\nHost: x\n"+test.head+bearer(token)+"\nConnection: close\n", test.body)
				if path == "/api/phone/../phone" && a.word() == "ambiguous_path" {
					test.status, test.word = 400, "ambiguous_path"
				}
				a.expect(t, test.status, test.word)
				checkErrorForm(t, a)
				if g.upstream.count() != before {
					t.Errorf("%s reached the upstream", path)
				}
			}
		})
	}
	const forged = `{"phoneNumber":"110","purePhoneNumber":"110","countryCode":"86"}`
	before := g.upstream.count()
	for _, path := range []string{
		"/api//phone", "//api/phone", "/x/../api/phone", "/api/./phone", "/api%2fphone", "/api/x%2f..%2fphone", "/api;x=y/phone", "/api\\phone",
		"/api/%2e%2e/api/phone", "/api/x/..%2Fphone", "/api%5cphone", "/api/%00phone", "/./api/phone",
	} {
		a := g.send(fmt.Sprintf("POST %s HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: %d\n%s\n", path, len(forged), bearer(token)), forged)
		if a.status == http.StatusOK {
			t.Errorf("%s reached the upstream:\n%s", path, a.body)
		} else if a.word() != "ambiguous_path" && a.word() != "data_invalid" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if g.upstream.count() != before {
		t.Error("a forged number reached the upstream")
	}
	received(t, g.post("/api/other", forged, bearer(token)), forged, "")
	received(t, g.post("/orders", forged, bearer(token)), forged, "")
	if a := g.get("/a//b", bearer(token)); a.status != http.StatusOK {
		t.Errorf("an ambiguous path without a body: %d %s", a.status, a.body)
	}
	a := g.post("/api/phone", good, bearer(token))
	if got := identities(a.body, "X-Data-Verified"); a.status != http.StatusOK || strings.Join(got, "") != programA {
		t.Errorf("good data: %d %s", a.status, a.body)
	}
}

// The platform's data is UTF-8, whatever the client says of its own body. In UTF-7
// the nickname "+ACI-,+ACI-phoneNumber+ACI-:..." has members of its own, and the
// upstream has the gateway's word for them.
func TestInFlightCharset(t *testing.T) {
	g := start(t, inflight)
	token := g.login(programA, "alice")
	body := dataBody(g.handed(programA, "alice", `{"nickName":"+ACI-,+ACI-purePhoneNumber+ACI-:+ACI-110"}`))
	for _, contentType := range []string{
		"application/json; charset=utf-7", "application/json;charset=utf-16le", `application/json; charset="gbk"`, "application/json\nContent-Type: application/json; charset=utf-7",
	} {
		a := g.send(fmt.Sprintf("POST /api/phone HTTP/1.1\nHost: x\nContent-Type: %s\nContent-Length: %d\n%s\n", contentType, len(body), bearer(token)), body)
		switch got := identities(a.body, "Content-Type"); {
		case a.status != http.StatusOK && a.status != http.StatusUnsupportedMediaType:
			t.Errorf("%s: %d %s", contentType, a.status, a.body)
		case a.status == http.StatusOK && identities(a.body, "X-Data-Verified") != nil && (len(got) != 1 || (strings.Contains(got[0], "charset") && !strings.Contains(got[0], "utf-8"))):
			t.Errorf("%s: verified data is handed on as %q", contentType, got)
		}
	}
}

// Some upstreams let a header replace the path or the method: by that, too, no
// plain number must get to a route that requires verified data.
func TestInFlightOverrides(t *testing.T) {
	g := start(t, setup{directive: "decrypt required {\npath /api/phone\nmethod POST\n}"})
	token := g.login(programA, "alice")
	for request, lines := range map[string][]string{
		"POST /orders":   {"X-Original-URL: /api/phone", "X-Rewrite-URL: /api/phone"},
		"PUT /api/phone": {"X-HTTP-Method-Override: POST", "X-HTTP-Method: POST", "X-Method-Override: POST"},
	} {
		for _, line := range lines {
			name, _, _ := strings.Cut(line, ":")
			a := g.send(request+" HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: 21\n"+line+"\n"+bearer(token)+"\n", `{"phoneNumber":"110"}`)
			if a.status == http.StatusOK && identities(a.body, name) != nil {
				t.Errorf("%s with %s reached the upstream:\n%s", request, line, a.body)
			}
		}
	}
}
