// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// Frameworks take /api/phone/, and some /api/phone.json, for /api/phone: by none of
// these may a plain number get to a route that requires verified data.
func TestInFlightSimilarPaths(t *testing.T) {
	g := start(t, setup{directive: "decrypt required {\npath /api/phone /slash/\n}"})
	token := g.login(programA, "alice")
	for _, path := range []string{
		"/api/phone/", "/api/phone//", "/api/phone.", "/api/phone%20", "/api/phone.json", "/API/PHONE/", "/api/phone/.", "/slash", "/slash%20", "/slash.json/",
	} {
		a := g.post(path, `{"phoneNumber":"110"}`, bearer(token))
		if a.status == http.StatusOK {
			t.Errorf("%s reached the upstream:\n%s", path, a.body)
		}
	}
	if n := g.upstream.count(); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
	for _, path := range []string{"/api/phones", "/api", "/api/phone2/"} {
		if a := g.post(path, `{"phoneNumber":"110"}`, bearer(token)); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

// Matchers may ask who the user is. One that is asked before he is known would
// never match, and the route would be open.
func TestInFlightMatchersKnowTheUser(t *testing.T) {
	for name, matcher := range map[string]string{
		"miniprogram": "miniprogram {\nplatform wechat\n}",
		"expression":  "expression `{http.auth.user.platform} == \"wechat\"`",
		"vars":        "vars {http.auth.user.platform} wechat",
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, setup{directive: "decrypt required {\n" + matcher + "\n}"})
			token := g.login(programA, "alice")
			g.post("/api/phone", `{"phoneNumber":"110"}`, bearer(token)).expect(t, 422, "data_invalid")
			good := dataBody(g.handed(programA, "alice", phoneData))
			if a := g.post("/api/phone", good, bearer(token)); a.status != http.StatusOK || identities(a.body, "X-Data-Verified") == nil {
				t.Errorf("good data: %d %s", a.status, a.body)
			}
		})
	}
}

// A request that carries a login code is answered from memory for some seconds: not
// any more when the session it got has ended meanwhile.
func TestEndedSessionDoesNotComeBackWithItsCode(t *testing.T) {
	for name, end := range map[string]func(g *gateway, token string) answer{
		"erasure": func(g *gateway, token string) answer {
			return g.do(http.MethodDelete, "/miniprogram/profile", "", bearer(token))
		},
		"sign-out": func(g *gateway, token string) answer { return g.post("/miniprogram/logout", "", bearer(token)) },
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, setup{})
			code := g.code(programA, "alice")
			a := g.get("/", inline(programA, code))
			token := a.header.Get("Authorization")[len("Bearer "):]
			end(g, token).expectStatus(t, 204)
			before := g.upstream.count()
			g.get("/", inline(programA, code)).expect(t, 401, "code_used")
			g.post("/miniprogram/login", object("program", programA, "code", code)).expect(t, 401, "code_used")
			g.get("/miniprogram/profile", inline(programA, code)).expect(t, 401, "code_used")
			if g.upstream.count() != before {
				t.Error("the upstream was reached")
			}
		})
	}
}

// Somebody floods the gateway with rubbish: the platform is asked about his key a
// few times, and others sign in.
func TestRecheckIsBounded(t *testing.T) {
	g := start(t, setup{options: "session {\nrecheck 1ns\n}"})
	token := g.login(programA, "mallory")
	if err := g.platform.SetFault(simulator.Fault{Kind: simulator.FaultErrcode, Path: "/wxa/checksession", Code: "45011"}); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		g.post("/miniprogram/decrypt", object("encryptedData", "AAAAAAAAAAAAAAAAAAAAAA==", "iv", "AAAAAAAAAAAAAAAAAAAAAA=="), bearer(token))
	}
	if n := g.platform.Calls().Count(programA, "/wxa/checksession"); n < 1 || n > 6 {
		t.Errorf("the platform was asked %d times", n)
	}
	g.login(programA, "alice")
}

// An operator moves the pictures out of the store: those that are there are found,
// and go with their users.
func TestAvatarsAreMoved(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	path := g.uploaded(token, pngFile(t, 8, 8))
	if err := g.reload(setup{options: "profile {\navatars DIR/avatars\n}"}); err != nil {
		t.Fatal(err)
	}
	if a := g.get(path); a.status != http.StatusOK {
		t.Errorf("after the move: %d", a.status)
	}
	var e struct {
		Avatar *json.RawMessage `json:"avatar"`
	}
	if a := g.askUser("export", programA, g.openID(programA, "alice")); json.Unmarshal([]byte(a.body), &e) != nil || e.Avatar == nil {
		t.Errorf("the export has no picture: %s", a.body)
	}
	g.do(http.MethodDelete, "/miniprogram/profile", "", bearer(token)).expectStatus(t, 204)
	if err := g.reload(setup{}); err != nil {
		t.Fatal(err)
	}
	g.get(path).expect(t, 404, "not_found")
}

// Plain data with a signature does not say when it was made: it is never handed on
// as verified, whatever stands beside it.
func TestInFlightTakesNoRawData(t *testing.T) {
	g := start(t, setup{directive: "decrypt {\npath /api/phone\n}"})
	token := g.login(programA, "alice")
	e := g.encrypt(simulator.Encryption{Program: programA, User: "alice", Data: json.RawMessage(userInfoData), UserInfo: true})
	for _, more := range [][]string{nil, {"response", "x"}, {"encryptedData", "AAAA"}, {"encryptedData", "AAAA", "response", "x"}, {"encryptedData", "{}", "sign", "x"}} {
		a := g.post("/api/phone", object(append([]string{"rawData", e.RawData, "signature", e.Signature}, more...)...), bearer(token))
		if identities(a.body, "X-Data-Verified") != nil {
			t.Errorf("%q: %d %s", more, a.status, a.body)
		}
	}
}
