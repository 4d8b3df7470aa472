// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package integration runs the gateway as its users do: as a process of its
// own, between clients, platforms and upstreams that know nothing of each other.
package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/minigate/minigate"
	"github.com/minigate/minigate/integration/simulator"
)

// runAsGateway, set in the environment, makes this test binary the gateway: the
// process under test is built with the same flags, -race among them.
const runAsGateway = "MINIGATE_TEST_RUN_AS_GATEWAY"

func TestMain(m *testing.M) {
	if os.Getenv(runAsGateway) != "" {
		caddycmd.Main()
		return
	}
	os.Exit(m.Run())
}

// Programs that the simulated platform knows.
const (
	programA, secretA = "wxaaaaaaaaaaaaaaaa", "canary-secret-of-program-a"
	programB, secretB = "wxbbbbbbbbbbbbbbbb", "canary-secret-of-program-b"
	programC          = "2021000000000000" // of Alipay, with the demo keys
)

// withAlipay is the option that adds programC to a gateway's programs.
const withAlipay = "program alipay " + programC + " {\nprivate_key " + simulator.DemoAlipayPrivateKey +
	"\nalipay_public_key " + simulator.DemoAlipayPublicKey + "\napi PLATFORM/gateway.do\n}"

// patience is how long a test waits for something that should come at once.
const patience = 30 * time.Second

// setup says how a gateway is started. Zero values are the defaults.
type setup struct {
	// options are lines of the global option miniprogram, in addition to the
	// two programs. Unless they choose a store, it is a file of the test's own.
	options string
	// directive are the lines of the directive miniprogram.
	directive string
	// routes are the lines of the site after the directive. Default: a proxy to
	// the upstream.
	routes string
	// global are lines of the Caddyfile's global options block.
	global string
	// caddyfile replaces all of the above. It may hold the words that replace
	// does.
	caddyfile string
	// api replaces the base URLs of the platform.
	api string
}

// gateway is a running gateway and the world around it.
type gateway struct {
	t        *testing.T
	dir      string
	address  string // of the site
	platform *simulator.Simulator
	platURL  string
	upstream *upstream
	log      *logBuffer
	process  *exec.Cmd
	exited   chan error
	launched int      // where the log of this process begins
	socket   *os.File // that it listens on as fd/3; nil if it makes its own
	setup    setup
}

// start starts a gateway that is stopped when the test ends.
func start(t *testing.T, s setup) *gateway {
	t.Helper()
	g := prepare(t, s)
	g.run()
	return g
}

// prepare sets up everything around a gateway that is not started yet.
func prepare(t *testing.T, s setup) *gateway {
	t.Helper()
	platform, err := simulator.New(simulator.Config{Programs: []simulator.Program{
		{Platform: "wechat", AppID: programA, Secret: secretA},
		{Platform: "wechat", AppID: programB, Secret: secretB},
		{Platform: "alipay", AppID: programC, Secret: simulator.DemoSecret},
	}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(platform)
	t.Cleanup(server.Close)
	// Not t.TempDir: a path to a Unix socket must be short.
	dir, err := os.MkdirTemp("", "minigate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &gateway{
		t: t, dir: dir, setup: s,
		address:  freeAddress(t),
		platform: platform,
		platURL:  server.URL,
		upstream: startUpstream(t),
		log:      new(logBuffer),
	}
}

// freeAddress returns a loopback address that nobody listens on. Its port is not
// one of those that the system gives to connections, or one of them could take it
// before the gateway does.
func freeAddress(t *testing.T) string {
	t.Helper()
	const lowest, count = 10_000, 20_000
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(count)))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Fatal("there is no free port")
	return ""
}

// caddyfile returns the configuration.
func (g *gateway) caddyfile(s setup) string {
	text := s.caddyfile
	if text == "" {
		if !strings.Contains(s.options, "store ") {
			s.options += "\nstore file DIR/sessions.db"
		}
		if s.routes == "" {
			s.routes = "reverse_proxy UPSTREAM"
		}
		text = fmt.Sprintf(`{
	admin unix//DIR/admin.sock
	%s
	miniprogram {
		program wechat %s {
			secret %s
			api PLATFORM
		}
		program wechat %s {
			secret %s
			api PLATFORM
		}
		%s
	}
}
http://ADDRESS {
	miniprogram {
		%s
	}
	%s
}`, s.global, programA, secretA, programB, secretB, s.options, s.directive, s.routes)
	}
	api := s.api
	if api == "" {
		api = g.platURL
	}
	_, port, _ := net.SplitHostPort(g.address)
	return strings.NewReplacer("DIR", g.dir, "ADDRESS", g.address, "PORT", port, "UPSTREAM", g.upstream.address, "PLATFORM", api).Replace(text)
}

// run starts the process and waits until it serves.
func (g *gateway) run() {
	g.t.Helper()
	g.launch()
	if err := g.waitReady(); err != nil {
		g.t.Fatalf("%v\n%s", err, g.log)
	}
}

// launch starts the process.
func (g *gateway) launch() {
	g.t.Helper()
	config := filepath.Join(g.dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(g.caddyfile(g.setup)), 0o600); err != nil {
		g.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		g.t.Fatal(err)
	}
	g.process = exec.Command(self, "run", "--config", config, "--adapter", "caddyfile")
	g.process.Env = append(os.Environ(),
		runAsGateway+"=1",
		"HOME="+g.dir, "XDG_DATA_HOME="+g.dir+"/data", "XDG_CONFIG_HOME="+g.dir+"/config",
		"GORACE=halt_on_error=1", "NO_PROXY=*",
	)
	if g.socket != nil {
		g.process.ExtraFiles = []*os.File{g.socket}
	}
	g.process.Stdout, g.process.Stderr = g.log, g.log
	g.launched = len(g.log.String())
	if err := g.process.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.exited = make(chan error, 1)
	go func(p *exec.Cmd, exited chan<- error) { exited <- p.Wait() }(g.process, g.exited)
	g.t.Cleanup(g.stop)
}

// waitReady returns when the site accepts connections, or says why it does not.
func (g *gateway) waitReady() error {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		select {
		case err := <-g.exited:
			g.process = nil
			return fmt.Errorf("the gateway ended: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
		if !strings.Contains(g.log.String()[g.launched:], "serving initial configuration") {
			continue
		}
		if conn, err := net.Dial("tcp", g.address); err == nil {
			conn.Close()
			return nil
		}
	}
	return errors.New("the gateway does not begin to serve")
}

// stop ends the process in good order and fails the test if that, or anything
// before, went wrong inside it.
func (g *gateway) stop() {
	if g.process == nil {
		return
	}
	_ = g.process.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-g.exited:
		if err != nil {
			g.t.Errorf("the gateway ended: %v\n%s", err, g.log)
		}
	case <-time.After(patience):
		_ = g.process.Process.Kill()
		g.t.Errorf("the gateway does not stop\n%s", g.log)
	}
	g.process = nil
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(g.log.String(), bad) {
			g.t.Errorf("the gateway failed inside\n%s", g.log)
			return
		}
	}
}

// kill ends the process at once, as a loss of power would.
func (g *gateway) kill() {
	_ = g.process.Process.Kill()
	<-g.exited
	g.process = nil
}

// reload loads another configuration and returns what the admin endpoint says.
func (g *gateway) reload(s setup) error {
	_, err := g.admin(http.MethodPost, "/load", "text/caddyfile", g.caddyfile(s))
	return err
}

// admin calls the admin endpoint.
func (g *gateway) admin(method, path, contentType, body string) (string, error) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", g.dir+"/admin.sock")
		},
	}}
	request, err := http.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("Cache-Control", "must-revalidate") // also if nothing changed
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", response.Status, data)
	}
	return string(data), nil
}

// logBuffer collects what a process writes. It is safe for concurrent use.
type logBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// eventually waits until condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("in vain waited for: %s", what)
}
