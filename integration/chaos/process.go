// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// patience is how long something may take that should come soon. Whoever runs this
// may share the machine.
const patience = 90 * time.Second

// build compiles the gateway with the race detector.
func build(ctx context.Context, dir string) (string, error) {
	progress("building the gateway with the race detector")
	where := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/minigate/minigate")
	root, err := where.Output()
	if err != nil {
		return "", fmt.Errorf("run this inside the repository of github.com/minigate/minigate: %w", err)
	}
	binary := filepath.Join(dir, "minigate")
	cmd := exec.CommandContext(ctx, "go", "build", "-race", "-o", binary, "./cmd/minigate")
	cmd.Dir = strings.TrimSpace(string(root))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the gateway: %w\n%s", err, out)
	}
	return binary, nil
}

// gateway is one of those that share the store. Only the main goroutine starts and
// ends it.
type gateway struct {
	name    string
	binary  string
	dir     string
	address string

	process *exec.Cmd
	exited  chan struct{}
	log     *os.File
	owners  *owners
}

func newGateway(name, binary, dir string, owners *owners) (*gateway, error) {
	g := &gateway{name: name, binary: binary, dir: filepath.Join(dir, name), owners: owners}
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g.address = l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	g.log, err = os.OpenFile(filepath.Join(g.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return g, err
}

// start starts the process with a configuration, and returns when it serves.
func (g *gateway) start(ctx context.Context, config string) error {
	path := filepath.Join(g.dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	g.process = exec.Command(g.binary, "run", "--config", path, "--adapter", "caddyfile")
	g.process.Dir = g.dir
	g.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	g.process.Env = append(os.Environ(),
		"HOME="+g.dir, "XDG_DATA_HOME="+g.dir+"/data", "XDG_CONFIG_HOME="+g.dir+"/config",
		"GORACE=halt_on_error=1", "NO_PROXY=*",
	)
	g.process.Stdout, g.process.Stderr = g.log, g.log
	if err := g.process.Start(); err != nil {
		return err
	}
	g.owners.set(g.name, g.process.Process.Pid)
	exited := make(chan struct{})
	g.exited = exited
	go func(p *exec.Cmd) {
		_ = p.Wait()
		close(exited)
	}(g.process)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if conn, err := net.DialTimeout("tcp", g.address, time.Second); err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-g.exited:
			return fmt.Errorf("%s ended: %s; see %s", g.name, g.process.ProcessState, g.log.Name())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not begin to serve; see %s", g.name, g.log.Name())
}

// kill ends the process as a loss of power does.
func (g *gateway) kill() {
	if g.process != nil {
		_ = g.process.Process.Kill()
		<-g.exited
	}
}

// stop ends the process in good order.
func (g *gateway) stop() error {
	if g.process == nil {
		return nil
	}
	_ = g.process.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.exited:
		if !g.process.ProcessState.Success() {
			return fmt.Errorf("%s ended: %s; see %s", g.name, g.process.ProcessState, g.log.Name())
		}
		return nil
	case <-time.After(patience):
		g.kill()
		return fmt.Errorf("%s does not stop; see %s", g.name, g.log.Name())
	}
}

// reload loads another configuration.
func (g *gateway) reload(ctx context.Context, config string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(g.dir, "admin.sock"))
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/load", strings.NewReader(config))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "text/caddyfile")
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("reloading %s: %w", g.name, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("reloading %s: %s", g.name, response.Status)
	}
	return nil
}

// failedInside returns an error if the log says that the process failed in a way
// that is never right.
func (g *gateway) failedInside() error {
	data, err := os.ReadFile(g.log.Name())
	if err != nil {
		return err
	}
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(string(data), bad) {
			return errors.New(g.name + ": " + bad + " see " + g.log.Name())
		}
	}
	return nil
}

// pause has the process hang until resume.
func (g *gateway) pause() error { return g.process.Process.Signal(syscall.SIGSTOP) }

// resume ends pause.
func (g *gateway) resume() error { return g.process.Process.Signal(syscall.SIGCONT) }
