// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"
	"time"
)

// One node has become too few. The store is copied to Redis while people sign in
// and out, then the configuration with Redis is loaded while they do: nobody is
// signed out who was told that he is signed in, nobody is signed in who signed out.
func TestMigrateUnderLoad(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	onFile := setup{options: "store file DIR/sessions.db\nseal_key " + sealKey('a')}
	onRedis := setup{options: inRedis(startRedis(t))}
	there := func(t *testing.T, from, to setup, flags ...string) {
		g := start(t, from)
		c, began := gather(g), time.Now()
		c.progress(200)
		m := g.migrated(append(flags, g.configFile("old", from), g.configFile("new", to))...)
		t.Logf("%+v", m)
		if m.State != "following" || m.Counts.Verified == 0 {
			t.Errorf("it says %+v", m)
		}
		c.progress(200)
		if now := g.migrationState(); now.State != "following" || now.Counts.Followed == 0 {
			t.Errorf("while it follows: %+v", now)
		}
		if err := g.reload(to); err != nil {
			t.Fatal(err)
		}
		c.progress(200)
		c.stop()
		took := time.Since(began)
		lost, undead := c.count(t, g)
		// What counts is what the new store has, not what the gateway remembers.
		g.stop()
		g.setup = to
		g.run()
		lostThen, undeadThen := c.count(t, g)
		c.report(t, lost+lostThen, undead+undeadThen, took)
		if g.migrationState().State != "none" {
			t.Errorf("after a restart: %+v", g.migrationState())
		}
	}
	t.Run("there", func(t *testing.T) { there(t, onFile, onRedis) })
	// And back, on one node: what is in Redis is copied to a file.
	t.Run("back", func(t *testing.T) { there(t, onRedis, onFile, "--live") })
}
