// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// A store that cannot be opened is an error at start that says which file and
// why, and nothing is served.
func TestStoreCannotBeOpened(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(t *testing.T, path string)
		want  []string
	}{
		"a folder": {func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{"folder", "directory"}},
		"not a database": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 10_000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"corrupt", "not a", "damaged", "invalid"}},
		"in use": {func(t *testing.T, path string) {
			start(t, setup{options: "store file " + path})
		}, []string{"another process"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sessions.db")
			test.spoil(t, path)
			g := prepare(t, setup{options: "store file " + path})
			g.launch()
			if err := g.waitReady(); err == nil {
				t.Fatal("the gateway serves")
			}
			log := g.log.String()
			said := false
			for _, word := range test.want {
				said = said || strings.Contains(log, word)
			}
			if !said || !strings.Contains(log, path) {
				t.Errorf("the log does not say what is wrong with %s:\n%s", path, log)
			}
		})
	}
}

// T43: when the store takes no writes, logins and logouts are a 503, never a 401
// and never a pretence, and whoever is signed in stays so.
func TestStoreTakesNoWrites(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	if err := os.Remove(g.dir + "/sessions.db"); err != nil {
		t.Fatal(err)
	}
	a := g.post("/miniprogram/login", g.loginBody(programA, "carol"))
	a.expect(t, 503, "store_unavailable")
	checkErrorForm(t, a)
	g.get("/", inline(programA, g.code(programA, "carol"))).expect(t, 503, "store_unavailable")
	g.post("/miniprogram/logout", "", bearer(token)).expect(t, 503, "store_unavailable")
	if a := g.get("/", bearer(token)); a.status != http.StatusOK {
		t.Errorf("who was told that he is still signed in: %d %s", a.status, a.body)
	}
	if !strings.Contains(g.log.String(), "store cannot be used") {
		t.Error("the operator is not told")
	}
}

// A platform that is down signs nobody out.
func TestPlatformDown(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	if err := g.platform.SetFault(simulator.Fault{Kind: simulator.FaultReset}); err != nil {
		t.Fatal(err)
	}
	g.post("/miniprogram/login", g.loginBody(programA, "bob")).expect(t, 503, "platform_unavailable")
	if a := g.get("/", bearer(token)); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}

	unreachable := start(t, setup{api: "http://127.0.0.1:1"})
	unreachable.post("/miniprogram/login", unreachable.loginBody(programA, "bob")).expect(t, 503, "platform_unavailable")
	spare := prepare(t, setup{})
	spare.setup.api = "http://127.0.0.1:1 " + spare.platURL
	spare.run()
	spare.login(programA, "bob")
}

// With store memory a restart signs out, and says so as it is.
func TestStoreMemory(t *testing.T) {
	g := start(t, setup{options: "store memory"})
	token := g.login(programA, "alice")
	if err := g.reload(setup{options: "store memory", directive: "header X-Round two"}); err != nil {
		t.Fatal(err)
	}
	if a := g.get("/", bearer(token)); a.status != http.StatusOK {
		t.Errorf("after a reload: %d %s", a.status, a.body)
	}
	g.stop()
	g.run()
	g.get("/", bearer(token)).expect(t, 401, "session_expired")
}
