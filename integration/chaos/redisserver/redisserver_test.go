// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redisserver

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// installed is as in the package integration.
func installed(t *testing.T) bool {
	t.Helper()
	for _, program := range Programs {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not installed", program)
			}
			t.Logf("LEFT OUT: %s: %s is not installed", t.Name(), program)
			return false
		}
	}
	return true
}

// What runs of hours rely on: after a server died, another one takes over, and
// the dead one comes back into its place.
func TestDeployments(t *testing.T) {
	t.Parallel()
	if !installed(t) {
		return
	}
	for name, test := range map[string]struct {
		start     func(dir string, front Front, options ...string) (*Deployment, error)
		primaries int
	}{
		"single":   {StartSingle, 1},
		"sentinel": {StartSentinel, 1},
		"cluster":  {StartCluster, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			d, err := test.start(t.TempDir(), nil, Durable()...)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Kill()
			t.Logf("started in %v", time.Since(begun))
			primaries := d.Primaries()
			if d.Kind != name || len(primaries) != test.primaries {
				t.Fatalf("%s with %d primaries", d.Kind, len(primaries))
			}
			begun = time.Now()
			lost := primaries[0]
			lost.Kill()
			if name != "single" {
				if err := d.WaitForFailover(lost, test.primaries); err != nil {
					t.Fatal(err)
				}
				t.Logf("another one in %v", time.Since(begun))
			}
			begun = time.Now()
			if err := lost.Start(); err != nil {
				t.Fatal(err)
			}
			if err := d.Settle(); err != nil {
				t.Fatal(err)
			}
			t.Logf("whole again in %v", time.Since(begun))
		})
	}
}
