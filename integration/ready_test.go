// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/simulator"
)

const readyBody = `{"ready":true,"store":"ok","keys":"ok","programs":"ok"}`

// A load balancer asks before anybody has signed in, in any way that load
// balancers ask, and learns nothing but whether to send requests.
func TestReady(t *testing.T) {
	g := start(t, setup{})
	a := g.get("/miniprogram/ready")
	if a.status != http.StatusOK || a.body != readyBody || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Retry-After") != "" {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
	if a := g.do(http.MethodHead, "/miniprogram/ready", ""); a.status != http.StatusOK || a.body != "" {
		t.Errorf("HEAD: %d %s", a.status, a.body)
	}
	for _, lines := range [][]string{
		{"Authorization: Basic YTpi"}, {bearer("rubbish")}, {bearer("a"), bearer("b")}, {"Authorization: MiniProgram code=\"x\""}, {"X-User-Id: evil"},
	} {
		if a := g.get("/miniprogram/ready", lines...); a.status != http.StatusOK || a.body != readyBody {
			t.Errorf("%v: %d %s", lines, a.status, a.body)
		}
	}
	if a := g.post("/miniprogram/ready", "{}"); a.status != 405 || a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %s", a.status, a.body)
	}
	g.get("/miniprogram/ready/").expect(t, 404, "not_found")
	// Where the endpoints are elsewhere, it is there.
	if err := g.reload(setup{directive: "endpoints /auth\noptional"}); err != nil {
		t.Fatal(err)
	}
	if a := g.get("/auth/ready"); a.body != readyBody {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// The platform is down, or does not take the secret: nobody can sign in, but that
// is so on all nodes, and whoever is signed in must not lose them all.
func TestReadyWithoutThePlatform(t *testing.T) {
	const degraded = `{"ready":true,"store":"ok","keys":"ok","programs":"degraded"}`
	g := start(t, setup{
		directive: "programs " + programA,
		routes:    "reverse_proxy UPSTREAM\n}\nhttp://localhost:PORT {\nminiprogram {\nprograms " + programB + "\n}\nreverse_proxy UPSTREAM",
	})
	is := func(want string) func() bool {
		return func() bool { a := g.get("/miniprogram/ready"); return a.status == http.StatusOK && a.body == want }
	}
	// What clients can bring about is no sign of it.
	for range 20 {
		g.post("/miniprogram/login", object("program", programA, "code", "unknown"))
	}
	if !is(readyBody)() {
		t.Error("bad codes count")
	}
	g.fault(simulator.Fault{Kind: simulator.FaultReset})
	for range 12 {
		g.post("/miniprogram/login", g.loginBody(programA, "alice"))
	}
	if !is(degraded)() {
		t.Error("the platform is down, and nobody says so")
	}
	g.platform.ClearFaults()
	eventually(t, "somebody can sign in again", func() bool {
		return g.post("/miniprogram/login", g.loginBody(programA, "alice")).status == http.StatusOK
	})
	eventually(t, "all is well", is(readyBody))
	// A secret that is wrong, of a program of this site and of another one.
	g.fault(simulator.Fault{Kind: simulator.FaultErrcode, Program: programA, Code: "40125", Message: "invalid appsecret"})
	g.post("/miniprogram/login", g.loginBody(programA, "alice")).expect(t, 500, "program_misconfigured")
	if !is(degraded)() {
		t.Error("the secret is wrong, and nobody says so")
	}
	if a := g.get("/miniprogram/ready", "Host: localhost"+g.address[strings.LastIndexByte(g.address, ':'):]); a.body != readyBody {
		t.Errorf("the other site: %d %s", a.status, a.body)
	}
}

// The store is down or hangs: a load balancer sends requests to another node, and
// comes back when it is back. However many ask, the store is asked once a second.
func TestReadyWithoutTheStore(t *testing.T) {
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
	g := start(t, setup{options: "store redis 127.0.0.1:" + port + "\nseal_key " + sealKey('k')})
	gets := func() int {
		output, err := exec.Command("redis-cli", "-p", port, "info", "commandstats").Output()
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`cmdstat_get:calls=(\d+)`).FindSubmatch(output)
		if found == nil {
			return 0
		}
		n, err := strconv.Atoi(string(found[1]))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	g.get("/miniprogram/ready").expectStatus(t, 200)
	before, begun := gets(), time.Now()
	var busy sync.WaitGroup
	for range 8 {
		busy.Go(func() {
			for range 100 {
				if status, body, err := tryGet("http://"+g.address+"/miniprogram/ready", "x"); err != nil || status != 200 {
					t.Errorf("%d %s %v", status, body, err)
				}
			}
		})
	}
	busy.Wait()
	if n, took := gets()-before, time.Since(begun); n > 2+int(took/time.Second) {
		t.Errorf("the store is asked %d times in %s", n, took)
	}
	check := func(what string) {
		t.Helper()
		eventually(t, "not ready: "+what, func() bool { return g.get("/miniprogram/ready").status == 503 })
		a := g.get("/miniprogram/ready")
		if a.body != `{"ready":false,"store":"unavailable","keys":"ok","programs":"ok"}` || a.header.Get("Retry-After") != "1" {
			t.Errorf("%s: %s %v", what, a.body, a.header)
		}
	}
	if err := server.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begun = time.Now()
	check("it hangs")
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("noticed after %s", took)
	}
	if err := server.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready", func() bool { return g.get("/miniprogram/ready").status == 200 })
	if err := exec.Command("redis-cli", "-p", port, "shutdown", "nosave").Run(); err != nil {
		t.Fatal(err)
	}
	check("it is down")
	if n := strings.Count(g.log.String(), `"store does not answer; not ready"`); n != 2 {
		t.Errorf("the operator is told %d times", n)
	}
}

// A reload that closes a listener is the end of a server for those who use it.
func TestReadyBeforeAListenerCloses(t *testing.T) {
	g := start(t, setup{global: "shutdown_delay 2s"})
	g.get("/miniprogram/ready").expectStatus(t, 200)
	moved := prepare(t, setup{})
	text := strings.ReplaceAll(g.caddyfile(g.setup), g.address, moved.address)
	loaded := make(chan error, 1)
	go func() {
		_, err := g.admin(http.MethodPost, "/load", "text/caddyfile", text)
		loaded <- err
	}()
	eventually(t, "not ready", func() bool {
		a := g.get("/miniprogram/ready")
		return a.status == 503 && strings.Contains(a.body, `"shutting_down":true`)
	})
	if a := moved.get("/miniprogram/ready"); a.body != readyBody {
		t.Errorf("the new one: %d %s", a.status, a.body)
	}
	if err := <-loaded; err != nil {
		t.Error(err)
	}
}

// Before the server stops, the load balancer is told, and who still comes is
// served: nobody notices a deployment.
func TestReadyBeforeShutdown(t *testing.T) {
	g := start(t, setup{global: "shutdown_delay 2s"})
	token := g.login(programA, "alice")
	g.get("/miniprogram/ready").expectStatus(t, 200)
	if err := g.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not ready", func() bool { return g.get("/miniprogram/ready").status == 503 })
	a := g.get("/miniprogram/ready")
	var body map[string]any
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body["shutting_down"] != true || body["ready"] != false || body["store"] != "ok" || a.header.Get("Retry-After") == "" {
		t.Errorf("%s %v", a.body, a.header)
	}
	if a := g.get("/", bearer(token)); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}
