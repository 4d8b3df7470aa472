// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ran is what a command did.
type ran struct {
	out, err string
	code     int
}

// command runs `minigate miniprogram` with arguments, and input.
func (g *gateway) command(input string, args ...string) ran {
	g.t.Helper()
	self, err := os.Executable()
	if err != nil {
		g.t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{"miniprogram"}, args...)...)
	cmd.Dir = g.dir
	cmd.Env = append(os.Environ(), runAsGateway+"=1", "HOME="+g.dir, "XDG_DATA_HOME="+g.dir+"/data", "XDG_CONFIG_HOME="+g.dir+"/config", "NO_PROXY=*")
	cmd.Stdin = strings.NewReader(input)
	var out, failure bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failure
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		g.t.Fatal(err)
	}
	return ran{out.String(), failure.String(), cmd.ProcessState.ExitCode()}
}

// tool runs a command for this gateway that must succeed, and returns its output.
func (g *gateway) tool(args ...string) string {
	g.t.Helper()
	r := g.command("", append(args, "--address", "unix/"+g.dir+"/admin.sock")...)
	if r.code != 0 {
		g.t.Fatalf("%v: exit code %d\n%s\n%s", args, r.code, r.out, r.err)
	}
	return r.out
}

// fails fails the test unless a command failed and said so.
func (r ran) fails(t *testing.T, want string) {
	t.Helper()
	if r.code != 1 || !strings.Contains(r.err, want) || r.out != "" {
		t.Errorf("exit code %d, output %q, error %q; want %q", r.code, r.out, r.err, want)
	}
}

// An operator on the machine lists, inspects and revokes.
func TestCommands(t *testing.T) {
	g := start(t, setup{options: withAlipay})
	alice, bob := g.login(programA, "alice"), g.login(programB, "bob")
	openID := g.openID(programA, "alice")
	table := g.tool("sessions")
	if lines := strings.Split(strings.TrimSpace(table), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "SESSION ") || !strings.Contains(table, openID) {
		t.Errorf("sessions:\n%s", table)
	}
	var page sessionList
	if err := json.Unmarshal([]byte(g.tool("sessions", "--json", "--program", programA, "--since", "1h")), &page); err != nil || len(page.Sessions) != 1 || page.Sessions[0].OpenID != openID {
		t.Errorf("%+v, %v", page, err)
	}
	id := page.Sessions[0].ID
	if out := g.tool("sessions", "--idle", "1h"); strings.Count(out, "\n") != 1 {
		t.Errorf("idle:\n%s", out)
	}
	for _, args := range [][]string{
		{"inspect", "--session", id},
		{"inspect", "--program", programA, "--openid", openID},
	} {
		if out := g.tool(args...); !strings.Contains(out, openID) || !strings.Contains(out, id) || !strings.Contains(out, " valid ") {
			t.Errorf("%v:\n%s", args, out)
		}
	}
	file := filepath.Join(g.dir, "token")
	if err := os.WriteFile(file, []byte(alice+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	address := "--address=unix/" + g.dir + "/admin.sock"
	for _, r := range []ran{g.command("", "inspect", "--token-file", file, address), g.command(" "+alice+"\n", "inspect", "--token-file", "-", address)} {
		if r.code != 0 || !regexp.MustCompile(`(?m)^token +valid$`).MatchString(r.out) || !strings.Contains(r.out, openID) || strings.Contains(r.out, alice) {
			t.Errorf("inspect: %+v", r)
		}
	}
	if r := g.command("", "inspect", "--token-file", file, "--json", address); !strings.Contains(r.out, `"state": "valid"`) {
		t.Errorf("inspect: %+v", r)
	}
	if out := g.tool("revoke", "--session", id); out != "1 sessions revoked\n" {
		t.Errorf("revoke: %s", out)
	}
	g.get("/", bearer(alice)).expect(t, 401, "session_revoked")
	alice = g.login(programA, "alice")
	if r := g.command(openID+"\n", "revoke", "--program", programA, "--openid", "-", "--json", address); r.code != 0 || r.out != "{\n\t\"revoked\": 1\n}\n" {
		t.Errorf("revoke: %+v", r)
	}
	g.get("/", bearer(alice)).expect(t, 401, "session_revoked")
	alice = g.login(programA, "alice")
	if out := g.tool("revoke", "--program", programA, "--all", "--yes"); out != "all sessions revoked\n" {
		t.Errorf("revoke: %s", out)
	}
	g.get("/", bearer(alice)).expect(t, 401, "session_revoked")
	g.get("/", bearer(bob)).expectStatus(t, 200)
	g.tool("revoke", "--everyone", "-y")
	g.get("/", bearer(bob)).expect(t, 401, "session_revoked")

	if out := g.tool("export", "--program", programA, "--openid", openID); !strings.Contains(out, `"openid": "`+openID+`"`) {
		t.Errorf("export: %s", out)
	}
	if out := g.tool("erase", "--program", programA, "--openid", openID, "--yes"); out != "erased\n" {
		t.Errorf("erase: %s", out)
	}
	g.command("", "export", "--program", programA, "--openid", openID, address).fails(t, "nothing is kept of this user")
}

// All pages, as table and as JSON.
func TestCommandSessionsAll(t *testing.T) {
	g := start(t, setup{})
	g.loginMany(programA, 120)
	address := "--address=unix/" + g.dir + "/admin.sock"
	r := g.command("", "sessions", address)
	next := regexp.MustCompile(`--after (\S+), or --all`).FindStringSubmatch(r.err)
	if r.code != 0 || strings.Count(r.out, "\n") != 101 || next == nil {
		t.Fatalf("%+v", r)
	}
	if r = g.command("", "sessions", address, "--after", next[1]); strings.Count(r.out, "\n") != 21 || r.err != "" {
		t.Errorf("the second page: %+v", r)
	}
	if r = g.command("", "sessions", address, "--all", "--limit", "50"); strings.Count(r.out, "\n") != 121 || r.err != "" {
		t.Errorf("all: %d lines, %s", strings.Count(r.out, "\n"), r.err)
	}
	var page sessionList
	if err := json.Unmarshal([]byte(g.tool("sessions", "--all", "--limit", "7", "--json")), &page); err != nil || len(page.Sessions) != 120 || page.Next != "" {
		t.Errorf("%d sessions, next %q, %v", len(page.Sessions), page.Next, err)
	}
}

func TestCommandStatus(t *testing.T) {
	g := start(t, setup{options: withAlipay + "\nseal_key " + sealKey('k')})
	g.login(programA, "alice")
	out := g.tool("programs")
	if !regexp.MustCompile(`(?m)^wechat +`+programA+` +closed +0 of 256 +20\S+Z +- +- +.*phone_codes`).MatchString(out) ||
		!regexp.MustCompile(`(?m)^alipay +`+programC+` +closed +0 of 256 +- +- +- +`).MatchString(out) {
		t.Errorf("programs:\n%s", out)
	}
	var keys struct {
		Active, From string
		Keys         []string
	}
	if err := json.Unmarshal([]byte(g.tool("keys", "--json")), &keys); err != nil || keys.From != "configured" || len(keys.Keys) != 1 || keys.Keys[0] != keys.Active {
		t.Errorf("%+v, %v", keys, err)
	}
	if out := g.tool("keys"); !regexp.MustCompile(`(?m)^` + keys.Active + ` +signs and seals +configured`).MatchString(out) {
		t.Errorf("keys:\n%s", out)
	}
	answer := g.ask(http.MethodGet, "/miniprogram/programs", "").body + g.ask(http.MethodGet, "/miniprogram/keys", "").body
	if strings.Contains(answer, secretA) || strings.Contains(answer, sealKey('k')) {
		t.Errorf("a secret is shown: %s", answer)
	}
}

// What an operator mistypes, forgets or cannot do: nothing is done, and the message
// says why.
func TestCommandsRefuse(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	address := "--address=unix/" + g.dir + "/admin.sock"
	for want, args := range map[string][]string{
		"exactly one is required":                {"revoke", address},
		"there is nobody to ask":                 {"revoke", "--everyone", address},
		"nobody to ask whether to go on":         {"revoke", "--program", programA, "--all", address},
		"give --yes":                             {"erase", "--program", programA, "--openid", "x", address},
		"exactly one is required: session (with": {"revoke", "--program", programA, address},
		`member "openid" is empty`:               {"revoke", "--program", programA, "--openid", "", address},
		"session is not the id of a session":     {"revoke", "--session", token, address},
		"program and openid are required":        {"export", "--openid", "x", address},
		"unknown flag":                           {"revoke", "--evryone", address},
		"unknown command":                        {"revoke", "everyone", address},
		"limit must be between 1 and 1000":       {"sessions", "--limit", "5000", address},
		"there is nothing":                       {"inspect", "--token-file", "-", address},
		"no such file":                           {"inspect", "--token-file", g.dir + "/none", address},
		"connect":                                {"sessions", "--address", freeAddress(t)},
		"it must be host:port":                   {"sessions", "--address", "localhost:1-5"},
		"begins with https://":                   {"sessions", "--cert", "x", address},
		"belong together":                        {"sessions", "--cert", "x", "--address", "https://localhost:1"},
		"is not the id":                          {"inspect", "--session", "x", address},
	} {
		g.command("", args...).fails(t, want)
	}
	if a := g.get("/", bearer(token)); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// The address of the gateway comes from its configuration, and from the flag first.
func TestCommandAddress(t *testing.T) {
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	g := prepare(t, setup{})
	g.setup.caddyfile = strings.Replace(g.caddyfile(setup{}), "admin unix//"+g.dir+"/admin.sock", "admin localhost:"+port, 1)
	g.run()
	g.login(programA, "alice")
	for _, args := range [][]string{{"--config", "Caddyfile"}, {"--address", "localhost:" + port}, {"--address", "http://localhost:" + port}} {
		if r := g.command("", append([]string{"sessions", "--json"}, args...)...); r.code != 0 || strings.Count(r.out, `"id"`) != 1 {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

// What a server says is text: it must not clear the screen, hide a line or turn it
// around, neither in tables nor in JSON nor in errors.
func TestCommandsPrintText(t *testing.T) {
	g := prepare(t, setup{})
	const nasty = "\u009b31m\u202eevil\u2066\u00a0"
	raw := `"` + `\u001b[2J` + nasty + `\n\r\t\b\u0000` + "\x7f" + `"`
	answers := map[string]string{
		"sessions/list":    `{"sessions":[{"id":` + raw + `,"platform":` + raw + `,"program":` + raw + `,"openid":` + raw + `}],"next":` + raw + `}`,
		"sessions/inspect": `{"token":{"state":` + raw + `,"key":` + raw + `},"session":` + raw + `,"user":{"openid":` + raw + `},"sessions":[{"id":` + raw + `,"state":` + raw + `}]}`,
		"programs":         `{"programs":[{"platform":` + raw + `,"breaker":` + raw + `,"last_failure":{"error":` + raw + `},"abilities":[` + raw + `]}]}`,
		"keys":             `{"keys":[` + raw + `],"from":` + raw + `,"active":` + raw + `}`,
		"users/export":     `{"user":` + raw + `}`,
		"check":            `{"ok":true,"store":{"cause":` + raw + `},"keys":{"active":` + raw + `},"programs":[{"program":` + raw + `,"secret":` + raw + `}]}`,
	}
	serve := func(handler http.HandlerFunc) string {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		return server.Listener.Addr().String()
	}
	answering := serve(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, answers[strings.TrimPrefix(r.URL.Path, "/miniprogram/")])
	})
	failing := serve(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, `{"error":`+raw+`}`)
	})
	bad := regexp.MustCompile(`[^\P{Cc}\n\t]|\p{Cf}|\x{00a0}`)
	for _, address := range []string{answering, failing} {
		for _, args := range [][]string{
			{"sessions"},
			{"sessions", "--json"},
			{"inspect"},
			{"inspect", "--json"},
			{"programs"},
			{"programs", "--json"},
			{"keys"},
			{"keys", "--json"},
			{"export"},
			{"check", "--online"},
			{"check", "--online", "--json"},
		} {
			r := g.command("", append(args, "--address", address)...)
			if found := bad.FindString(r.out + r.err); found != "" || (r.code != 0) != (address == failing) || !strings.Contains(r.out+r.err, "evil") {
				t.Errorf("%v: exit code %d, %q in %q", args, r.code, found, r.out+r.err)
			}
			if args[len(args)-1] == "--json" && address == answering && !json.Valid([]byte(r.out)) {
				t.Errorf("%v: no JSON: %s", args, r.out)
			}
		}
	}
	for _, page := range []string{"not JSON", "<html>", ""} {
		address := serve(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, page) })
		g.command("", "keys", "--address", address).fails(t, "no answer of a gateway")
	}
}
