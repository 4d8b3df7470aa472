// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package redisserver starts real Redis servers to try things with: one, several
// that Sentinel watches over, or a cluster. They listen on loopback only.
package redisserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// patience is how long a server may take for what it should do soon.
const patience = 60 * time.Second

// Programs are what has to be installed.
var Programs = []string{"redis-server", "redis-sentinel", "redis-cli"}

// Server is a process of redis-server, or of redis-sentinel. It must not be used
// concurrently, but for Do.
type Server struct {
	// Address is where it listens.
	Address string
	// Public is where others reach it: Address, or what Front returned.
	Public string
	// Dir has its files, its log among them.
	Dir string

	program string
	args    []string
	process *exec.Cmd
	exited  chan struct{}
}

// Front returns the address by which others reach the server at address: that of
// a proxy, for example.
type Front func(address string) (public string, err error)

// prepare returns a server that is not started yet, with a folder of its own in
// dir and a port that nobody listens on.
func prepare(dir, program string, front Front) (*Server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s := &Server{Address: address, Public: address, Dir: filepath.Join(dir, "redis-"+portOf(address)), program: program}
	if front != nil {
		if s.Public, err = front(address); err != nil {
			return nil, err
		}
	}
	return s, os.MkdirAll(s.Dir, 0o700)
}

// Start starts one server in dir, with options as on the command line of
// redis-server. It keeps nothing on disk unless an option says so.
func Start(dir string, front Front, options ...string) (*Server, error) {
	s, err := prepare(dir, "redis-server", front)
	if err != nil {
		return nil, err
	}
	s.args = append([]string{
		"--bind", "127.0.0.1", "--port", portOf(s.Address), "--dir", s.Dir, "--save", "", "--logfile", "log", "--daemonize", "no",
	}, options...)
	return s, s.Start()
}

// Start starts the process, also again after it has ended, and returns when it
// takes commands.
func (s *Server) Start() error {
	s.process = exec.Command(s.program, s.args...)
	s.process.Dir = s.Dir
	s.process.SysProcAttr = attributes()
	if err := s.process.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", s.program, err)
	}
	exited := make(chan struct{})
	s.exited = exited
	go func(process *exec.Cmd) {
		_ = process.Wait()
		close(exited)
	}(s.process)
	return s.Eventually("it takes commands", func() bool {
		out, err := s.Do("ping")
		return err == nil && (out == "PONG" || strings.HasPrefix(out, "NOAUTH"))
	})
}

// Kill ends the process as a crash does, also one that is paused. It may be
// called more than once.
func (s *Server) Kill() {
	if s != nil && s.process != nil {
		_ = s.process.Process.Kill()
		<-s.exited
	}
}

// Pause has the process hang until Resume.
func (s *Server) Pause() error { return s.process.Process.Signal(syscall.SIGSTOP) }

// Resume ends Pause.
func (s *Server) Resume() error { return s.process.Process.Signal(syscall.SIGCONT) }

// Do does a command by redis-cli, past any Front, and returns what the server
// answers. An answer that is an error is not an error of Do.
func (s *Server) Do(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "redis-cli", append([]string{"-h", "127.0.0.1", "-p", portOf(s.Address)}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("redis-cli %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// Must is Do for a command whose answer must begin with want.
func (s *Server) Must(want string, args ...string) error {
	out, err := s.Do(args...)
	if err == nil && !strings.HasPrefix(out, want) {
		err = fmt.Errorf("%s answers %q to %s", s.Address, out, strings.Join(args, " "))
	}
	return err
}

// Eventually returns when condition holds, or an error with the end of the
// server's log if it does not come to that.
func (s *Server) Eventually(what string, condition func() bool) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if condition() {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("%s at %s ended: %s\n%s", s.program, s.Address, s.process.ProcessState, s.logEnd())
		default:
		}
	}
	return fmt.Errorf("%s at %s: waited in vain until %s\n%s", s.program, s.Address, what, s.logEnd())
}

// logEnd returns the end of the server's log.
func (s *Server) logEnd() string {
	data, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
	return string(data[max(0, len(data)-2000):])
}

// IsPrimary reports whether the server answers and says that it is a primary.
func (s *Server) IsPrimary() bool {
	out, err := s.Do("role")
	return err == nil && strings.HasPrefix(out, "master")
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// freeAddress returns a loopback address that nobody listens on. Its port, and
// the one 10,000 above, which a cluster uses, are not among those that the system
// gives to connections, or one of them could be taken before the server has it.
func freeAddress() (string, error) {
	const lowest, count, bus = 10_000, 10_000, 10_000
	for range 1000 {
		port := lowest + rand.IntN(count)
		if isFree(port) && isFree(port+bus) {
			return fmt.Sprintf("127.0.0.1:%d", port), nil
		}
	}
	return "", errors.New("there is no free port")
}

func isFree(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
