// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/chaos/redisserver"
	"github.com/minigate/minigate/integration/chaos/toxic"
)

// grace is for how long sessions go on that were known to be valid when the store
// stopped telling about changes.
const grace = 30 * time.Second

// "Redis was restarted and everybody had to sign in again", or worse: everybody got
// in. Nobody does, and whoever was seen lately does not even notice for 30 s.
func TestFailureRedisDown(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	server := redisServer(t, redisserver.Durable()...)
	g := start(t, setup{options: inRedis(server.Address), directive: "public path /healthz"})
	warm, cold, leaving := g.login(programA, "alice"), g.login(programA, "bob"), g.login(programA, "dave")
	other := start(t, setup{options: inRedis(server.Address)}) // never saw bob
	g.warm(warm)
	server.Kill()
	down := time.Now()

	body := g.loginBody(programA, "carol")
	g.post("/miniprogram/login", body).expect(t, 503, "store_unavailable")
	other.get("/", bearer(cold)).expect(t, 503, "store_unavailable")
	g.get("/", bearer(cold+"x")).expect(t, 401, "session_invalid")
	g.get("/healthz").expectStatus(t, 200)
	g.served(warm, "alice")
	g.post("/miniprogram/logout", "", bearer(leaving)).expect(t, 503, "store_unavailable")
	g.get("/", bearer(leaving)).expect(t, 503, "store_unavailable") // nobody knows whether he is signed out
	g.logs("store cannot be used")
	g.logs("store does not tell about changes")
	g.counts(loginsWithoutStore)
	other.counts(requestsWithoutStore)
	late := prepare(t, g.setup)
	late.launch()
	if err := late.waitReady(); err == nil || !strings.Contains(late.log.String(), server.Address) {
		t.Errorf("a gateway that is started meanwhile: %v\n%s", err, late.log)
	}
	changed := g.setup
	changed.directive += "\nheader X-Changed yes"
	if err := g.reload(changed); err == nil {
		t.Error("a reload meanwhile is not refused")
	}

	for g.get("/", bearer(warm)).status == http.StatusOK {
		if time.Since(down) > grace+patience {
			t.Fatal("sessions go on for ever")
		}
		time.Sleep(200 * time.Millisecond)
	}
	g.get("/", bearer(warm)).expect(t, 503, "store_unavailable")
	t.Logf("warm sessions went on for %v", time.Since(down).Round(time.Second))

	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	g.recovered(since)
	other.recovered(since)
	g.served(warm, "alice")
	g.served(cold, "bob")
	g.post("/miniprogram/login", body).expectStatus(t, 200) // the code was not spent in vain
}

// A cable is cut, or the server hangs: nothing says so. It is noticed in time, no
// request hangs, and it is the same as a server that is down.
func TestFailureRedisSilent(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	server := redisServer(t)
	network := proxied(t, server.Address)
	g := start(t, setup{options: inRedis(network.Address())})
	warm, revoked := g.login(programA, "alice"), g.login(programA, "bob")
	other := start(t, setup{options: inRedis(server.Address)})
	g.warm(warm)
	g.warm(revoked)
	network.Set(toxic.Condition{Stalled: true})
	begun := time.Now()
	g.tryLogin("carol").expect(t, 503, "store_unavailable")
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("a login is kept waiting for %v", took)
	} else {
		t.Logf("a login is refused after %v", took.Round(time.Millisecond))
	}
	g.logs("store does not tell about changes")
	t.Logf("noticed after %v", time.Since(begun).Round(time.Millisecond))
	g.counts(loginsWithoutStore)
	g.served(warm, "alice")

	// Somebody's session is revoked elsewhere. This node cannot hear of it, but
	// not for long.
	other.post("/miniprogram/logout", `{"everywhere":true}`, bearer(revoked)).expectStatus(t, http.StatusNoContent)
	for g.get("/", bearer(revoked)).status == http.StatusOK {
		if time.Since(begun) > grace+patience {
			t.Fatal("a revoked session goes on for ever")
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Logf("a session that was revoked elsewhere went on for %v", time.Since(begun).Round(time.Second))

	network.Set(toxic.Condition{})
	g.recovered(time.Now())
	g.served(warm, "alice")
	g.get("/", bearer(revoked)).expect(t, 401, "session_revoked")
}

// A slow Redis makes sign-ins slow and nothing else.
func TestFailureRedisSlow(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	server := redisServer(t)
	network := proxied(t, server.Address)
	g := start(t, setup{options: inRedis(network.Address())})
	warm, cold := g.login(programA, "alice"), g.login(programA, "bob")
	other := start(t, setup{options: inRedis(network.Address())})
	g.warm(warm)
	other.warm(warm)
	const latency = 200 * time.Millisecond
	network.Set(toxic.Condition{Latency: latency})
	timed := func(what string, do func()) time.Duration {
		begun := time.Now()
		do()
		took := time.Since(begun)
		t.Logf("%s: %v", what, took.Round(time.Millisecond))
		return took
	}
	sum := g.metric(`caddy_miniprogram_store_seconds_sum{op="update"}`)
	timed("a login", func() { g.login(programA, "carol") })
	if timed("a session not in memory", func() { other.served(cold, "bob") }) < 2*latency {
		t.Error("the store was not asked")
	}
	if timed("100 requests of one in memory", func() {
		for range 100 {
			g.served(warm, "alice")
		}
	}) > patience {
		t.Error("whoever is in memory waits for Redis")
	}
	if now := g.metric(`caddy_miniprogram_store_seconds_sum{op="update"}`); now < sum+latency.Seconds() {
		t.Errorf("the time that the store takes is not told: %v, then %v", sum, now)
	}
	time.Sleep(5 * time.Second) // longer than a ping may take
	if strings.Contains(g.log.String(), "store does not tell about changes") {
		t.Errorf("a Redis that answers is given up\n%s", g.log)
	}
	network.Set(toxic.Condition{})
	g.recovered(time.Now())
}

// The memory of Redis is full: nobody new gets in, nobody is thrown out, and it is
// not Redis that decides whose session goes.
func TestFailureRedisFull(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	server := redisServer(t)
	g, other := startTwo(t, setup{options: inRedis(server.Address)}, setup{options: inRedis(server.Address)})
	warm, cold := g.login(programA, "alice"), g.login(programA, "bob")
	g.warm(warm)
	redisDo(t, server, "OK", "config", "set", "maxmemory", "1")
	g.tryLogin("carol").expect(t, 503, "store_unavailable")
	g.served(warm, "alice")
	other.served(cold, "bob")
	g.post("/miniprogram/logout", "", bearer(warm)).expect(t, 503, "store_unavailable")
	g.served(warm, "alice") // who was told so
	g.logs("store cannot be used")
	g.counts(loginsWithoutStore)
	redisDo(t, server, "OK", "config", "set", "maxmemory", "0")
	g.recovered(time.Now())

	redisDo(t, server, "OK", "config", "set", "maxmemory-policy", "allkeys-lru")
	start(t, setup{options: inRedis(server.Address)}).logs("redis may throw sessions away: set maxmemory-policy to noeviction")
}

// The configuration names a replica, or the primary is made one: what cannot be
// written is not pretended to be.
func TestFailureRedisReplica(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	primary := redisServer(t)
	server := redisServer(t)
	g := start(t, setup{options: inRedis(server.Address)})
	token := g.login(programA, "alice")
	host, port, _ := strings.Cut(primary.Address, ":")
	// What the new primary has is what it had, as after a failover.
	redisDo(t, primary, "OK", append([]string{"replicaof"}, strings.Split(server.Address, ":")...)...)
	eventually(t, "the other server has everything", func() bool {
		out, _ := primary.Do("info", "replication")
		return strings.Contains(out, "master_link_status:up")
	})
	redisDo(t, primary, "OK", "replicaof", "no", "one")
	redisDo(t, server, "OK", "replicaof", host, port)
	eventually(t, "it follows", func() bool {
		out, _ := server.Do("info", "replication")
		return strings.Contains(out, "master_link_status:up")
	})
	g.tryLogin("bob").expect(t, 503, "store_unavailable")
	g.post("/miniprogram/logout", "", bearer(token)).expect(t, 503, "store_unavailable")
	g.served(token, "alice")
	g.logs("store cannot be used")
	g.logs("store does not tell about changes")
	g.counts(loginsWithoutStore)

	start(t, setup{}).refusesToLoad(setup{options: inRedis(server.Address)}, server.Address, "is a replica")
	redisDo(t, server, "OK", "replicaof", "no", "one")
	g.recovered(time.Now())
}

// The primary dies and Sentinel makes another one: sign-ins fail for the time being,
// and nobody who was told that he is signed in is not.
func TestFailureRedisFailover(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	d, err := redisserver.StartSentinel(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	var sentinels []string
	for _, s := range d.Sentinels {
		sentinels = append(sentinels, s.Address)
	}
	options := inRedis(strings.Join(sentinels, " "), "sentinel "+redisserver.PrimaryName, "replicas 1")
	g, other := startTwo(t, setup{options: options}, setup{options: options})
	var tokens []string
	for i := range 50 {
		tokens = append(tokens, g.login(programA, fmt.Sprint("user-", i)))
	}
	g.warm(tokens[0])
	d.Primaries()[0].Kill()
	since := time.Now()
	eventually(t, "sign-ins fail", func() bool { return g.tryLogin("x").word() == "store_unavailable" })
	g.served(tokens[0], "user-0")
	g.counts(loginsWithoutStore)
	g.logs("store does not tell about changes")
	g.recovered(since)
	other.recovered(since)
	for i, token := range tokens {
		g.served(token, fmt.Sprint("user-", i))
		other.served(token, fmt.Sprint("user-", i))
	}
}

// Somebody empties Redis: everybody has to sign in again, at once and on all nodes,
// and nobody is served on what a gateway remembers.
func TestFailureRedisFlushed(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	server := redisServer(t)
	g, other := startTwo(t, setup{options: inRedis(server.Address)}, setup{options: inRedis(server.Address)})
	token := g.login(programA, "alice")
	for _, node := range []*gateway{g, other} {
		node.warm(token)
	}
	redisDo(t, server, "OK", "flushall")
	since := time.Now()
	for _, node := range []*gateway{g, other} {
		eventually(t, "the session is gone", func() bool { return node.get("/", bearer(token)).status == http.StatusUnauthorized })
		node.get("/", bearer(token)).expect(t, 401, "session_expired")
		node.logs("store does not tell about changes")
		node.counts(requestsExpired)
	}
	t.Logf("gone %v later", time.Since(since))
	g.recovered(since)
	g.login(programA, "alice")
}

// The password of Redis is changed, and nobody tells the gateway; or the gateway is
// given a wrong one. It says what is wrong, and not what the password is.
func TestFailureRedisPassword(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	const right, wrong, changed = "canary-right", "canary-wrong", "canary-changed"
	server := redisServer(t, "--requirepass", right)
	g := start(t, setup{options: inRedis(server.Address, "password "+right)})
	token := g.login(programA, "alice")
	g.warm(token)
	g.refusesToLoad(setup{options: inRedis(server.Address, "password "+wrong)}, server.Address, "WRONGPASS")
	g.refusesToLoad(setup{options: inRedis(server.Address)}, server.Address, "NOAUTH")

	as := func(password string, command ...string) {
		t.Helper()
		redisDo(t, server, "", append([]string{"-a", password, "--no-auth-warning"}, command...)...)
	}
	as(right, "config", "set", "requirepass", changed)
	g.served(token, "alice")
	as(changed, "client", "kill", "type", "normal") // those who are in stay in, until their connection is lost
	since := time.Now()
	g.tryLogin("bob").expect(t, 503, "store_unavailable")
	g.served(token, "alice")
	g.logs("store cannot be used")
	g.logs("store does not tell about changes")
	g.counts(loginsWithoutStore)
	if log := g.log.String(); !strings.Contains(log, "WRONGPASS") || strings.Contains(log, right) || strings.Contains(log, wrong) {
		t.Errorf("the log does not say that the password is wrong, or says the password\n%s", log)
	}
	if err := g.reload(setup{options: inRedis(server.Address, "password "+changed)}); err != nil {
		t.Fatal(err)
	}
	g.served(token, "alice")
	g.recovered(since)
}
