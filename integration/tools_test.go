// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// installed reports whether the programs that a test needs are there. Where one
// is missing, the test is left out with a line in its log; in CI, where nobody
// reads that, it fails.
func installed(t *testing.T, programs ...string) bool {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			leaveOut(t, program+" is not installed")
			return false
		}
	}
	return true
}

// leaveOut says that the test cannot be run here, and why.
func leaveOut(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s cannot be left out in CI: %s", t.Name(), why)
	}
	t.Logf("LEFT OUT: %s: %s", t.Name(), why)
}

// copyFiles copies files of a folder.
func copyFiles(t *testing.T, to, from string, names ...string) {
	t.Helper()
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// installPackages copies files of a folder, package.json and package-lock.json
// among them, to a folder of the test's own and installs there the packages from
// npm that they name. ok is false where that is left out.
func installPackages(t *testing.T, from string, names ...string) (folder string, ok bool) {
	t.Helper()
	folder = t.TempDir()
	copyFiles(t, folder, from, names...)
	npm := exec.Command("npm", "ci", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts")
	npm.Dir = folder
	output, err := npm.CombinedOutput()
	if err == nil {
		return folder, true
	}
	for _, code := range []string{"ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH"} {
		if strings.Contains(string(output), "npm error code "+code) {
			leaveOut(t, "no package registry can be reached: "+code)
			return "", false
		}
	}
	t.Fatalf("npm ci: %v\n%s", err, output)
	return "", false
}

// aliasModes are lines of the global options for a test of headers that spell
// the name of another one with underscores or dots: with and without what Caddy
// itself does against those, which an operator can switch off by name.
var aliasModes = map[string]string{
	"filtered by Caddy":  "",
	"let in by operator": "servers {\nexpected_underscore_headers X_* X-User_* X-Remote_*\nexpected_dot_headers X.* X-User.* X-Remote.*\n}",
}

// startServer starts a program that serves on a port of its own choice and says
// so in its output, and returns the part of the output that the first group of
// announcement matches. The program is stopped when the test ends.
func startServer(t *testing.T, announcement string, command *exec.Cmd) string {
	t.Helper()
	output := new(logBuffer)
	command.Stdout, command.Stderr = output, output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- command.Wait() }()
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(patience):
			_ = command.Process.Kill()
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", command.Path, output)
		}
	})
	pattern := regexp.MustCompile(announcement)
	var found []string
	eventually(t, "the start of "+command.Path, func() bool {
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("%s ended: %v\n%s", command.Path, err, output)
		default:
		}
		found = pattern.FindStringSubmatch(output.String())
		return found != nil
	})
	return found[1]
}
