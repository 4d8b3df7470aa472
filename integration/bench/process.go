// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a process may take to begin or to end.
const patience = 20 * time.Second

// tick is the unit of the times in /proc, USER_HZ, which is the same on every
// architecture that Go knows.
const tick = time.Second / 100

// command is exec.CommandContext for a program that must not outlive this one,
// and that a Ctrl-C at the terminal reaches through the context alone.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = attributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = patience
	return cmd
}

// attributes puts a process into a group of its own, and has it killed if this
// process dies without stopping it. main holds on to its thread for that.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// process is a running proxy.
type process struct {
	cmd    *exec.Cmd
	log    *tail
	socket string // of Caddy's admin endpoint
	exited chan struct{}
}

// startProcess starts a Caddy and waits until it serves on address. Everything
// it writes goes into dir. Its environment is what env says and nothing else,
// so that no GOGC or GODEBUG of the caller's reaches it.
func startProcess(ctx context.Context, binary, dir, caddyfile, address string, env ...string) (*process, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(caddyfile), 0o600); err != nil {
		return nil, err
	}
	p := &process{log: new(tail), socket: adminSocket(dir), exited: make(chan struct{})}
	p.cmd = exec.Command(binary, "run", "--config", config, "--adapter", "caddyfile")
	p.cmd.Dir = dir
	p.cmd.SysProcAttr = attributes()
	p.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir,
		"XDG_DATA_HOME=" + dir + "/data", "XDG_CONFIG_HOME=" + dir + "/config",
		"NO_PROXY=*",
	}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	if err := p.waitReady(ctx, address); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// adminSocket returns the path of the admin endpoint of the Caddy in dir.
func adminSocket(dir string) string { return filepath.Join(dir, "admin.sock") }

// waitReady returns when the process accepts connections, or says why it does
// not.
func (p *process) waitReady(ctx context.Context, address string) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.exited:
			return fmt.Errorf("the process ended: %s\n%s", p.cmd.ProcessState, p.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("the process does not begin to serve\n%s", p.log)
}

// stop ends the process.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// cpu returns the processor time that the process has used.
func (p *process) cpu() (time.Duration, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("the process has ended: %w\n%s", err, p.log)
	}
	return parseProcessCPU(string(data))
}

// parseProcessCPU returns user and system time from /proc/<pid>/stat.
func parseProcessCPU(stat string) (time.Duration, error) {
	// The second field, the program's name, may hold anything.
	end := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[end+1:])
	const user, system = 14 - 3, 15 - 3 // of fields that begin with the third
	if end < 0 || len(fields) <= system {
		return 0, errors.New("/proc/<pid>/stat has too few fields")
	}
	return sumTicks(fields[user], fields[system])
}

// machineCPU returns the processor time that the machine has used since its
// start, for whatever purpose, and the time that its host gave to others.
func machineCPU() (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseMachineCPU(string(data))
}

// parseMachineCPU returns what is neither idle nor waiting from /proc/stat.
func parseMachineCPU(stat string) (time.Duration, error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, errors.New("/proc/stat does not begin with the processors' total")
	}
	// user nice system, then idle and iowait, then irq softirq steal
	return sumTicks(append(fields[1:4:4], fields[6:9]...)...)
}

// sumTicks adds up times as /proc states them.
func sumTicks(fields ...string) (time.Duration, error) {
	var sum time.Duration
	for _, field := range fields {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("processor time: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// ownCPU returns the processor time that this process, the upstream, has used.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// tail keeps the end of what is written to it, to be shown if things go wrong.
type tail struct {
	mu   sync.Mutex
	data []byte
}

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if surplus := len(t.data) - tailSize; surplus > 0 {
		t.data = append(t.data[:0], t.data[surplus:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.data))
}
