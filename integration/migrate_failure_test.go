// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/minigate/minigate/integration/chaos/redisserver"
	"github.com/minigate/minigate/integration/chaos/toxic"
	"github.com/minigate/minigate/plugin/stores/file"
)

// manyRecords is how many records the tests copy that need a copy to take a while.
const manyRecords = 20_000

// fillFile puts many records into the file at path, which no gateway has open.
func fillFile(t *testing.T, path string) {
	t.Helper()
	o := &file.Opener{Path: path}
	if err := o.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	s, err := o.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var wg sync.WaitGroup
	value := []byte(strings.Repeat("sealed ", 70))
	for worker := range 128 {
		wg.Go(func() {
			for i := worker; i < manyRecords; i += 128 {
				if err := s.Put(context.Background(), fmt.Sprint("padding/", i), value, 30*24*time.Hour); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// slow returns a slow network to a Redis, so that what happens halfway does.
func slow(t *testing.T, s *redisserver.Server) *toxic.Proxy {
	t.Helper()
	network := proxied(t, s.Address)
	network.Set(toxic.Condition{Latency: 20 * time.Millisecond})
	return network
}

// size returns how many keys a Redis has.
func size(t *testing.T, s *redisserver.Server) int {
	t.Helper()
	out, err := s.Do("dbsize")
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(out)
	if err != nil {
		t.Fatal(out)
	}
	return n
}

// How long it takes, without a gateway; and that a second time nothing is written.
func TestMigrateManyRecords(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	g, server := prepare(t, setup{}), redisServer(t)
	fillFile(t, g.dir+"/sessions.db")
	for _, c := range []struct {
		from, to                  string
		written, unchanged, ended int
	}{
		{"file:" + g.dir + "/sessions.db", "redis:" + server.Address, manyRecords, 0, 0},
		{"file:" + g.dir + "/sessions.db", "redis:" + server.Address, 0, manyRecords, 0},
		{"redis:" + server.Address, "file:" + g.dir + "/back.db", manyRecords, 0, 0},
		{"file:" + g.dir + "/back.db", "file:" + g.dir + "/sessions.db", 0, manyRecords, 0},
	} {
		m := g.migrated(c.from, c.to)
		if m.Counts.Read != manyRecords || m.Counts.Written != c.written || m.Counts.Unchanged != c.unchanged || m.Counts.Verified != manyRecords ||
			m.Counts.Removed+m.Counts.Late+m.Counts.Failed != 0 {
			t.Errorf("from %s to %s: %+v", m.From, m.To, m)
		}
		t.Logf("from %s to %s: %d written, %d unchanged, verified in %.2f s: %.0f records a second",
			m.From, m.To, m.Counts.Written, m.Counts.Unchanged, m.Seconds, manyRecords/m.Seconds)
	}
}

// The power fails halfway. The next run goes on from there.
func TestMigrateKilledHalfway(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Run("command", func(t *testing.T) {
		g, server := prepare(t, setup{}), redisServer(t)
		network := slow(t, server)
		fillFile(t, g.dir+"/sessions.db")
		from, to := "file:"+g.dir+"/sessions.db", "redis:"+network.Address()
		command := g.migrateCommand(from, to)
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "some of it is copied", func() bool { return size(t, server) > 1000 })
		_ = command.Process.Kill()
		_ = command.Wait()
		had := size(t, server)
		if had >= manyRecords {
			t.Errorf("it was done before it was killed")
		}
		network.Set(toxic.Condition{})
		m := g.migrated(from, to)
		if m.Counts.Verified != manyRecords || m.Counts.Unchanged < 1000 {
			t.Errorf("%+v", m)
		}
		t.Logf("killed at %d of %d records; then %d written in %.1f s", had, manyRecords, m.Counts.Written, m.Seconds)
	})
	t.Run("gateway", func(t *testing.T) {
		g, server := prepare(t, setup{options: "store file DIR/sessions.db\nseal_key " + sealKey('a')}), redisServer(t)
		network := slow(t, server)
		fillFile(t, g.dir+"/sessions.db")
		g.run()
		token := g.login(programA, "alice")
		onRedis := setup{options: inRedis(network.Address())}
		from, to := "file:"+g.dir+"/sessions.db", g.configFile("new", onRedis)
		asked := make(chan int, 1)
		go func() {
			_, _, code := g.migrate(from, to, "--address", "unix/"+g.dir+"/admin.sock")
			asked <- code
		}()
		eventually(t, "some of it is copied", func() bool { return size(t, server) > 1000 })
		g.kill()
		if code := <-asked; code == 0 {
			t.Error("the command says that it was done")
		}
		network.Set(toxic.Condition{})
		g.run()
		g.served(token, "alice")
		bob := g.login(programA, "bob")
		m := g.migrated(from, to, "--address", "unix/"+g.dir+"/admin.sock")
		if m.State != "following" || m.Counts.Verified < manyRecords || m.Counts.Unchanged < 900 {
			t.Errorf("%+v", m)
		}
		if err := g.reload(onRedis); err != nil {
			t.Fatal(err)
		}
		g.served(token, "alice")
		g.served(bob, "bob")
	})
}

// The new Redis dies while it is copied to, and later while it is followed. The
// gateway goes on with what it has, says so, and does not load a configuration that
// would sign people out.
func TestMigrateDestinationDies(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	g, server := prepare(t, setup{options: "store file DIR/sessions.db\nseal_key " + sealKey('a')}), redisServer(t, redisserver.Durable()...)
	network := slow(t, server)
	fillFile(t, g.dir+"/sessions.db")
	g.run()
	alice := g.login(programA, "alice")
	onRedis := setup{options: inRedis(network.Address())}
	run := func() (migration, string, int) {
		return g.migrate(g.configFile("old", g.setup), g.configFile("new", onRedis))
	}
	type outcome struct {
		m        migration
		progress string
		code     int
	}
	ended := make(chan outcome, 1)
	go func() {
		m, progress, code := run()
		ended <- outcome{m, progress, code}
	}()
	eventually(t, "some of it is copied", func() bool { return size(t, server) > 500 })
	server.Kill()
	if o := <-ended; o.code != 1 || !strings.Contains(o.m.Error, "destination") {
		t.Errorf("exit code %d, %+v\n%s", o.code, o.m, o.progress)
	}
	g.served(alice, "alice")
	bob := g.login(programA, "bob")
	if m := g.migrationState(); m.State != "broken" || m.Error == "" {
		t.Errorf("the gateway says %+v", m)
	}

	network.Set(toxic.Condition{})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	g.refusesToLoad(onRedis, "migration", "broken")
	if m, progress, code := run(); code != 0 || m.State != "following" {
		t.Fatalf("exit code %d, %+v\n%s", code, m, progress)
	}
	server.Kill()
	began := time.Now()
	carol := g.login(programA, "carol") // which waits until it is given up
	g.login(programA, "dave")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("signing in takes %v", took)
	}
	eventually(t, "it is broken", func() bool { return g.migrationState().State == "broken" })
	g.logs("migration is broken: not everything is at the destination; run it again")
	for token, user := range map[string]string{alice: "alice", bob: "bob", carol: "carol"} {
		g.served(token, user)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	g.refusesToLoad(onRedis, "migration", "broken")
	// Whoever knows better may stop it.
	g.ask(http.MethodDelete, "/miniprogram/store/migrate", "").expectStatus(t, http.StatusNoContent)
	if m := g.migrationState(); m.State != "none" {
		t.Errorf("stopped: %+v", m)
	}
	if m, progress, code := run(); code != 0 || m.Counts.Unchanged < manyRecords {
		t.Fatalf("exit code %d, %+v\n%s", code, m, progress)
	}
	if err := g.reload(onRedis); err != nil {
		t.Fatal(err)
	}
	for token, user := range map[string]string{alice: "alice", bob: "bob", carol: "carol"} {
		g.served(token, user)
	}
}

// The new configuration has one more mistake in it, which shows when the new store
// is in use already. What was written there is not lost.
func TestMigrateWhenTheReloadFails(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	onFile, onRedis := setup{options: "store file DIR/sessions.db\nseal_key " + sealKey('a')}, setup{options: inRedis(startRedis(t))}
	g := start(t, onFile)
	alice, leaving := g.login(programA, "alice"), g.login(programA, "bob")
	g.migrated(g.configFile("old", onFile), g.configFile("new", onRedis))
	// The address of the second site is not of this machine.
	broken := onRedis
	broken.routes = "reverse_proxy UPSTREAM\n}\nhttp://ADDRESS0 {\nbind 192.0.2.1\nrespond ok"
	for range 3 {
		if err := g.reload(broken); err == nil {
			t.Fatal("it is loaded")
		}
		during := g.login(programA, "carol")
		g.served(during, "carol")
		g.post("/miniprogram/logout", "", bearer(leaving))
		eventually(t, "it is as before", func() bool { return g.migrationState().State == "following" })
		g.served(alice, "alice")
		g.served(during, "carol")
		g.get("/", bearer(leaving)).expect(t, http.StatusUnauthorized, "session_revoked")
	}
	dave := g.login(programA, "dave")
	// The file has everything, and so has Redis.
	for _, s := range []setup{onFile, onRedis} {
		if err := g.reload(s); err != nil {
			t.Fatal(err)
		}
		g.served(alice, "alice")
		g.served(dave, "dave")
		g.get("/", bearer(leaving)).expect(t, http.StatusUnauthorized, "session_revoked")
	}
}

// A session that has an hour left has an hour left in Redis.
func TestMigrateKeepsExpiry(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	server := redisServer(t)
	const lifetime = "session {\nlifetime 1h\n}\n"
	g := start(t, setup{options: lifetime + "store file DIR/sessions.db\nseal_key " + sealKey('a')})
	g.login(programA, "alice")
	g.migrated(g.configFile("old", g.setup), g.configFile("new", setup{options: inRedis(server.Address)}))
	left := func() time.Duration {
		out, err := server.Do("--scan", "--pattern", "minigate:{user/*}")
		if err != nil || out == "" || strings.Contains(out, "\n") {
			t.Fatalf("users in Redis: %q, %v", out, err)
		}
		out, err = server.Do("pttl", out)
		ms, bad := strconv.Atoi(out)
		if err != nil || bad != nil {
			t.Fatal(out, err)
		}
		return time.Duration(ms) * time.Millisecond
	}
	if d := left(); d > time.Hour+2*time.Second || d < 59*time.Minute {
		t.Errorf("what is copied ends in %v", d)
	}
	g.login(programA, "alice")
	if d := left(); d > time.Hour+2*time.Second || d < 59*time.Minute {
		t.Errorf("what is followed ends in %v", d)
	}
}

// What operators get wrong, and what they are told. Nothing is made, nothing is
// changed by it.
func TestMigrateRefuses(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	secured, plain := redisServer(t, "--requirepass", "the-password"), redisServer(t)
	onFile := setup{options: "store file DIR/sessions.db\nseal_key " + sealKey('a')}
	g := start(t, onFile)
	user := start(t, setup{options: inRedis(plain.Address)})
	user.login(programA, "bob")
	token := g.login(programA, "alice")
	old := g.configFile("old", onFile)
	fillFile(t, g.dir+"/closed.db")
	locked := g.dir + "/locked.db"
	fillFile(t, locked)
	if err := os.Chmod(locked, 0); err != nil {
		t.Fatal(err)
	}
	configs := 0
	in := func(options string) string {
		configs++
		return g.configFile(fmt.Sprint("to-", configs), setup{options: options})
	}
	admin := []string{"--address", "unix/" + g.dir + "/admin.sock"}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"no source":               {[]string{"file:" + g.dir + "/mistyped.db", "redis:" + plain.Address}, []string{"source", "mistyped.db", "there is no"}},
		"wrong password":          {[]string{old, in(inRedis(secured.Address, "password wrong-password"))}, []string{"destination", "WRONGPASS"}},
		"wrong password, alone":   {[]string{"file:" + g.dir + "/closed.db", in(inRedis(secured.Address, "password wrong-password"))}, []string{"destination", "WRONGPASS"}},
		"no password":             {[]string{"file:" + g.dir + "/closed.db", "redis:" + secured.Address}, []string{"destination", "NOAUTH"}},
		"used by a gateway":       {[]string{old, in(inRedis(plain.Address))}, []string{"a gateway uses the destination"}},
		"used, alone":             {[]string{"file:" + g.dir + "/closed.db", "redis:" + plain.Address}, []string{"a gateway uses the destination"}},
		"open elsewhere":          {[]string{"file:" + g.dir + "/closed.db", "file:" + g.dir + "/sessions.db"}, []string{"destination", "another process has it open"}},
		"itself":                  {[]string{old, old}, []string{"same store"}},
		"itself, alone":           {[]string{"file:" + g.dir + "/closed.db", "file:" + g.dir + "/./closed.db"}, []string{"same store"}},
		"one Redis by two names":  {[]string{"redis:" + plain.Address, "redis:" + strings.Replace(plain.Address, "127.0.0.1", "localhost", 1)}, []string{"same store"}},
		"memory":                  {[]string{"memory:", "redis:" + plain.Address}, []string{"memory", "--live"}},
		"to memory":               {[]string{"file:" + g.dir + "/closed.db", "memory:"}, []string{"memory"}},
		"another gateway":         {[]string{"file:" + user.dir + "/x.db", "redis:" + secured.Address, "--live", "--address", "unix/" + g.dir + "/admin.sock"}, []string{"another store"}},
		"no gateway":              {append([]string{"file:" + g.dir + "/sessions.db", "redis:" + secured.Address}, "--address", "unix/"+g.dir+"/none.sock"), []string{"none.sock"}},
		"other seal key":          {[]string{old, in("store redis " + secured.Address + " {\npassword the-password\n}\nseal_key " + sealKey('b'))}, []string{"seal_key"}},
		"no seal key":             {[]string{old, in("store file DIR/other.db")}, []string{"seal_key"}},
		"follow a file":           {[]string{"file:" + g.dir + "/closed.db", "file:" + g.dir + "/other.db", "--follow"}, []string{"--follow"}},
		"no configuration":        {[]string{g.dir + "/none.Caddyfile", "redis:" + plain.Address}, []string{"none.Caddyfile"}},
		"nothing":                 {[]string{"file:", "redis:" + plain.Address}, []string{"where"}},
		"unset password":          {append([]string{"file:" + g.dir + "/sessions.db", in(inRedis(secured.Address, "password {env.MINIGATE_NOT_SET}"))}, admin...), []string{"password"}},
		"folder that is not ours": {append([]string{"file:" + g.dir + "/sessions.db", "file:/proc/none/x.db"}, admin...), []string{"/proc/none"}},
	} {
		t.Run(name, func(t *testing.T) {
			m, progress, code := g.migrate(c.args...)
			if code != 1 {
				t.Errorf("exit code %d, %+v", code, m)
			}
			for _, word := range c.want {
				if !strings.Contains(m.Error, word) {
					t.Errorf("it does not say %q: %q\n%s", word, m.Error, progress)
				}
			}
			if strings.Contains(m.Error+progress, "wrong-password") || strings.Contains(m.Error+progress, "the-password") {
				t.Errorf("it shows the password: %s\n%s", m.Error, progress)
			}
		})
	}
	for _, made := range []string{"mistyped.db", "other.db"} {
		if _, err := os.Stat(g.dir + "/" + made); !os.IsNotExist(err) {
			t.Errorf("%s was made: %v", made, err)
		}
	}
	if os.Getuid() != 0 { // whom nothing is denied
		if m, _, code := g.migrate("file:"+locked, "file:"+g.dir+"/other.db"); code != 1 || !strings.Contains(m.Error, "permission denied") {
			t.Errorf("exit code %d, %+v", code, m)
		}
	}
	g.served(token, "alice")
	for body, status := range map[string]int{
		`{}`: 400, `{"to":5}`: 400, `{"to":{"store":"nonsense"}}`: 400, `{"to":{"store":"redis","adresses":[]}}`: 400, `[]`: 400, `{"two":{}}`: 400,
		`{"to":{"store":"redis","addresses":["` + plain.Address + `"]}}`: 409,
		`{"to":{"store":"redis","addresses":["127.0.0.1:1"]}}`:           503,
	} {
		g.ask(http.MethodPost, "/miniprogram/store/migrate", body).expectStatus(t, status)
	}
	if a := g.ask(http.MethodPut, "/miniprogram/store/migrate", ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "DELETE, GET, POST" {
		t.Errorf("PUT: %d %s", a.status, a.body)
	}
	g.logs("admin call")
	if log := g.log.String(); strings.Contains(log, "wrong-password") || strings.Contains(log, "the-password") {
		t.Error("the log shows a password")
	}
}
