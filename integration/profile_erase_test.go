// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Changes at once: none is lost, whether they go for the same field, for
// different ones, or name the version that they have seen.
func TestProfileChangesAtOnce(t *testing.T) {
	g := start(t, setup{})
	tokens := []string{g.login(programA, "alice"), g.login(programA, "alice")}
	var made, refused atomic.Int64
	for round := range 50 {
		var both sync.WaitGroup
		for i, token := range tokens {
			both.Go(func() {
				field := []string{"city", "province"}[i]
				if a := g.put(object(field, fmt.Sprint("x", round)), token); a.status == http.StatusOK {
					made.Add(1)
				} else {
					t.Errorf("%d %s", a.status, a.body)
				}
			})
		}
		both.Wait()
		p := g.profile(tokens[round%2])
		if p.Version != made.Load() || p.Stated["city"] != fmt.Sprint("x", round) || p.Stated["province"] != p.Stated["city"] {
			t.Fatalf("round %d: after %d changes %+v", round, made.Load(), p)
		}
	}
	for round := range 50 {
		seen := g.profile(tokens[0]).Version
		var both sync.WaitGroup
		var won atomic.Int64
		for i, token := range tokens {
			both.Go(func() {
				switch a := g.put(object("nickname", fmt.Sprint(round, " ", i)), token, fmt.Sprintf(`If-Match: "%d"`, seen)); a.status {
				case http.StatusOK:
					won.Add(1)
				case http.StatusConflict:
					refused.Add(1)
				default:
					t.Errorf("%d %s", a.status, a.body)
				}
			})
		}
		both.Wait()
		if p := g.profile(tokens[1]); won.Load() != 1 || p.Version != seen+1 {
			t.Fatalf("round %d: %d of two won, version %d after %d", round, won.Load(), p.Version, seen)
		}
	}
	if refused.Load() != 50 {
		t.Errorf("%d were refused", refused.Load())
	}
}

// The right to be forgotten, while the user's other device goes on to write: after
// the answer nothing is kept, and no change that was under way brings it back.
func TestEraseDuringChanges(t *testing.T) {
	g := start(t, setup{})
	for round := range 5 {
		tokens := make([]string, 4)
		for i := range tokens {
			tokens[i] = g.login(programA, "alice")
		}
		var made atomic.Int64
		var busy sync.WaitGroup
		for _, token := range tokens {
			busy.Go(func() {
				for n := 0; ; n++ {
					a := g.put(object("nickname", fmt.Sprint("ghost ", round, " ", n)), token)
					if a.status == http.StatusUnauthorized {
						return
					}
					if a.status != http.StatusOK {
						t.Errorf("%d %s", a.status, a.body)
						return
					}
					made.Add(1)
				}
			})
		}
		eventually(t, "changes are under way", func() bool { return made.Load() > 20 })
		if a := g.do(http.MethodDelete, "/miniprogram/profile", "", bearer(tokens[0])); a.status != http.StatusNoContent || a.body != "" {
			t.Fatalf("%d %s", a.status, a.body)
		}
		g.askUser("export", programA, g.openID(programA, "alice")).expectStatus(t, 404)
		fresh := g.login(programA, "alice")
		busy.Wait()
		if p := g.profile(fresh); len(p.Stated) != 0 || len(p.Verified) != 0 {
			t.Errorf("round %d: the profile is back: %+v", round, p)
		}
		for _, token := range tokens {
			g.put(`{"nickname":"ghost"}`, token).expect(t, 401, "session_revoked")
		}
		if p := g.put(`{"city":"new"}`, fresh).profile(t); !same(p.Stated, map[string]string{"city": "new"}) {
			t.Errorf("round %d: a new beginning: %+v", round, p)
		}
	}
}

// A request that was let in before the erasure, and whose body comes after it, as
// it may on a bad line: it changes nothing, also where the user is back by then
// and has another profile.
func TestEraseBetweenHeadAndBody(t *testing.T) {
	g := start(t, setup{options: "profile {\navatars DIR/avatars\n}"})
	for name, request := range map[string]func() (head, body string){
		"profile": func() (string, string) { return "PUT /miniprogram/profile", `{"nickname":"ghost"}` },
		"phone": func() (string, string) {
			return "POST /miniprogram/phone", object("code", g.phoneCode(programA, "alice", "13580006666"))
		},
		"refresh": func() (string, string) {
			return "POST /miniprogram/profile/refresh", dataBody(g.handed(programA, "alice", userInfoData))
		},
		"picture": func() (string, string) {
			return "POST /miniprogram/profile/avatar", form(part{"file", "a.png", "image/png", string(pngFile(t, 8, 8))})
		},
	} {
		for _, back := range []bool{false, true} {
			token := g.login(programA, "alice")
			contentType := "application/json"
			head, body := request()
			if name == "picture" {
				contentType = "multipart/form-data; boundary=" + formBoundary
			}
			conn, err := net.Dial("tcp", g.address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n\r\n",
				head, g.address, contentType, len(body), bearer(token))
			reader := bufio.NewReader(conn)
			if let, err := http.ReadResponse(reader, nil); err != nil || let.StatusCode != http.StatusContinue {
				t.Fatalf("%s: %+v, %v", name, let, err)
			}
			g.do(http.MethodDelete, "/miniprogram/profile", "", bearer(token)).expectStatus(t, 204)
			if back {
				g.put(`{"city":"new"}`, g.login(programA, "alice")).profile(t)
			}
			if _, err := io.WriteString(conn, body); err != nil {
				t.Fatal(err)
			}
			late, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			keyless := late.StatusCode == http.StatusConflict || late.StatusCode == http.StatusUnprocessableEntity // its key is forgotten, too
			if late.StatusCode != http.StatusUnauthorized && (name != "refresh" || !keyless) {
				t.Errorf("%s, back %v: %s", name, back, late.Status)
			}
			p := g.profile(g.login(programA, "alice"))
			if len(p.Verified) != 0 || p.Stated["nickname"] != "" || p.Stated["avatar_url"] != "" || (p.Stated["city"] == "new") != back {
				t.Errorf("%s, back %v: the profile is %+v", name, back, p)
			}
			if files := g.avatarFiles(); len(files) != 0 {
				t.Errorf("%s, back %v: the directory has %q", name, back, files)
			}
			g.askUser("erase", programA, g.openID(programA, "alice")).expectStatus(t, 204)
		}
	}
}

// An erasure while pictures are uploaded: none is left behind that nobody knows of any more.
func TestEraseDuringUploads(t *testing.T) {
	g := start(t, setup{options: "profile {\navatars DIR/avatars\n}"})
	token := g.login(programA, "alice")
	body := form(part{"file", "a.png", "image/png", string(pngFile(t, 64, 64))})
	var made atomic.Int64
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			for a := g.upload(token, body); a.status != http.StatusUnauthorized; a = g.upload(token, body) {
				if made.Add(1); a.status != http.StatusOK && a.status != http.StatusTooManyRequests {
					t.Errorf("%d %s", a.status, a.body)
					return
				}
			}
		})
	}
	eventually(t, "uploads are under way", func() bool { return made.Load() > 10 })
	g.do(http.MethodDelete, "/miniprogram/profile", "", bearer(token)).expectStatus(t, 204)
	busy.Wait()
	if files := g.avatarFiles(); len(files) != 0 {
		t.Errorf("the directory has %q", files)
	}
}

// After an erasure all sessions are over, in every form of request, and nothing
// of the user is in the store, on this node as after a restart.
func TestErase(t *testing.T) {
	for name, erase := range map[string]func(*gateway, string) answer{
		"DELETE": func(g *gateway, token string) answer {
			return g.do(http.MethodDelete, "/miniprogram/profile", "", bearer(token))
		},
		"POST delete": func(g *gateway, token string) answer { return g.post("/miniprogram/profile/delete", "", bearer(token)) },
		"POST, JSON": func(g *gateway, token string) answer {
			return g.post("/miniprogram/profile/delete", "{}", bearer(token))
		},
		"admin": func(g *gateway, _ string) answer {
			return g.askUser("erase", programA, g.openID(programA, "alice"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, setup{directive: "headers user remote_user"})
			token, other, bob := g.login(programA, "alice"), g.login(programA, "alice"), g.login(programA, "bob")
			g.put(`{"nickname":"Al","email":"al@example.com"}`, token).profile(t)
			g.put(`{"nickname":"Bo"}`, bob).profile(t)
			g.post("/miniprogram/phone", object("code", g.phoneCode(programA, "alice", "13580006666")), bearer(token))
			picture := g.uploaded(token, pngFile(t, 8, 8))
			seesName := g.get("/", bearer(other)).body
			if identities(seesName, "Remote-Name") == nil || identities(seesName, "X-User-Phone") == nil {
				t.Fatalf("upstream sees\n%s", seesName)
			}
			if a := erase(g, token); a.status != http.StatusNoContent || a.body != "" {
				t.Fatalf("%d %s", a.status, a.body)
			}
			check := func() {
				t.Helper()
				for _, token := range []string{token, other} {
					for _, path := range []string{"/", "/miniprogram/session", "/miniprogram/profile"} {
						g.get(path, bearer(token)).expect(t, 401, "session_revoked")
					}
				}
				g.get(picture).expect(t, 404, "not_found")
				g.askUser("export", programA, g.openID(programA, "alice")).expectStatus(t, 404)
				if p := g.profile(bob); p.Stated["nickname"] != "Bo" {
					t.Errorf("another user has %+v", p)
				}
			}
			check()
			g.stop()
			g.run()
			check()
			if p := g.profile(g.login(programA, "alice")); len(p.Verified) != 0 || len(p.Stated) != 0 {
				t.Errorf("when he is back: %+v", p)
			}
			stored, err := os.ReadFile(g.dir + "/sessions.db")
			if err != nil || strings.Contains(string(stored), g.openID(programA, "alice")) {
				t.Errorf("the store names the user, or %v", err)
			}
		})
	}
}

// expectStatus fails the test unless an answer has this status.
func (a answer) expectStatus(t *testing.T, status int) {
	t.Helper()
	if a.status != status {
		t.Errorf("answer is %d %s, want %d", a.status, a.body, status)
	}
}
