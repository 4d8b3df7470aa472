// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
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
