// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// calendars is Radicale, a CalDAV server, as Debian ships it. It knows nothing
// of mini-programs and believes whatever the header X-Remote-User says.
type calendars struct {
	address string
	root    string // the folder with a folder for each user
}

// startRadicale starts a Radicale of the test's own.
func startRadicale(t *testing.T) *calendars {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	err := os.WriteFile(config, fmt.Appendf(nil, `
[server]
hosts = 127.0.0.1:0
[auth]
type = http_x_remote_user
[rights]
type = owner_only
[storage]
filesystem_folder = %s
[web]
type = none
[logging]
level = info
`, dir), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	port := startServer(t, `Listening on '\[?127\.0\.0\.1\]?:(\d+)'`, exec.Command("radicale", "--config", config))
	return &calendars{address: "127.0.0.1:" + port, root: filepath.Join(dir, "collection-root")}
}

// users returns the names of all whom Radicale has served.
func (c *calendars) users(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(c.root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// stored returns the event in the calendar of a user as it lies on the disk.
func (c *calendars) stored(t *testing.T, user string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.root, user, "cal", "event.ics"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// calendarEvent is a calendar with one event.
func calendarEvent(summary string) string {
	return strings.ReplaceAll(`BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//minigate//test//EN
BEGIN:VEVENT
UID:event
DTSTAMP:20260101T000000Z
DTSTART:20260102T100000Z
SUMMARY:`+summary+`
END:VEVENT
END:VCALENDAR
`, "\n", "\r\n")
}

// calendarUser is a user with a calendar.
type calendarUser struct{ id, token, path, summary string }

// newCalendarUser signs a user in and has him make a calendar with an event.
func newCalendarUser(g *gateway, name string) calendarUser {
	t := g.t
	t.Helper()
	u := calendarUser{id: g.openID(programA, name), token: g.login(programA, name), summary: "appointment of " + name}
	u.path = "/" + u.id + "/cal/event.ics"
	if a := g.do("MKCALENDAR", "/"+u.id+"/cal/", "", bearer(u.token)); a.status != http.StatusCreated {
		t.Fatalf("MKCALENDAR of %s: %d %s", name, a.status, a.body)
	}
	a := g.do(http.MethodPut, u.path, calendarEvent(u.summary), bearer(u.token), "Content-Type: text/calendar")
	if a.status != http.StatusCreated {
		t.Fatalf("PUT of %s: %d %s", name, a.status, a.body)
	}
	return u
}

// reads reports whether an answer is the user's event.
func (u calendarUser) reads(a answer) bool {
	return a.status == http.StatusOK && strings.Contains(a.body, "SUMMARY:"+u.summary+"\r\n")
}

// startCalendars starts Radicale and a gateway in front of it with the users
// alice and bob.
func startCalendars(t *testing.T, s setup) (g *gateway, c *calendars, alice, bob calendarUser) {
	t.Helper()
	c = startRadicale(t)
	s.directive += "\nheader X-Remote-User {http.auth.user.id}"
	s.routes = "reverse_proxy " + c.address
	g = start(t, s)
	return g, c, newCalendarUser(g, "alice"), newCalendarUser(g, "bob")
}

// untouched fails the test unless everybody's event is as he wrote it, and
// Radicale never heard of anybody else.
func (c *calendars) untouched(t *testing.T, users ...calendarUser) {
	t.Helper()
	var ids []string
	for _, u := range users {
		ids = append(ids, u.id)
		if stored := c.stored(t, u.id); !strings.Contains(stored, "SUMMARY:"+u.summary) {
			t.Errorf("the event of %s is now %q", u.id, stored)
		}
	}
	slices.Sort(ids)
	if got := c.users(t); !slices.Equal(got, ids) {
		t.Errorf("the users of Radicale are %q, want %q", got, ids)
	}
}

// The promise in front of a real app that nobody here wrote: users of a
// mini-program each have a calendar of their own, and Radicale needed no more
// than its own option to believe a header.
func TestRadicaleKeepsUsersApart(t *testing.T) {
	if !installed(t, "radicale") {
		return
	}
	g, c, alice, bob := startCalendars(t, setup{})
	for _, pair := range [][2]calendarUser{{alice, bob}, {bob, alice}} {
		user, other := pair[0], pair[1]
		if a := g.get(user.path, bearer(user.token)); !user.reads(a) {
			t.Errorf("the user reads %d %s", a.status, a.body)
		}
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "PROPFIND", "PROPPATCH", "REPORT", "MOVE", "MKCALENDAR"} {
			a := g.do(method, user.path, calendarEvent("of somebody else"), bearer(other.token), "Content-Type: text/calendar", "Depth: 1",
				"Destination: http://"+g.address+other.path+"x")
			if a.status != http.StatusForbidden && a.status != http.StatusNotFound {
				t.Errorf("%s by another user: %d %s", method, a.status, a.body)
			}
			if a := g.do(method, user.path, calendarEvent("of nobody")); a.status != http.StatusUnauthorized || a.header.Get("Www-Authenticate") != `Bearer error="session_missing"` {
				t.Errorf("%s by nobody: %d %s", method, a.status, a.body)
			}
		}
	}
	c.untouched(t, alice, bob)
}

// radicaleForgeries are header lines by which bob, or nobody, claims to be alice. The
// word VICTIM stands for her id, BOB for his own.
var radicaleForgeries = []string{
	"X-Remote-User: VICTIM",
	"x-remote-user:VICTIM",
	"X-Remote-User: VICTIM\nX-Remote-User: VICTIM",
	"X-Remote-User: VICTIM\nX-Remote-User: BOB",
	"X-Remote-User:\nX-Remote-User: VICTIM",
	"X-Note: a\n X-Remote-User: VICTIM",
	"X_Remote_User: VICTIM",
	"X-Remote_User: VICTIM",
	"X_REMOTE-USER: VICTIM",
	"X_Remote_User: VICTIM\nX_Remote_User: VICTIM",
	"x-remote.user: VICTIM",
	"X.Remote.User: VICTIM",
	"X-Remote-User~: VICTIM",
	"X-Remote-User-: VICTIM",
	"-X-Remote-User: VICTIM",
	"X--Remote-User: VICTIM",
	"Connection: X-Remote-User",
	"Connection: close, x-remote-user",
	"Connection: keep-alive\nConnection:  X-REMOTE-USER ,close",
	"Connection: X-Remote-User\nX-Remote-User: VICTIM",
	"Connection: X_Remote_User\nX_Remote_User: VICTIM",
	"Proxy-Connection: X-Remote-User\nX-Remote-User: VICTIM",
	"Keep-Alive: X-Remote-User\nTE: trailers, X-Remote-User\nX-Remote-User: VICTIM",
	"Remote-User: VICTIM\nX-Forwarded-User: VICTIM\nX-User-Id: VICTIM\nX-Remote-User: VICTIM",
}

// forgedLines returns the forgery that bob makes to be taken for alice.
func forgedLines(forgery string, alice, bob calendarUser) string {
	return strings.NewReplacer("VICTIM", alice.id, "BOB", bob.id).Replace(forgery) + "\n"
}

// Attack: a user forges the header that the app goes by, in every spelling that
// a CGI name folds (CVE-2025-64484, CVE-2026-33433, CVE-2026-52845), or has the
// proxy delete the right one by Connection (CVE-2024-45410). He gets what is his
// and nothing else.
func TestRadicaleForgedUser(t *testing.T) {
	if !installed(t, "radicale") {
		return
	}
	for name, global := range aliasModes {
		t.Run(name, func(t *testing.T) {
			g, c, alice, bob := startCalendars(t, setup{global: global})
			for _, forgery := range radicaleForgeries {
				g.checkForgedUser(forgery, alice, bob)
			}
			c.untouched(t, alice, bob)

			// Without the gateway some of these do work, so that this test says something.
			direct := &gateway{t: t, address: c.address}
			for _, forgery := range []string{"X-Remote-User: VICTIM", "X_Remote_User: VICTIM", "X_REMOTE-USER: VICTIM"} {
				if a := direct.forge(http.MethodGet, alice.path, "", forgedLines(forgery, alice, bob)); !alice.reads(a) {
					t.Errorf("%q: Radicale itself does not believe it: %d %s", forgery, a.status, a.body)
				}
			}
		})
	}
}

// checkForgedUser fails the test unless bob, who says in this way that he is
// alice, is treated as bob, and one who shows no session as nobody.
func (g *gateway) checkForgedUser(forgery string, alice, bob calendarUser) {
	g.t.Helper()
	lines := bearer(bob.token) + "\n" + forgedLines(forgery, alice, bob)
	if a := g.forge(http.MethodGet, alice.path, "", lines); a.status != http.StatusForbidden || alice.reads(a) {
		g.t.Errorf("%q: bob reads alice's event: %d %s", forgery, a.status, a.body)
	}
	if a := g.forge(http.MethodPut, alice.path, calendarEvent("written by bob"), lines); a.status != http.StatusForbidden {
		g.t.Errorf("%q: bob writes alice's event: %d %s", forgery, a.status, a.body)
	}
	if a := g.forge(http.MethodGet, bob.path, "", lines); !bob.reads(a) {
		g.t.Errorf("%q: bob does not read his own event: %d %s", forgery, a.status, a.body)
	}
	if a := g.forge(http.MethodPut, bob.path, calendarEvent(bob.summary), lines); a.status != http.StatusCreated {
		g.t.Errorf("%q: bob does not write his own event: %d %s", forgery, a.status, a.body)
	}
	g.forge(http.MethodGet, alice.path, "", forgedLines(forgery, alice, bob)).expect(g.t, http.StatusUnauthorized, "session_missing")
}

// forge sends a request with these header lines exactly as they are.
func (g *gateway) forge(method, path, body, lines string) answer {
	g.t.Helper()
	return g.raw(fmt.Sprintf("%s %s HTTP/1.1\nHost: %s\n%sContent-Type: text/calendar\nContent-Length: %d\n\n%s",
		method, path, g.address, lines, len(body), strings.ReplaceAll(body, "\r\n", "\n")))
}

// Attack: the same where no session is required. Nobody is nobody, whatever he
// says (APISIX#14096, CVE-2026-49446).
func TestRadicaleForgedUserWithoutSession(t *testing.T) {
	if !installed(t, "radicale") {
		return
	}
	for name, directive := range map[string]string{
		"optional": "optional",
		"public":   "public {\nmethod GET PUT\n}",
	} {
		t.Run(name, func(t *testing.T) {
			g, c, alice, bob := startCalendars(t, setup{directive: directive})
			for _, forgery := range radicaleForgeries {
				a := g.forge(http.MethodGet, alice.path, "", forgedLines(forgery, alice, bob))
				if a.status != http.StatusForbidden || alice.reads(a) {
					t.Errorf("%q: nobody reads alice's event: %d %s", forgery, a.status, a.body)
				}
			}
			if a := g.do(http.MethodPut, alice.path, calendarEvent("of nobody"), "X-Remote-User: "+alice.id); a.status != http.StatusForbidden {
				t.Errorf("nobody writes alice's event: %d %s", a.status, a.body)
			}
			if a := g.get(alice.path, bearer(alice.token)); !alice.reads(a) {
				t.Errorf("alice reads %d %s", a.status, a.body)
			}
			c.untouched(t, alice, bob)
		})
	}
}
