// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// sessionList is a page of the sessions.
type sessionList struct {
	Sessions   []listedSession `json:"sessions"`
	Unreadable int             `json:"unreadable"`
	Next       string          `json:"next"`
}

type listedSession struct {
	ID, Platform, Program, OpenID, UnionID string
	State                                  string
	AuthTime                               time.Time `json:"auth_time"`
	LastUsed                               time.Time `json:"last_used"`
	Expires                                time.Time `json:"expires"`
	IdleExpires                            time.Time `json:"idle_expires"`
}

// inspection is what there is to know of a session.
type inspection struct {
	Token struct {
		State, Key string
		AuthTime   time.Time `json:"auth_time"`
		Expires    time.Time
	}
	Session      string
	User         map[string]string
	Sessions     []listedSession
	PlatformKeys int `json:"platform_session_keys"`
}

// askSessions posts to one of the admin calls about sessions.
func (g *gateway) askSessions(action, body string) answer {
	g.t.Helper()
	return g.ask(http.MethodPost, "/miniprogram/sessions/"+action, body)
}

// list returns one page.
func (g *gateway) list(body string) sessionList {
	g.t.Helper()
	a := g.askSessions("list", body)
	var page sessionList
	if err := json.Unmarshal([]byte(a.body), &page); err != nil || a.status != http.StatusOK {
		g.t.Fatalf("list %s: %d %s", body, a.status, a.body)
	}
	return page
}

// inspect returns what there is to know.
func (g *gateway) inspect(body string) inspection {
	g.t.Helper()
	a := g.askSessions("inspect", body)
	var found inspection
	if err := json.Unmarshal([]byte(a.body), &found); err != nil || a.status != http.StatusOK {
		g.t.Fatalf("inspect: %d %s", a.status, a.body)
	}
	return found
}

// loginMany signs in many users of a program and returns their tokens.
func (g *gateway) loginMany(program string, count int) []string {
	g.t.Helper()
	tokens := make([]string, count)
	var busy sync.WaitGroup
	next := make(chan int)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	for range 16 {
		busy.Go(func() {
			for i := range next {
				code, err := g.platform.Login(program, fmt.Sprint("user-", i))
				if err == nil {
					tokens[i], err = tryLogin(client, g.address, program, code)
				}
				if err != nil {
					g.t.Error(err)
				}
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	busy.Wait()
	return tokens
}

// An operator of many users goes through their sessions page by page, in a file as
// in Redis: he sees each once.
func TestListOfManySessions(t *testing.T) {
	const users = 2000
	for name, options := range map[string]func(*testing.T) string{
		"file":  func(*testing.T) string { return "" },
		"redis": func(t *testing.T) string { return "store redis " + startRedis(t) + "\nseal_key " + sealKey('k') },
	} {
		t.Run(name, func(t *testing.T) {
			if name == "redis" && !installed(t, "redis-server") {
				return
			}
			g := start(t, setup{options: options(t) + "\nexchange {\nconcurrency 1000\n}"})
			g.loginMany(programA, users)
			g.login(programB, "alice")
			g.login(programB, "alice")
			begun := time.Now()
			seen := make(map[string]int)
			people := make(map[string]int)
			pages := 0
			for after := ""; pages == 0 || after != ""; pages++ {
				body := `{"limit":300}`
				if after != "" {
					body = `{"limit":300,"after":"` + after + `"}`
				}
				page := g.list(body)
				for _, s := range page.Sessions {
					seen[s.ID]++
					people[s.Program+s.OpenID]++
					if s.Platform != "wechat" || s.UnionID == "" || s.AuthTime.IsZero() || s.Expires.Sub(s.AuthTime) != 30*24*time.Hour || s.IdleExpires.Sub(s.LastUsed) != 7*24*time.Hour {
						t.Fatalf("%+v", s)
					}
				}
				if len(page.Sessions) > 300 || page.Unreadable != 0 || page.Next == after && after != "" {
					t.Fatalf("page %d: %d sessions, next %s", pages, len(page.Sessions), page.Next)
				}
				after = page.Next
			}
			if len(seen) != users+2 || len(people) != users+1 || pages != 7 {
				t.Errorf("%d sessions of %d users on %d pages", len(seen), len(people), pages)
			}
			for id, n := range seen {
				if n != 1 {
					t.Errorf("session %s is listed %d times", id, n)
				}
			}
			t.Logf("%d pages in %s", pages, time.Since(begun))
			if page := g.list(object("program", programB)); len(page.Sessions) != 2 || page.Next != "" {
				t.Errorf("%+v", page)
			}
			if page := g.list(""); len(page.Sessions) != 100 || page.Next == "" {
				t.Errorf("without a body: %d sessions", len(page.Sessions))
			}
		})
	}
}

// Who asks for the sessions of a program, a user or a time gets those.
func TestListFilters(t *testing.T) {
	g := start(t, setup{options: withAlipay})
	g.login(programA, "alice")
	g.login(programA, "alice")
	g.login(programB, "alice")
	g.login(programC, "bob")
	now := time.Now()
	stamp := func(by time.Duration) string { return now.Add(by).UTC().Format(time.RFC3339) }
	for body, want := range map[string]int{
		`{}`:                           4,
		object("program", programA):    2,
		object("platform", "wechat"):   3,
		object("platform", "alipay"):   1,
		object("program", "wxunknown"): 0,
		object("platform", "alipay", "program", programC):                  1,
		object("program", programA, "openid", g.openID(programA, "alice")): 2,
		object("program", programA, "openid", g.openID(programA, "bob")):   0,
		object("since", "1h"):                             4,
		object("since", "7d"):                             4,
		object("until", "1h"):                             0,
		object("since", stamp(-time.Minute)):              4,
		object("since", stamp(time.Hour)):                 0,
		object("until", stamp(time.Hour), "since", "24h"): 4,
		object("idle_longer_than", "1h"):                  0,
		object("idle_longer_than", stamp(time.Hour)):      4,
		object("program", programA, "until", stamp(time.Hour), "since", stamp(-1e12)): 2,
		`{"limit":3}`:    3,
		`{"limit":1000}`: 4,
	} {
		if page := g.list(body); len(page.Sessions) != want {
			t.Errorf("%s: %d sessions, want %d", body, len(page.Sessions), want)
		}
	}
	for _, body := range []string{
		`{"limit":0}`, `{"limit":1001}`, `{"limit":-1}`, `{"limit":"5"}`, `{"limit":null}`, `{"since":"yesterday"}`, `{"since":"-1h"}`, `{"since":5}`,
		`{"idle_longer_than":""}`, `{"after":"x"}`, `{"after":""}`, `{"prgram":"x"}`, `{"program":""}`, `{"openid":"x"}`,
		object("platform", "alipay", "program", programA), object("program", "wxunknown", "openid", "o"), `[]`, `null`,
	} {
		g.askSessions("list", body).expectStatus(t, 400)
	}
}

// A user complains, or somebody brings a token that he found: what is it, whose is
// it, is it good? No credential is in the answer, and to ask is not to use it.
func TestInspect(t *testing.T) {
	g := start(t, setup{options: "session {\nper_user 2\n}"})
	revoked, first, token := g.login(programA, "alice"), g.login(programA, "alice"), g.login(programA, "alice")
	openID := g.openID(programA, "alice")
	byUser := g.inspect(object("program", programA, "openid", openID))
	if len(byUser.Sessions) != 2 || byUser.PlatformKeys == 0 || byUser.User["openid"] != openID || byUser.User["unionid"] == "" || byUser.Token.State != "" {
		t.Errorf("%+v", byUser)
	}
	byToken := g.inspect(object("access_token", token))
	if byToken.Token.State != "valid" || byToken.Token.Key == "" || byToken.Token.Expires.IsZero() || byToken.User["openid"] != openID || len(byToken.Sessions) != 2 {
		t.Errorf("%+v", byToken)
	}
	bySession := g.inspect(object("session", byToken.Session))
	if bySession.Session != byToken.Session || bySession.User["openid"] != openID || len(bySession.Sessions) != 2 || bySession.Sessions[1].State != "valid" {
		t.Errorf("%+v", bySession)
	}
	if found := g.inspect(object("access_token", revoked)); found.Token.State != "revoked" || found.User["openid"] != openID {
		t.Errorf("%+v", found)
	}
	foreign := start(t, setup{}).login(programA, "alice")
	if found := g.inspect(object("access_token", foreign)); found.Token.State != "foreign_key" || len(found.Token.Key) != 8 || found.User != nil {
		t.Errorf("%+v", found)
	}
	for _, rubbish := range []string{"x", token + "x", strings.Repeat("y", 5000)} {
		if found := g.inspect(object("access_token", rubbish)); found.Token.State != "invalid" || found.User != nil {
			t.Errorf("%.20s: %+v", rubbish, found)
		}
	}
	answers := g.askSessions("inspect", object("access_token", token)).body + g.askSessions("list", "{}").body
	for what, secret := range map[string]string{"token": token, "first token": first, "signature": token[strings.LastIndexByte(token, '.'):], "session key": g.sessionKey(programA, "alice")} {
		if strings.Contains(answers, secret) {
			t.Errorf("the %s is in the answers", what)
		}
	}
	for body, status := range map[string]int{
		object("session", strings.Repeat("A", 22)):              404,
		object("session", "x"):                                  400,
		object("session", token):                                400,
		object("program", programA, "openid", "oNobody"):        404,
		object("program", programA):                             400,
		object("openid", openID):                                400,
		object("access_token", token, "program", programA):      400,
		object("session", byToken.Session, "access_token", "x"): 400,
		object("access_token", ""):                              400,
		object("token", token):                                  400,
		`{}`:                                                    400,
		``:                                                      400,
	} {
		g.askSessions("inspect", body).expectStatus(t, status)
	}
}

// revokedCount reads the answer of revoke.
func (a answer) revokedCount(t *testing.T, want int) {
	t.Helper()
	if a.status != http.StatusOK || a.body != fmt.Sprintf(`{"revoked":%d}`, want) {
		t.Errorf("revoke: %d %s, want %d", a.status, a.body, want)
	}
}

// A phone is stolen, an account is abused: the one session ends, or all of the
// user's, and nobody else's.
func TestRevokeByAdmin(t *testing.T) {
	g := start(t, setup{})
	phone, tablet, bob := g.login(programA, "alice"), g.login(programA, "alice"), g.login(programA, "bob")
	third := g.login(programA, "alice")
	works := func(token string, want bool) {
		t.Helper()
		if a := g.get("/", bearer(token)); want && a.status != 200 || !want && a.word() != "session_revoked" {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	id := func(token string) string { return g.inspect(object("access_token", token)).Session }
	openID := g.openID(programA, "alice")
	works(phone, true)
	first := id(phone)
	g.askSessions("revoke", object("session", first)).revokedCount(t, 1)
	works(phone, false)
	works(tablet, true)
	g.askSessions("revoke", object("session", first)).expectStatus(t, 404)
	// With the user named it must be his.
	g.askSessions("revoke", object("session", id(tablet), "program", programA, "openid", g.openID(programA, "bob"))).expectStatus(t, 404)
	works(tablet, true)
	g.askSessions("revoke", object("session", id(tablet), "program", programA, "openid", openID)).revokedCount(t, 1)
	works(tablet, false)
	works(third, true)
	g.login(programA, "alice")
	g.askSessions("revoke", object("program", programA, "openid", openID)).revokedCount(t, 2)
	works(third, false)
	works(bob, true)
	g.askSessions("revoke", object("program", programA, "openid", openID)).revokedCount(t, 0)
	g.askSessions("revoke", object("program", programA, "openid", "oNobody")).expectStatus(t, 404)
	works(g.login(programA, "alice"), true)
}
