// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/minigate/minigate/integration/chaos/redisserver"
	"github.com/minigate/minigate/integration/chaos/toxic"
	"github.com/minigate/minigate/integration/simulator"
)

const (
	program, secret = "wxcccccccccccccccc", "secret-of-chaos"
	otherProgram    = "wxdddddddddddddddd"
	sealKey         = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	publicPath      = "/public"
)

// trial is one kind of Redis with everything around it. Its methods are for the
// main goroutine, except where they say so.
type trial struct {
	options  options
	topology string
	dir      string
	binary   string
	random   *rand.Rand
	report   *report

	platform    *simulator.Simulator
	platformNet *toxic.Proxy // between the gateways and the platform
	upstream    string
	redis       *redisserver.Deployment
	redisNets   []*toxic.Proxy      // in front of each server and sentinel
	lost        *redisserver.Server // the primary that is down, or was
	owners      owners
	gateways    []*gateway
	load        *load
	closers     []func() error

	mu   sync.Mutex
	deaf []deafness
}

// deafness is a time in which a gateway may not hear of what others do.
type deafness struct {
	gateway  *gateway
	from, to time.Time // to is zero while it lasts
}

// run runs the trial. Everything that it started has ended when it returns.
func (t *trial) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, t.end()) }()
	progress("%s: starting", t.topology)
	if err := t.prepare(ctx); err != nil {
		return err
	}
	t.load.start()
	defer func() {
		t.load.stop()
		t.report.sum.add(t.load.ledger.snapshot())
	}()
	if err := t.calm(ctx, 2*time.Second); err != nil {
		return err
	}
	if t.options.long {
		return t.runLong(ctx)
	}
	for _, f := range faults {
		if f.inShort(t.topology) && strings.Contains(f.name, t.options.only) {
			if err := t.try(ctx, f, f.hold(t.topology)); err != nil {
				return err
			}
		}
	}
	return nil
}

// runLong tries faults at random, for its share of the time.
func (t *trial) runLong(ctx context.Context) error {
	var possible []fault
	for _, f := range faults {
		if f.possible(t.topology) && strings.Contains(f.name, t.options.only) {
			possible = append(possible, f)
		}
	}
	if len(possible) == 0 {
		return nil
	}
	share := t.options.duration / time.Duration(len(t.options.topologies))
	for end := time.Now().Add(share); time.Now().Before(end); {
		f := possible[t.random.IntN(len(possible))]
		hold := time.Duration((0.2 + 2*t.random.Float64()) * float64(f.hold(t.topology)))
		if err := t.try(ctx, f, hold); err != nil {
			return err
		}
	}
	return nil
}

// prepare starts everything.
func (t *trial) prepare(ctx context.Context) error {
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	var err error
	t.platform, err = simulator.New(simulator.Config{Programs: []simulator.Program{
		{Platform: "wechat", AppID: program, Secret: secret},
		{Platform: "wechat", AppID: otherProgram, Secret: secret},
	}})
	if err != nil {
		return err
	}
	platform, err := t.serve(t.platform)
	if err != nil {
		return err
	}
	if t.platformNet, err = toxic.Listen(platform, t.owners.of); err != nil {
		return err
	}
	t.closers = append(t.closers, t.platformNet.Close)
	if t.upstream, err = t.serve(http.HandlerFunc(echo)); err != nil {
		return err
	}
	start := map[string]func(string, redisserver.Front, ...string) (*redisserver.Deployment, error){
		"single": redisserver.StartSingle, "sentinel": redisserver.StartSentinel, "cluster": redisserver.StartCluster,
	}[t.topology]
	// What is acknowledged is to survive: on the disk of the one server, and with
	// several in a replica.
	if t.redis, err = start(t.dir, t.front, redisserver.Durable()...); err != nil {
		return err
	}
	for i := range 3 {
		g, err := newGateway(fmt.Sprint("gateway-", i+1), t.binary, t.dir, &t.owners)
		if err != nil {
			return err
		}
		t.gateways = append(t.gateways, g)
		if err := t.startGateway(ctx, g); err != nil {
			return err
		}
	}
	t.load = newLoad(t)
	return nil
}

// serve serves handler on a free port until the end.
func (t *trial) serve(handler http.Handler) (address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.closers = append(t.closers, server.Close)
	return l.Addr().String(), nil
}

// front puts a network that can go wrong in front of a Redis server.
func (t *trial) front(address string) (string, error) {
	p, err := toxic.Listen(address, t.owners.of)
	if err != nil {
		return "", err
	}
	t.redisNets = append(t.redisNets, p)
	t.closers = append(t.closers, p.Close)
	return p.Address(), nil
}

func (t *trial) startGateway(ctx context.Context, g *gateway) error {
	return g.start(ctx, t.config(g, false))
}

// config returns the configuration of a gateway: the usual one, or one that is
// changed without taking anything from anybody.
func (t *trial) config(g *gateway, changed bool) string {
	var addresses []string
	var options string
	switch t.topology {
	case "single":
		addresses = []string{t.redis.Servers[0].Public}
	case "sentinel":
		for _, s := range t.redis.Sentinels {
			addresses = append(addresses, s.Public)
		}
		options = "sentinel " + redisserver.PrimaryName + fmt.Sprint("\nreplicas ", t.replicas())
	case "cluster":
		for _, s := range t.redis.Servers {
			addresses = append(addresses, s.Public)
		}
		options = fmt.Sprint("cluster\nreplicas ", t.replicas())
	}
	more, directive := "", ""
	if changed {
		more = "session {\nlifetime 20d\nidle 5d\n}\nexchange {\ntimeout 4s\n}\nprogram wechat " + otherProgram + " {\nsecret " + secret + "\napi http://" + t.platformNet.Address() + "\n}"
		directive = "header X-Changed yes"
	}
	return fmt.Sprintf(`{
	admin unix/%s/admin.sock
	persist_config off
	miniprogram {
		program wechat %s {
			secret %s
			api http://%s
		}
		store redis %s {
			%s
		}
		seal_key %s
		%s
	}
}
http://%s {
	bind 127.0.0.1
	miniprogram {
		public path %s
		%s
	}
	reverse_proxy %s
}
`, g.dir, program, secret, t.platformNet.Address(), strings.Join(addresses, " "), options, sealKey, more, g.address, publicPath, directive, t.upstream)
}

// replicas is how many replicas must have a write before it is acknowledged. With
// fewer than all of them, one that has not got it can take over from a primary that
// hangs, while the hanging one wakes up and finds the others still with it.
func (t *trial) replicas() int {
	switch {
	case t.options.replicas > 0:
		return t.options.replicas
	case t.topology == "sentinel":
		return 2
	default:
		return 1
	}
}

// network sets the condition of the network between Redis and some gateways.
func (t *trial) network(c toxic.Condition, gateways ...*gateway) {
	for _, p := range t.redisNets {
		for _, g := range gateways {
			p.SetFor(g.name, c)
		}
	}
}

// calm lets things be for a while.
func (t *trial) calm(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// deafen notes that gateways may not hear of what others do, until the function
// that it returns is called.
func (t *trial) deafen(gateways []*gateway) (over func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	begin := len(t.deaf)
	for _, g := range gateways {
		t.deaf = append(t.deaf, deafness{gateway: g, from: time.Now()})
	}
	end := len(t.deaf)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for i := begin; i < end; i++ {
			t.deaf[i].to = time.Now()
		}
	}
}

const (
	// heard is for how long a gateway that hears of everything may serve a session
	// after the answer to the sign-out was there, on a machine that is busy.
	heard = 5 * time.Second
	// unheard is for how long one that does not may: 30 seconds from when it
	// notices, which takes 4 seconds, and some for a machine that is busy.
	unheard = 37 * time.Second
)

// mayServe reports whether a gateway may still serve, at a time, a session that
// ended at another. Any goroutine may call it.
func (t *trial) mayServe(g *gateway, at, ended time.Time) bool {
	if at.Sub(ended) <= heard {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.deaf {
		since := d.from
		if ended.After(since) {
			since = ended
		}
		over := !d.to.IsZero() && d.to.Add(time.Second).Before(ended)
		if d.gateway == g && !over && d.from.Before(at) && at.Sub(since) <= unheard {
			return true
		}
	}
	return false
}

// end ends everything, and says what was wrong inside.
func (t *trial) end() error {
	var failed []error
	for _, g := range t.gateways {
		failed = append(failed, g.stop(), g.failedInside(), g.log.Close())
	}
	if t.redis != nil {
		t.redis.Kill()
	}
	for _, closer := range t.closers {
		_ = closer()
	}
	return errors.Join(failed...)
}
