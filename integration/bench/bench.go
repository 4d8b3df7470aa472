// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// bench is a comparison under way.
type bench struct {
	settings Settings
	wrk      string
	dir      string // of everything that is gone afterwards
	upstream *upstream
	platform *platform
	targets  []*target
	subject  Subject
	token    string
}

// prepare builds and starts everything and makes sure that it works.
func (b *bench) prepare(ctx context.Context) error {
	var err error
	if b.wrk, err = findWrk(); err != nil {
		return err
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "minigate-bench"); err != nil {
		return err
	}
	var binaries [2]string
	for i, pkg := range []string{stockPackage, minigatePackage} {
		progress("building %s", pkg)
		if binaries[i], err = build(ctx, root, pkg, b.dir); err != nil {
			return err
		}
	}
	b.subject = describe(ctx, root, b.wrk, binaries[1])
	if b.upstream, err = startUpstream(); err != nil {
		return err
	}
	if b.platform, err = startPlatform(); err != nil {
		return err
	}
	for _, t := range targets(binaries[0], binaries[1], b.settings) {
		progress("starting %s: %s", t.name, t.what)
		if err := t.start(ctx, filepath.Join(b.dir, "run"), b.upstream.address(), b.platform, b.settings); err != nil {
			return err
		}
		b.targets = append(b.targets, t)
	}
	return b.signIn(ctx)
}

// signIn signs the user in at every guarded target, makes sure that every
// target does what it should, and sets the headers of its load.
func (b *bench) signIn(ctx context.Context) error {
	tokens := make(map[*target]string)
	for _, t := range b.targets {
		if !t.guarded() {
			continue
		}
		token, err := b.platform.login(ctx, t.address)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		tokens[t] = token
		b.token = token
	}
	for _, t := range b.targets {
		token, own := tokens[t]
		if !own {
			token = b.token // means nothing to it, but is as long
		}
		if err := b.platform.verify(ctx, t, token); err != nil {
			return fmt.Errorf("verifying %s: %w", t.name, err)
		}
		t.headers = b.settings.Headers
		if own || !b.settings.Bare {
			t.headers = append(slices.Clip(t.headers), "Authorization: Bearer "+token)
		}
	}
	return nil
}

// measure puts the load on each target in turn, round by round.
func (b *bench) measure(ctx context.Context) (*Result, error) {
	result := &Result{Time: time.Now().UTC().Truncate(time.Second), Subject: b.subject, Settings: b.settings}
	progress("warming up, %d s each", warmUp)
	direct := &target{address: b.upstream.address()}
	report, err := runWrk(ctx, b.wrk, direct.load(b.settings, warmUp))
	if err != nil {
		return nil, fmt.Errorf("the upstream: %w", err)
	}
	result.Direct = report.throughput()
	for _, t := range b.targets {
		result.Targets = append(result.Targets, TargetResult{Name: t.name, What: t.what})
		if _, err := runWrk(ctx, b.wrk, t.load(b.settings, warmUp)); err != nil {
			return nil, fmt.Errorf("warming up %s: %w", t.name, err)
		}
	}
	rounds := b.settings.Rounds
	progress("measuring, %d s", rounds*len(b.targets)*b.settings.Seconds)
	for round := range rounds {
		var line strings.Builder
		for place, i := range order(len(b.targets), round) {
			t := b.targets[i]
			sample, err := b.sample(ctx, t)
			if err != nil {
				return nil, fmt.Errorf("measuring %s: %w", t.name, err)
			}
			sample.Round, sample.Place = round+1, place+1
			result.Targets[i].Samples = append(result.Targets[i].Samples, sample)
			fmt.Fprintf(&line, "  %s %.0f/s %.1f µs", t.name, sample.Throughput, sample.CPU)
		}
		progress("round %d of %d:%s", round+1, rounds, line.String())
	}
	result.summarize()
	return result, nil
}

// sample measures a target once.
func (b *bench) sample(ctx context.Context, t *target) (Sample, error) {
	before, err := b.readClocks(t)
	if err != nil {
		return Sample{}, err
	}
	report, err := runWrk(ctx, b.wrk, t.load(b.settings, b.settings.Seconds))
	if err != nil {
		return Sample{}, err
	}
	after, err := b.readClocks(t)
	if err != nil {
		return Sample{}, err
	}
	proxy := after.proxy - before.proxy
	others := after.machine - before.machine - proxy - (after.own - before.own) - report.cpu
	available := after.time.Sub(before.time) * time.Duration(b.subject.Cores)
	return Sample{
		Requests:     report.requests,
		Throughput:   report.throughput(),
		P50:          inMicroseconds(report.p50),
		P99:          inMicroseconds(report.p99),
		CPU:          inMicroseconds(proxy) / float64(report.requests),
		Noise:        max(0, float64(others)/float64(available)),
		SocketErrors: report.socketErrors,
	}, nil
}

// clocks are what tells the time and the processor time used so far.
type clocks struct {
	time                time.Time
	machine, proxy, own time.Duration
}

// readClocks reads all clocks at once.
func (b *bench) readClocks(t *target) (clocks, error) {
	c := clocks{time: time.Now(), own: ownCPU()}
	var err error
	if c.proxy, err = t.cpu(); err != nil {
		return c, err
	}
	c.machine, err = machineCPU()
	return c, err
}

// stop ends what was started and removes what was written.
func (b *bench) stop() {
	for _, t := range b.targets {
		t.stop()
	}
	if b.platform != nil {
		b.platform.server.CloseClientConnections()
		b.platform.server.Close()
	}
	if b.upstream != nil {
		b.upstream.close()
	}
	if b.dir == "" {
		return
	}
	if err := os.RemoveAll(b.dir); err != nil {
		progress("removing what is left: %v", err)
	}
}

// inMicroseconds returns a time as it is recorded.
func inMicroseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
