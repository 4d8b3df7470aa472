// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Logging out ends the session, or all of the user's, at once: T32.
func TestLogout(t *testing.T) {
	g := start(t, setup{})
	phone, tablet, bob := g.login(programA, "alice"), g.login(programA, "alice"), g.login(programA, "bob")
	if a := g.do(http.MethodPost, "/miniprogram/logout", "", bearer(phone)); a.status != http.StatusNoContent || a.body != "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	g.get("/", bearer(phone)).expect(t, 401, "session_revoked")
	g.post("/miniprogram/logout", "", bearer(phone)).expect(t, 401, "session_revoked")
	if a := g.get("/", bearer(tablet)); a.status != http.StatusOK {
		t.Errorf("the other session: %d %s", a.status, a.body)
	}
	g.post("/miniprogram/logout", `{"everywhere":"yes"}`, bearer(tablet)).expect(t, 400, "invalid_request")
	third := g.login(programA, "alice")
	if a := g.post("/miniprogram/logout", `{"everywhere":true}`, bearer(tablet)); a.status != http.StatusNoContent {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, token := range []string{tablet, third} {
		g.get("/", bearer(token)).expect(t, 401, "session_revoked")
	}
	if a := g.get("/", bearer(bob)); a.status != http.StatusOK {
		t.Errorf("another user: %d %s", a.status, a.body)
	}
}

// T31: signing in with a session at hand replaces it; somebody else's is left
// alone, and its user gains nothing.
func TestLoginReplacesSession(t *testing.T) {
	g := start(t, setup{})
	old := g.login(programA, "alice")
	bob := g.login(programA, "bob", bearer(old))
	if a := g.get("/", bearer(old)); a.status != http.StatusOK {
		t.Errorf("alice, after bob signed in with her token: %d %s", a.status, a.body)
	}
	fresh := g.login(programA, "alice", bearer(old))
	g.get("/", bearer(old)).expect(t, 401, "session_revoked")
	for user, token := range map[string]string{"alice": fresh, "bob": bob} {
		if got := identities(g.get("/", bearer(token)).body, "X-User-Openid"); len(got) != 1 || got[0] != g.openID(programA, user) {
			t.Errorf("%s is %q", user, got)
		}
	}
	g.login(programA, "alice", bearer("rubbish"))
}

func TestWhoAmI(t *testing.T) {
	g := start(t, setup{options: "session {\nlifetime 2h\nidle 1h\n}"})
	a := g.get("/miniprogram/session", bearer(g.login(programA, "alice")))
	var body struct {
		User                     map[string]string
		AuthTime                 int64 `json:"auth_time"`
		ExpiresIn, IdleExpiresIn int64 `json:"-"`
		Expires                  int64 `json:"expires_in"`
		IdleExpires              int64 `json:"idle_expires_in"`
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		t.Fatal(err, a.body)
	}
	who, err := g.platform.Identity(programA, "alice")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"id": who.OpenID, "openid": who.OpenID, "unionid": who.UnionID, "platform": "wechat", "program": programA,
	} {
		if body.User[name] != want {
			t.Errorf("user.%s is %q, want %q", name, body.User[name], want)
		}
	}
	if since := time.Since(time.Unix(body.AuthTime, 0)); since < 0 || since > time.Minute || body.Expires < 7190 || body.Expires > 7200 ||
		body.IdleExpires < 3590 || body.IdleExpires > 3600 {
		t.Errorf("times in %s", a.body)
	}
}

func TestIdleSessionEnds(t *testing.T) {
	g := start(t, setup{options: "session {\nidle 2s\n}"})
	token := g.login(programA, "alice")
	for range 20 { // in use it lasts
		time.Sleep(150 * time.Millisecond)
		if a := g.get("/", bearer(token)); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	unused := g.login(programA, "bob")
	time.Sleep(3100 * time.Millisecond)
	g.get("/", bearer(unused)).expect(t, 401, "session_expired")
}

// An optional site serves nobody as nobody; a bad session is refused, so that
// the client knows to sign in again.
func TestOptional(t *testing.T) {
	g := start(t, setup{directive: "optional"})
	token := g.login(programA, "alice")
	for name, lines := range map[string][]string{"nothing": nil, "forged": {"X-User-Id: evil", "X_User_Id: evil"}, "basic": {"Authorization: Basic YTpi"}} {
		a := g.get("/", lines...)
		if a.status != http.StatusOK || identities(a.body, "X-User-Id") != nil {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := g.get("/", bearer(token)); identities(a.body, "X-User-Id") == nil {
		t.Errorf("signed in: %d %s", a.status, a.body)
	}
	g.get("/", bearer(token+"x")).expect(t, 401, "session_invalid")
}

// Public routes: a valid session is honoured, a bad one ignored, tokens of
// others are the upstream's business, ours are not.
func TestPublic(t *testing.T) {
	g := start(t, setup{directive: "public {\npath /healthz\nmethod GET\n}\npublic {\nheader X-Probe yes\n}", options: "session {\nper_user 1\n}"})
	old := g.login(programA, "alice")
	token := g.login(programA, "alice")
	if a := g.get("/healthz"); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := g.get("/x", "X-Probe: yes"); a.status != http.StatusOK {
		t.Errorf("second set: %d %s", a.status, a.body)
	}
	g.do(http.MethodPost, "/healthz", "").expect(t, 401, "session_missing")
	if a := g.get("/healthz", bearer(token)); identities(a.body, "X-User-Id") == nil {
		t.Errorf("signed in: %d %s", a.status, a.body)
	}
	if a := g.get("/healthz", bearer(old)); a.status != http.StatusOK || identities(a.body, "X-User-Id") != nil || identities(a.body, "Authorization") != nil {
		t.Errorf("revoked: %d %s", a.status, a.body)
	}
	if a := g.get("/healthz", bearer("the-apps-own")); a.status != http.StatusOK || len(identities(a.body, "Authorization")) != 1 {
		t.Errorf("the app's own token: %d %s", a.status, a.body)
	}
}

// T24, T37: a user of one program is a stranger where only another is served,
// with a session, with a code, and on the site's endpoints.
func TestProgramsAreKeptApart(t *testing.T) {
	g := start(t, setup{caddyfile: `{
	admin unix//DIR/admin.sock
	miniprogram {
		program wechat ` + programA + ` {
			secret ` + secretA + `
			api PLATFORM
		}
		program wechat ` + programB + ` {
			secret ` + secretB + `
			api PLATFORM
		}
		store memory
	}
}
http://a.test:PORT {
	miniprogram {
		programs ` + programA + `
	}
	reverse_proxy UPSTREAM
}
http://b.test:PORT {
	miniprogram {
		programs ` + programB + `
		public {
			path /public
		}
	}
	reverse_proxy UPSTREAM
}`})
	token := g.login(programA, "alice", "Host: a.test")
	if a := g.get("/", bearer(token), "Host: a.test"); a.status != http.StatusOK {
		t.Fatalf("at home: %d %s", a.status, a.body)
	}
	g.get("/", bearer(token), "Host: b.test").expect(t, 403, "program_not_allowed")
	g.get("/miniprogram/session", bearer(token), "Host: b.test").expect(t, 403, "program_not_allowed")
	g.get("/", inline(programA, g.code(programA, "alice")), "Host: b.test").expect(t, 403, "program_not_allowed")
	g.post("/miniprogram/login", g.loginBody(programA, "alice"), "Host: b.test").expect(t, 403, "program_not_allowed")
	if a := g.get("/public", bearer(token), "Host: b.test"); a.status != http.StatusOK || identities(a.body, "X-User-Id") != nil {
		t.Errorf("on a public route: %d %s", a.status, a.body)
	}
}

// The id by which the app knows a user: openid, unionid, or one that says
// nothing, stays the same, and differs from program to program.
func TestUserID(t *testing.T) {
	ids := func(choice string) (first, second, other string) {
		g := start(t, setup{directive: "user_id " + choice})
		id := func(program string) string {
			a := g.get("/", bearer(g.login(program, "alice")))
			got := identities(a.body, "X-User-Id")
			if len(got) != 1 {
				t.Fatalf("%s: X-User-Id is %q in %d %s", choice, got, a.status, a.body)
			}
			return got[0]
		}
		first = id(programA)
		g.stop()
		g.run() // the id outlives the process
		return first, id(programA), id(programB)
	}
	who := start(t, setup{})
	if first, second, _ := ids("openid"); first != who.openID(programA, "alice") || second != first {
		t.Errorf("openid: %q, %q", first, second)
	}
	if first, second, other := ids("unionid"); first == "" || second != first || other != first {
		t.Errorf("unionid: %q, %q, %q", first, second, other)
	}
	if first, second, other := ids("pseudonym"); len(first) != 22 || second != first || other == first || strings.Contains(first, who.openID(programA, "alice")) {
		t.Errorf("pseudonym: %q, %q, %q", first, second, other)
	}
}
