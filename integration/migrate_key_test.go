// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A gateway that was never given a seal key made one, without which the copy is
// worthless. docs/migration.md says where it is.
func TestMigrateWithTheGatewaysOwnKey(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	onFile := setup{options: "store file DIR/sessions.db"}
	g := start(t, onFile)
	token := g.login(programA, "alice")
	g.put(`{"nickname":"Al"}`, token).profile(t)
	redis := startRedis(t)
	wrong := setup{options: "store redis " + redis + "\nseal_key " + sealKey('a')}
	right := setup{options: "store redis " + redis + "\nseal_key {file.DIR/data/caddy/miniprogram/seal.key}"}
	if m, progress, code := g.migrate(g.configFile("old", onFile), g.configFile("wrong", wrong)); code != 1 || !strings.Contains(m.Error, "seal_key") {
		t.Errorf("exit code %d, %+v\n%s", code, m, progress)
	}
	g.migrated(g.configFile("old", onFile), g.configFile("new", right))
	g.refusesToLoad(wrong, "seal_key")
	eventually(t, "it is as before", func() bool { return g.migrationState().State == "following" })
	if err := g.reload(right); err != nil {
		t.Fatal(err)
	}
	g.served(token, "alice")
	if p := g.profile(token); p.Stated["nickname"] != "Al" {
		t.Errorf("the profile is %+v", p)
	}
	// The key that is copied to other machines is this very file.
	if data, err := os.ReadFile(g.dir + "/data/caddy/miniprogram/seal.key"); err != nil || len(strings.TrimSpace(string(data))) != 44 {
		t.Errorf("the key file: %d bytes, %v", len(data), err)
	}
}

// Run again when nothing has changed, it writes nothing, also while a gateway uses
// the source.
func TestMigrateAgain(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	onFile, onRedis := setup{options: "store file DIR/sessions.db\nseal_key " + sealKey('a')}, setup{options: inRedis(startRedis(t))}
	g := start(t, onFile)
	for _, user := range []string{"alice", "bob", "carol"} {
		g.login(programA, user)
	}
	old, next := g.configFile("old", onFile), g.configFile("new", onRedis)
	first := g.migrated(old, next)
	again := g.migrated(old, next)
	g.stop()
	alone := g.migrated(old, next)
	if n := first.Counts.Read; n < 3 || first.Counts.Written != n {
		t.Errorf("first %+v", first)
	}
	for _, m := range []migration{again, alone} {
		if c, n := m.Counts, first.Counts.Read; c.Read != n || c.Unchanged != n || c.Verified != n || c.Written+c.Removed+c.Late != 0 {
			t.Errorf("again %+v", m)
		}
	}
	// What the person at the terminal reads.
	out, err := g.migrateCommand(old, next).Output()
	if err != nil || !strings.Contains(string(out), "records are copied from file to redis and verified: 0 written") {
		t.Errorf("it prints %q, %v", out, err)
	}
}

// Several gateways move from one Redis to another: what they write is followed
// until they are stopped, and the new ones begin where they ended.
func TestMigrateFollow(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	from, to := setup{options: inRedis(startRedis(t))}, setup{options: inRedis(startRedis(t))}
	a, b := startTwo(t, from, from)
	alice, leaving := a.login(programA, "alice"), b.login(programA, "alice")
	old, next := a.configFile("old", from), a.configFile("new", to)
	if a.ask(http.MethodPost, "/miniprogram/store/migrate", `{"to":{"store":"redis","addresses":["127.0.0.1:1"]}}`).status != http.StatusConflict {
		t.Error("one of several gateways follows what it writes itself, and not what the others write")
	}
	m, progress, code := a.migrate(old, next)
	if code != 0 || !strings.Contains(progress, "--follow") {
		t.Errorf("without --follow: exit code %d, %+v\n%s", code, m, progress)
	}
	command := a.migrateCommand(old, next, "--follow", "--json")
	said, out := new(logBuffer), new(bytes.Buffer)
	command.Stdout, command.Stderr = out, said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it follows", func() bool { return strings.Contains(said.String(), "copied and verified; following") })
	bob := b.login(programA, "bob")
	b.post("/miniprogram/logout", "", bearer(leaving)).expectStatus(t, http.StatusNoContent)
	carol := a.login(programA, "carol")
	a.stop()
	b.stop()
	time.Sleep(time.Second) // what was written last arrives
	c := prepare(t, to)
	c.platform, c.platURL = a.platform, a.platURL
	c.run()
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	select {
	case err := <-ended:
		if err != nil || !strings.Contains(said.String(), "a gateway uses the destination now") {
			t.Errorf("%v\n%s", err, said)
		}
	case <-time.After(patience):
		_ = command.Process.Kill()
		t.Errorf("it goes on although a gateway uses the destination\n%s", said)
	}
	for token, user := range map[string]string{alice: "alice", bob: "bob", carol: "carol"} {
		c.served(token, user)
	}
	c.get("/", bearer(leaving)).expect(t, http.StatusUnauthorized, "session_revoked")
	c.stop()

	// It ends by Ctrl-C, too.
	eventually(t, "nobody uses the destination", func() bool {
		_, _, code := a.migrate(old, next)
		return code == 0
	})
	command, said = a.migrateCommand(old, next, "--follow"), new(logBuffer)
	command.Stderr = said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it follows", func() bool { return strings.Contains(said.String(), "following until") })
	_ = command.Process.Signal(syscall.SIGINT)
	if err := command.Wait(); err != nil {
		t.Errorf("interrupted: %v\n%s", err, said)
	}
}

// Somebody starts a second gateway on the Redis that is being left. What it writes
// is not followed: the copy must not pass for one.
func TestMigrateWhenAnotherGatewayJoinsTheSource(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	from, to := setup{options: inRedis(startRedis(t))}, setup{options: "store file DIR/sessions.db\nseal_key " + sealKey('a')}
	g := start(t, from)
	alice := g.login(programA, "alice")
	g.migrated("--live", g.configFile("old", from), g.configFile("new", to))
	second := start(t, from)
	eventually(t, "it is broken", func() bool { return g.migrationState().State == "broken" })
	if m := g.migrationState(); !strings.Contains(m.Error, "other gateways") {
		t.Errorf("the gateway says %+v", m)
	}
	g.refusesToLoad(to, "migration", "broken")
	second.stop()
	g.migrated("--live", g.configFile("old", from), g.configFile("new", to))
	if err := g.reload(to); err != nil {
		t.Fatal(err)
	}
	g.served(alice, "alice")
}

// Instead of a reload, the machine is restarted, or loses its power: what was
// acknowledged is in the new store. The sessions of a gateway that keeps them in
// memory come along, too.
func TestMigrateAndRestart(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	for name, kind := range map[string]string{"file": "file DIR/sessions.db", "memory": "memory"} {
		t.Run(name, func(t *testing.T) {
			from, to := setup{options: "store " + kind + "\nseal_key " + sealKey('a')}, setup{options: inRedis(startRedis(t))}
			g := start(t, from)
			alice, leaving := g.login(programA, "alice"), g.login(programA, "alice")
			m := g.migrated("--live", g.configFile("old", from), g.configFile("new", to))
			if m.From != name || m.State != "following" {
				t.Errorf("%+v", m)
			}
			bob := g.login(programA, "bob")
			g.post("/miniprogram/logout", "", bearer(leaving)).expectStatus(t, http.StatusNoContent)
			g.kill()
			g.setup = to
			g.run()
			g.served(alice, "alice")
			g.served(bob, "bob")
			g.get("/", bearer(leaving)).expect(t, http.StatusUnauthorized, "session_revoked")
		})
	}
}
