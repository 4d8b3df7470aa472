// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// fault is something that goes wrong.
type fault struct {
	name string
	// in are the kinds of Redis that it can happen with; nil is all.
	in []string
	// short are the kinds with which a short run tries it; nil is those of in.
	short []string
	// holds is for how long it lasts; with a kind of Redis of its own, if given.
	holds   time.Duration
	holdsIn map[string]time.Duration
	// deafens are those of the gateways that may not hear of changes.
	deafens func(t *trial, victim *gateway) []*gateway
	// heals says that another server takes over before the cause is gone.
	heals bool
	// inject makes it go wrong. victim is a gateway that chance has chosen.
	inject func(ctx context.Context, t *trial, victim *gateway) (heal func() error, err error)
	// witnessed says that some sign out elsewhere while it lasts whom the victim
	// knows well.
	witnessed bool
}

func (f *fault) possible(topology string) bool {
	return f.in == nil || slices.Contains(f.in, topology)
}

func (f *fault) inShort(topology string) bool {
	return f.possible(topology) && (f.short == nil || slices.Contains(f.short, topology))
}

func (f *fault) hold(topology string) time.Duration {
	if d, ok := f.holdsIn[topology]; ok {
		return d
	}
	return f.holds
}

// lull is for how long all is well between two faults.
const lull = 500 * time.Millisecond

// try makes a fault happen under load, waits until all is well again, and checks
// every session.
func (t *trial) try(ctx context.Context, f fault, hold time.Duration) error {
	if err := t.calm(ctx, lull); err != nil {
		return err
	}
	victim := t.gateways[t.random.IntN(len(t.gateways))]
	before := t.load.ledger.snapshot()
	hears := func() {}
	if f.deafens != nil {
		hears = t.deafen(f.deafens(t, victim))
	}
	begun := time.Now()
	row := row{Topology: t.topology, Fault: f.name}
	var known []*login
	var err error
	if f.witnessed {
		if known, err = t.acquaint(victim); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	heal, err := f.inject(ctx, t, victim)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	witnesses := t.witness(ctx, known, victim, begun.Add(hold))
	if f.heals {
		if row.Failover, err = t.takenOver(ctx, begun); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if err := t.calm(ctx, hold-time.Since(begun)); err != nil {
		return err
	}
	witnesses.Wait()
	healed := time.Now()
	row.Lasted = healed.Sub(begun)
	if err := heal(); err != nil {
		return fmt.Errorf("%s, mending it: %w", f.name, err)
	}
	if row.Back, err = t.back(ctx, healed, t.gateways); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if t.redis.Kind != "single" {
		if err := t.redis.Settle(); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	hears()
	if err := t.check(ctx); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	row.tally = t.load.ledger.snapshot().minus(before)
	t.report.rows = append(t.report.rows, row)
	progress("%s", row.line())
	return nil
}
