// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/minigate/minigate/module/store"
)

// patience is how long a test waits for what must happen soon.
const patience = 30 * time.Second

// installed reports whether the programs that a test needs are there. Where one
// is missing, the test is left out with a line in its log; in CI, where nobody
// reads that, it fails.
func installed(t testing.TB, programs ...string) bool {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s cannot be left out in CI: %s is not installed", t.Name(), program)
			}
			t.Logf("LEFT OUT: %s: %s is not installed", t.Name(), program)
			return false
		}
	}
	return true
}

// server is a process of redis-server, or of redis-sentinel.
type server struct {
	t       testing.TB
	program string
	dir     string
	address string
	options []string
	process *exec.Cmd
	tls     string // a folder with ca.crt, if it speaks TLS
}

// startServer starts redis-server with these options on a free port.
func startServer(t testing.TB, options ...string) *server {
	t.Helper()
	s := &server{t: t, program: "redis-server", dir: t.TempDir(), address: freeAddress(t), options: options}
	s.start()
	return s
}

// start starts the process; also again, after it was killed.
func (s *server) start() {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.address)
	args := s.options
	if s.program == "redis-server" {
		args = append([]string{"--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--daemonize", "no", "--logfile", "log"}, s.options...)
		if s.tls == "" {
			args = append(args, "--port", port)
		} else {
			args = append(args, "--port", "0", "--tls-port", port)
		}
	}
	s.process = exec.Command(s.program, args...)
	s.process.Dir = s.dir
	s.process.SysProcAttr = dieWithParent()
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	process := s.process
	s.t.Cleanup(func() { end(process) })
	eventually(s.t, s.program+" listens", func() bool {
		conn, err := net.DialTimeout("tcp", s.address, time.Second)
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
}

// kill ends the process as a crash does.
func (s *server) kill() { end(s.process) }

func end(process *exec.Cmd) {
	_ = process.Process.Signal(syscall.SIGKILL)
	_ = process.Wait()
}

// signal sends a signal to the process.
func (s *server) signal(signal os.Signal) {
	s.t.Helper()
	if err := s.process.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

// cli does a command as the user default, without a password.
func (s *server) cli(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return out
}

func (s *server) try(args ...string) (string, error) {
	host, port, _ := net.SplitHostPort(s.address)
	out, err := exec.Command("redis-cli", append([]string{"-h", host, "-p", port}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// eventually waits until condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// within returns what arrives, or fails the test when nothing does.
func within[T any](t testing.TB, what string, arrives <-chan T) T {
	t.Helper()
	select {
	case value := <-arrives:
		return value
	case <-time.After(patience):
		t.Fatalf("waited in vain: %s", what)
		panic("unreachable")
	}
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// provisioned returns o as the app makes it.
func provisioned(t testing.TB, o Opener) *Opener {
	t.Helper()
	if err := o.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	return &o
}

// openStore opens a store, and closes it at the end of the test.
func openStore(t testing.TB, o Opener) store.Store {
	t.Helper()
	s, err := provisioned(t, o).Open(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t testing.TB, s store.Store, key, value string) {
	t.Helper()
	if err := s.Put(bounded(t), key, []byte(value), 0); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
}

func wantValue(t testing.TB, s store.Store, key, want string) {
	t.Helper()
	if got, err := s.Get(bounded(t), key); err != nil || string(got) != want {
		t.Fatalf("Get(%q) = %q, error %v, want %q", key, got, err, want)
	}
}

// startCluster starts three primaries that share the slots, each with so many
// replicas.
func startCluster(t testing.TB, replicas int) []*server {
	t.Helper()
	var nodes []*server
	for range 3 * (1 + replicas) {
		_, busPort, _ := net.SplitHostPort(freeAddress(t))
		nodes = append(nodes, startServer(t, "--cluster-enabled", "yes", "--cluster-port", busPort,
			"--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"))
	}
	ids := make([]string, len(nodes))
	for i, node := range nodes {
		ids[i] = node.cli("cluster", "myid")
		if i < 3 {
			node.cli("cluster", "addslotsrange", fmt.Sprint(i*slots/3), fmt.Sprint((i+1)*slots/3-1))
		}
		if i > 0 {
			host, port, _ := net.SplitHostPort(nodes[0].address)
			_, bus, _ := strings.Cut(strings.Join(nodes[0].options, " "), "--cluster-port ")
			bus, _, _ = strings.Cut(bus, " ")
			node.cli("cluster", "meet", host, port, bus)
		}
	}
	eventually(t, "the nodes know each other", func() bool {
		for _, node := range nodes {
			if !strings.Contains(node.cli("cluster", "info"), fmt.Sprintf("cluster_known_nodes:%d", len(nodes))) {
				return false
			}
		}
		return true
	})
	for i := 3; i < len(nodes); i++ {
		eventually(t, "a replica has its primary", func() bool {
			out, _ := nodes[i].try("cluster", "replicate", ids[i%3])
			return out == "OK"
		})
	}
	eventually(t, "the cluster works", func() bool {
		for i, node := range nodes {
			if !strings.Contains(node.cli("cluster", "info"), "cluster_state:ok") {
				return false
			}
			if i >= 3 && !strings.Contains(node.cli("info", "replication"), "master_link_status:up") {
				return false
			}
		}
		return true
	})
	return nodes
}

func addresses(servers []*server) []string {
	all := make([]string, len(servers))
	for i, s := range servers {
		all[i] = s.address
	}
	return all
}

// startSentinel starts a sentinel that watches over primary.
func startSentinel(t testing.TB, primary *server) *server {
	t.Helper()
	s := &server{t: t, program: "redis-sentinel", dir: t.TempDir(), address: freeAddress(t)}
	_, port, _ := net.SplitHostPort(s.address)
	config := filepath.Join(s.dir, "sentinel.conf")
	host, primaryPort, _ := net.SplitHostPort(primary.address)
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nlogfile log\nsentinel monitor primary %s %s 1\n"+
		"sentinel down-after-milliseconds primary 300\nsentinel failover-timeout primary 2000\n", port, s.dir, host, primaryPort)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.options = []string{config}
	s.start()
	return s
}
