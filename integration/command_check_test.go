// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// Before going live: is the configuration what it should be? Nothing is opened and
// nobody is called.
func TestCommandCheck(t *testing.T) {
	g := prepare(t, setup{options: withAlipay + "\nseal_key " + sealKey('k') + "\nstore file DIR/none/sessions.db"})
	write := func(config string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(g.dir, "Caddyfile"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := g.caddyfile(g.setup)
	write(good)
	r := g.command("", "check")
	for _, want := range []string{`(?m)^configuration +valid +Caddyfile$`, `(?m)^program +alipay +` + programC + `$`, `(?m)^store +file$`, `(?m)^seal keys +1$`, `(?m)^directive +used 1 times$`, `(?m)^NOTE +http://127\S+ is not a platform`} {
		if !regexp.MustCompile(want).MatchString(r.out) || r.code != 0 {
			t.Errorf("no %s in %+v", want, r)
		}
	}
	if _, err := os.Stat(filepath.Join(g.dir, "none")); err == nil || g.platform.Calls().Total != 0 {
		t.Error("it opened the store, or called the platform")
	}
	var report struct {
		Config struct {
			Programs []map[string]string
			Handlers int
		}
	}
	if r := g.command("", "check", "--json", "--config", "Caddyfile"); json.Unmarshal([]byte(r.out), &report) != nil || len(report.Config.Programs) != 3 || report.Config.Handlers != 1 {
		t.Errorf("%+v", r)
	}
	write(strings.Replace(good, "\tminiprogram {\n\t\t\n\t}\n\treverse_proxy", "\treverse_proxy", 1))
	if r := g.command("", "check"); !strings.Contains(r.out, "no site has the directive miniprogram") {
		t.Errorf("%+v", r)
	}
	for want, config := range map[string]string{
		"unrecognized option":       strings.Replace(good, "store file", "stroe file", 1),
		"seal_key 1":                strings.Replace(good, sealKey('k'), "short", 1),
		"no global option":          "http://127.0.0.1:1 {\nrespond ok\n}",
		"MINIGATE_NOT_SET":          strings.Replace(good, secretA, "{env.MINIGATE_NOT_SET}", 1),
		"is already configured":     strings.Replace(good, programB, programA, 1),
		"Error: ":                   "http://[",
		"is not configured":         strings.Replace(good, "\tminiprogram {\n\t\t\n\t}", "\tminiprogram {\nprograms wxunknown\n}", 1),
		"no configuration; give --": "",
	} {
		if write(config); config == "" {
			if err := os.Remove(filepath.Join(g.dir, "Caddyfile")); err != nil {
				t.Fatal(err)
			}
		}
		g.command("", "check").fails(t, want)
	}
}

// With --online the running gateway tries what it can: its store, and each secret
// that a platform takes without a user.
func TestCommandCheckOnline(t *testing.T) {
	if !installed(t, "redis-server", "redis-cli") {
		return
	}
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	server.Dir = t.TempDir()
	startServer(t, `(Ready to accept connections)`, server)
	g := start(t, setup{options: withAlipay + "\nstore redis 127.0.0.1:" + port + "\nseal_key " + sealKey('k')})
	const tokenPath = "/cgi-bin/stable_token"
	address := "--address=unix/" + g.dir + "/admin.sock"
	out := g.tool("check", "--online")
	for _, want := range []string{`(?m)^running store +ok`, `(?m)^secret of ` + programA + ` +accepted`, `(?m)^secret of ` + programC + ` +unknown`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	calls := g.platform.Calls().Count(programA, tokenPath)
	g.tool("check", "--online") // asks again: a secret may have been reset a minute ago
	if n := g.platform.Calls().Count(programA, tokenPath); n != calls+1 || calls == 0 {
		t.Errorf("%d calls, then %d", calls, n)
	}
	var shown struct {
		Programs []struct {
			Program  string
			AppToken *struct {
				Known bool
				Until string
			} `json:"app_token"`
		}
	}
	if err := json.Unmarshal([]byte(g.tool("programs", "--json")), &shown); err != nil || len(shown.Programs) != 3 ||
		shown.Programs[0].AppToken != nil || !shown.Programs[1].AppToken.Known || shown.Programs[1].AppToken.Until == "" {
		t.Errorf("%+v, %v", shown, err)
	}
	// The token that it got is the one that goes on being used.
	token := g.login(programA, "alice")
	g.post("/miniprogram/phone", object("code", g.phoneCode(programA, "alice", "13580006666")), bearer(token)).expectStatus(t, 200)
	if n := g.platform.Calls().Count(programA, tokenPath); n != calls+1 {
		t.Errorf("%d calls", n)
	}
	stored, err := exec.Command("redis-cli", "-p", port, "keys", "*check*").Output()
	if err != nil || strings.TrimSpace(string(stored)) != "" {
		t.Errorf("left in the store: %s, %v", stored, err)
	}

	g.fault(simulator.Fault{Kind: simulator.FaultErrcode, Program: programA, Path: tokenPath, Code: "40125", Message: "invalid appsecret"})
	r := g.command("", "check", "--online", address)
	if r.code != 1 || !regexp.MustCompile(`(?m)^secret of `+programA+` +failed +program_misconfigured .*40125`).MatchString(r.out) || !strings.Contains(r.err, "not in order") ||
		!strings.Contains(r.out, "accepted") {
		t.Errorf("%+v", r)
	}
	if a := g.ask(http.MethodPost, "/miniprogram/check", ""); a.status != 200 || !strings.Contains(a.body, `"ok":false`) || strings.Contains(a.body, secretA) {
		t.Errorf("%d %s", a.status, a.body)
	}
	g.ask(http.MethodPost, "/miniprogram/check", `{"fix":true}`).expectStatus(t, 400)
	g.platform.ClearFaults()
	// A store that answers but takes no writes.
	if err := exec.Command("redis-cli", "-p", port, "config", "set", "maxmemory", "1").Run(); err != nil {
		t.Fatal(err)
	}
	if r := g.command("", "check", "--online", address); r.code != 1 || !regexp.MustCompile(`(?m)^running store +failed +writing: `).MatchString(r.out) {
		t.Errorf("%+v", r)
	}
}
