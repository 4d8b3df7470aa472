// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jwt"
)

// signedFor is a site whose upstream wants to be shown who says so.
var signedFor = setup{
	directive: "optional\nuser_id pseudonym\nassertion {\naudience orders\nissuer https://gate.example.com\n}",
}

// published returns the public keys of a gateway.
func (g *gateway) published() jwk.Set {
	g.t.Helper()
	answer := g.get("/miniprogram/jwks.json")
	answer.expectStatus(g.t, http.StatusOK)
	keys, err := jwk.Parse([]byte(answer.body))
	if err != nil || keys.Len() == 0 {
		g.t.Fatalf("%d keys, %v", keys.Len(), err)
	}
	return keys
}

// verify returns what an assertion says to the upstream called orders.
func verify(t *testing.T, assertion string, keys jwk.Set) jwt.Token {
	t.Helper()
	token, err := jwt.Parse([]byte(assertion), jwt.WithKeySet(keys), jwt.WithAudience("orders"), jwt.WithIssuer("https://gate.example.com"))
	if err != nil {
		t.Fatalf("%q: %v", assertion, err)
	}
	return token
}

// An upstream on a network that it shares with others verifies who the user is, and
// believes nothing else. A client's own assertion never arrives, however it is
// spelt.
func TestAssertion(t *testing.T) {
	g := start(t, signedFor)
	token := g.login(programA, "alice")
	forged := []string{"X-Identity-Assertion: forged", "X_Identity_Assertion: forged", "x.identity.assertion: forged"}
	answer := g.get("/", append(forged, bearer(token))...)
	got := identities(answer.body, "X-Identity-Assertion")
	if len(got) != 1 || strings.Contains(answer.body, "forged") {
		t.Fatalf("%d %s", answer.status, answer.body)
	}
	claims := verify(t, got[0], g.published())
	if lifetime := claims.Expiration().Sub(claims.IssuedAt()); lifetime != 2*time.Minute {
		t.Errorf("it lasts %s", lifetime)
	}
	for name, want := range map[string]any{
		"platform": "wechat", "program": programA, "openid": g.openID(programA, "alice"),
		"sub": strings.Join(identities(answer.body, "X-User-Id"), ","), "unionid": strings.Join(identities(answer.body, "X-User-Unionid"), ","),
	} {
		if value, _ := claims.Get(name); value != want || want == "" {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
	if again := identities(g.get("/", bearer(token)).body, "X-Identity-Assertion"); !slices.Equal(again, got) {
		t.Error("it is signed anew for each request")
	}
	if other := identities(g.get("/", bearer(g.login(programA, "bob"))).body, "X-Identity-Assertion"); slices.Equal(other, got) || len(other) != 1 {
		t.Error("two users have one assertion")
	}
	anonymous := g.get("/", forged...)
	if anonymous.status != http.StatusOK || strings.Contains(anonymous.body, "forged") || identities(anonymous.body, "X-Identity-Assertion") != nil {
		t.Errorf("anonymous: %d %s", anonymous.status, anonymous.body)
	}
	keys := g.get("/miniprogram/jwks.json")
	if keys.header.Get("Cache-Control") != "public, max-age=900" || strings.Contains(keys.body, `"d"`) {
		t.Errorf("%v %s", keys.header, keys.body)
	}
	if head := g.do(http.MethodHead, "/miniprogram/jwks.json", ""); head.status != http.StatusOK || head.body != "" {
		t.Errorf("HEAD: %d %q", head.status, head.body)
	}
}

// The keys outlive reload, restart and the seal key, or upstreams refuse everybody.
func TestAssertionKeysAreKept(t *testing.T) {
	g := start(t, signedFor)
	token := g.login(programA, "alice")
	before := identities(g.get("/", bearer(token)).body, "X-Identity-Assertion")[0]
	if err := g.reload(signedFor); err != nil {
		t.Fatal(err)
	}
	verify(t, before, g.published())
	g.stop()
	g.run()
	keys := g.published()
	verify(t, before, keys)
	after := identities(g.get("/", bearer(token)).body, "X-Identity-Assertion")[0]
	verify(t, after, keys)
}

// What one gateway signs is verified with the keys that another one publishes.
func TestAssertionOfAnotherNode(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	shared := signedFor
	shared.options = "store redis " + startRedis(t) + "\nseal_key " + sealKey('a')
	a, b := start(t, shared), prepare(t, shared)
	b.platform, b.platURL = a.platform, a.platURL
	b.run()
	token := a.login(programA, "alice")
	for _, g := range []*gateway{a, b} {
		assertion := identities(g.get("/", bearer(token)).body, "X-Identity-Assertion")
		if len(assertion) != 1 {
			t.Fatal("there is no assertion")
		}
		verify(t, assertion[0], a.published())
		verify(t, assertion[0], b.published())
	}
}

// Without the option there are no keys to be had, and nothing is signed. Options that
// make an assertion worthless are refused.
func TestAssertionIsAnOption(t *testing.T) {
	g := start(t, setup{})
	g.get("/miniprogram/jwks.json").expect(t, http.StatusNotFound, "not_found")
	if a := g.get("/", bearer(g.login(programA, "alice"))); strings.Contains(a.body, "Assertion") {
		t.Errorf("upstream sees %s", a.body)
	}
	for options, want := range map[string]string{
		"audience a\nlifetime 5s":            "must be 10s to 1h",
		"audience a\nlifetime 2h":            "must be 10s to 1h",
		"audience a\nheader X-User-Id":       "header X-User-Id is set twice",
		"audience a\nheader Authorization":   "cannot carry an identity",
		"audience a\nheader \"X Assertion\"": "letters, digits and hyphens only",
	} {
		err := g.reload(setup{directive: "assertion {\n" + options + "\n}"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", options, err)
		}
	}
	err := g.reload(setup{directive: "header X-Identity-Assertion {http.auth.user.id}\nassertion {\naudience a\n}"})
	if err == nil || !strings.Contains(err.Error(), "is set twice") {
		t.Errorf("two of one name: %v", err)
	}
}

// The operator replaces the key, in good order or because it has leaked, and sees
// which one signs.
func TestAssertionKeyIsRotatedByTheOperator(t *testing.T) {
	g := start(t, signedFor)
	token := g.login(programA, "alice")
	before := identities(g.get("/", bearer(token)).body, "X-Identity-Assertion")[0]
	rotate := func(body string) string {
		t.Helper()
		answer := g.ask(http.MethodPost, "/miniprogram/keys/rotate", body)
		answer.expectStatus(t, http.StatusOK)
		_, rest, _ := strings.Cut(answer.body, `"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		return id
	}
	published := func() (ids []string) {
		t.Helper()
		keys := g.published()
		for i := range keys.Len() {
			key, _ := keys.Key(i)
			ids = append(ids, key.KeyID())
		}
		return ids
	}
	first := published()
	next := rotate("")
	if ids := published(); !slices.Equal(ids, append(first, next)) {
		t.Errorf("published %q", ids)
	}
	verify(t, before, g.published())
	if shown := g.ask(http.MethodGet, "/miniprogram/keys", "").body; !strings.Contains(shown, `{"id":"`+first[0]+`","since":"`) || strings.Count(shown, `"signs":true`) != 1 || !strings.Contains(shown, next) {
		t.Errorf("shown: %s", shown)
	}
	now := rotate(`{"at_once":true}`)
	if ids := published(); !slices.Equal(ids, []string{now}) {
		t.Errorf("published %q", ids)
	}
	if _, err := jwt.Parse([]byte(before), jwt.WithKeySet(g.published())); err == nil {
		t.Error("what a leaked key signed is taken")
	}
	verify(t, identities(g.get("/", bearer(token)).body, "X-Identity-Assertion")[0], g.published())
	for _, body := range []string{`{"at_once":"yes"}`, `{"atonce":true}`, `{"at_once":null}`} {
		g.ask(http.MethodPost, "/miniprogram/keys/rotate", body).expectStatus(t, http.StatusBadRequest)
	}
	g.ask(http.MethodGet, "/miniprogram/keys/rotate", "").expectStatus(t, http.StatusMethodNotAllowed)
	if !strings.Contains(g.log.String(), `"action":"keys/rotate"`) {
		t.Error("there is no line of audit")
	}
}
