// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/simulator"
)

// A login that was acknowledged survives the death of the process, whenever it
// comes: here with a hundred logins in flight.
func TestAcknowledgedLoginsSurviveKill(t *testing.T) {
	g := start(t, setup{})
	const clients = 100
	var acknowledged sync.Map // token to openid
	var count atomic.Int64
	var busy sync.WaitGroup
	for i := range clients {
		busy.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			for n := 0; ; n++ {
				user := fmt.Sprintf("user-%d-%d", i, n)
				code, err := g.platform.Login(programA, user)
				if err != nil {
					t.Error(err)
					return
				}
				token, err := tryLogin(client, g.address, programA, code)
				if err != nil {
					return // the process is gone
				}
				acknowledged.Store(token, user)
				count.Add(1)
			}
		})
	}
	eventually(t, "logins are under way", func() bool { return count.Load() > 3*clients })
	g.kill()
	busy.Wait()
	g.run()
	lost := 0
	acknowledged.Range(func(token, user any) bool {
		a := g.get("/", bearer(fmt.Sprint(token)))
		got := identities(a.body, "X-User-Openid")
		if len(got) != 1 || got[0] != g.openID(programA, fmt.Sprint(user)) {
			t.Errorf("%s: %d %s", user, a.status, a.body)
			lost++
		}
		return lost < 5
	})
	t.Logf("%d logins acknowledged before the kill, %d lost", count.Load(), lost)
}

// tryLogin signs in without failing the test.
func tryLogin(client *http.Client, address, program, code string) (token string, err error) {
	response, err := client.Post("http://"+address+"/miniprogram/login", "application/json",
		strings.NewReader(`{"program":"`+program+`","code":"`+code+`"}`))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body := make([]byte, 4096)
	n, _ := response.Body.Read(body)
	_, rest, ok := strings.Cut(string(body[:n]), `"access_token":"`)
	token, _, closed := strings.Cut(rest, `"`)
	if !ok || !closed || response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("login: %s %s", response.Status, body[:n])
	}
	return token, nil
}

// A reload keeps sessions, codes in exchange and the open database; one that
// fails keeps everything as it was.
func TestReload(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	if err := g.platform.SetFault(simulator.Fault{Kind: simulator.FaultSlow, Delay: time.Second, Times: 1}); err != nil {
		t.Fatal(err)
	}
	body := g.loginBody(programA, "bob")
	g.platform.ResetCalls()
	inFlight := make(chan string, 1)
	go func() { inFlight <- g.token(g.post("/miniprogram/login", body)) }()
	eventually(t, "the exchange is under way", func() bool { return g.platform.Calls().Total == 1 })

	changed := g.setup
	changed.directive = "headers user remote_user"
	if err := g.reload(changed); err != nil {
		t.Fatal(err)
	}
	again := g.token(g.post("/miniprogram/login", body)) // a retransmission reaches the new configuration
	if first := <-inFlight; first != again {
		t.Error("the code was exchanged twice")
	}
	if n := g.platform.Calls().Total; n != 1 {
		t.Errorf("%d calls to the platform", n)
	}
	if a := g.get("/", bearer(token)); identities(a.body, "Remote-User") == nil {
		t.Errorf("after the reload: %d %s", a.status, a.body)
	}

	for name, broken := range map[string]setup{
		"bad option":     {directive: "headers nonsense"},
		"locked port":    {routes: "reverse_proxy UPSTREAM\n}\nhttp://127.0.0.1:1 {\nbind 192.0.2.1"},
		"another store":  {options: "store file /proc/none/x.db"},
		"unset secret":   {options: "seal_key {env.MINIGATE_NOT_SET}"},
		"unknown option": {options: "nonsense"},
	} {
		if err := g.reload(broken); err == nil {
			t.Errorf("%s: the reload succeeds", name)
		}
		if a := g.get("/", bearer(token)); identities(a.body, "Remote-User") == nil {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		g.login(programA, "carol")
	}
}

// tryGet sends a GET request with a token, on a connection of its own.
func tryGet(url, token string) (status int, body string, err error) {
	request, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return response.StatusCode, string(data), err
}

// newSealKey writes a seal key to a file.
func newSealKey(t *testing.T, path string, fill byte) {
	t.Helper()
	key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(rune(fill)), 32)))
	if err := os.WriteFile(path+".new", []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Secrets are rotated by writing files: no reload, nobody signed out, and what
// was taken away is dead.
func TestSecretFilesAreWatched(t *testing.T) {
	g := prepare(t, setup{caddyfile: `{
	admin unix//DIR/admin.sock
	miniprogram {
		program wechat ` + programA + ` {
			secret {file.DIR/secret}
			api PLATFORM
		}
		store file DIR/sessions.db
		seal_key {file.DIR/active.key} {file.DIR/older.key}
	}
}
http://ADDRESS {
	miniprogram
	reverse_proxy UPSTREAM
}`})
	secret := func(value string) {
		if err := os.WriteFile(filepath.Join(g.dir, "secret"), []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secret("outdated")
	newSealKey(t, g.dir+"/active.key", 'b')
	newSealKey(t, g.dir+"/older.key", 'a')
	g.run()
	g.post("/miniprogram/login", g.loginBody(programA, "alice")).expect(t, 500, "program_misconfigured")
	secret(secretA)
	var first string
	eventually(t, "the new secret is in use", func() bool {
		a := g.post("/miniprogram/login", g.loginBody(programA, "alice"))
		if a.status == http.StatusOK {
			first = g.token(a)
		}
		return first != ""
	})

	keyOf := func(token string) string { return token[:strings.IndexByte(token, '.')] }
	newSealKey(t, g.dir+"/older.key", 'b')
	newSealKey(t, g.dir+"/active.key", 'c')
	eventually(t, "the new key signs", func() bool { return keyOf(g.login(programA, "bob")) != keyOf(first) })
	if a := g.get("/", bearer(first)); a.status != http.StatusOK {
		t.Errorf("after rotation: %d %s", a.status, a.body)
	}
	second := g.login(programA, "alice")
	newSealKey(t, g.dir+"/older.key", 'd')
	eventually(t, "the old key is dead", func() bool { return g.get("/", bearer(first)).word() == "session_invalid" })
	if a := g.get("/", bearer(second)); a.status != http.StatusOK {
		t.Errorf("the active key's session: %d %s", a.status, a.body)
	}

	if err := os.WriteFile(g.dir+"/active.key", []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the operator is told", func() bool { return strings.Contains(g.log.String(), "secret file cannot be read") })
	if a := g.get("/", bearer(second)); a.status != http.StatusOK {
		t.Errorf("with a broken key file: %d %s", a.status, a.body)
	}
}
