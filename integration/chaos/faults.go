// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"time"

	"github.com/minigate/minigate/integration/chaos/redisserver"
	"github.com/minigate/minigate/integration/chaos/toxic"
)

var (
	single  = []string{"single"}
	several = []string{"sentinel", "cluster"}
	nodes   = []string{"single", "cluster"}
)

// faults are all that are known, in the order in which a short run tries them.
var faults = []fault{
	{
		name: "gateway killed", holds: 2 * time.Second, short: single,
		inject: func(ctx context.Context, t *trial, victim *gateway) (func() error, error) {
			victim.kill()
			return func() error { return t.startGateway(ctx, victim) }, nil
		},
	},
	{
		name: "all gateways killed", holds: time.Second, short: single,
		inject: func(ctx context.Context, t *trial, _ *gateway) (func() error, error) {
			for _, g := range t.gateways {
				g.kill()
			}
			return func() error {
				for _, g := range t.gateways {
					if err := t.startGateway(ctx, g); err != nil {
						return err
					}
				}
				return nil
			}, nil
		},
	},
	{
		name: "gateway hangs", holds: 4 * time.Second, short: single, deafens: theVictim,
		inject: func(_ context.Context, _ *trial, victim *gateway) (func() error, error) {
			return victim.resume, victim.pause()
		},
	},
	{
		name: "gateway reloaded with another config", holds: 2 * time.Second, short: single,
		inject: func(ctx context.Context, t *trial, victim *gateway) (func() error, error) {
			return func() error { return victim.reload(ctx, t.config(victim, false)) },
				victim.reload(ctx, t.config(victim, true))
		},
	},
	{
		// Long enough for the grace to end, where there is time.
		name: "gateway cut off from Redis", witnessed: true, holds: 42 * time.Second, holdsIn: map[string]time.Duration{"sentinel": 8 * time.Second, "cluster": 8 * time.Second},
		short: nodes, deafens: theVictim,
		inject: networkFault(toxic.Condition{Stalled: true}, theVictim),
	},
	{
		name: "connections to Redis reset", holds: time.Second, short: nodes, deafens: everyGateway,
		inject: func(_ context.Context, t *trial, _ *gateway) (func() error, error) {
			for _, p := range t.redisNets {
				p.Cut()
			}
			return nothing, nil
		},
	},
	{
		name: "Redis cannot be reached", holds: 5 * time.Second, short: nodes, deafens: everyGateway,
		inject: networkFault(toxic.Condition{Refused: true}, everyGateway),
	},
	{
		name: "Redis slow", holds: 3 * time.Second, short: single, deafens: everyGateway,
		inject: networkFault(toxic.Condition{Latency: 150 * time.Millisecond}, everyGateway),
	},
	{
		name: "Redis killed", in: single, holds: 2 * time.Second, deafens: everyGateway,
		inject: func(_ context.Context, t *trial, _ *gateway) (func() error, error) {
			t.redis.Servers[0].Kill()
			return t.redis.Servers[0].Start, nil
		},
	},
	{
		name: "Redis hangs", in: single, holds: 6 * time.Second, deafens: everyGateway,
		inject: func(_ context.Context, t *trial, _ *gateway) (func() error, error) {
			return t.redis.Servers[0].Resume, t.redis.Servers[0].Pause()
		},
	},
	{
		name: "Redis and a gateway killed", in: single, holds: 2 * time.Second, deafens: everyGateway,
		inject: func(ctx context.Context, t *trial, victim *gateway) (func() error, error) {
			victim.kill()
			t.redis.Servers[0].Kill()
			return func() error {
				return errors.Join(t.redis.Servers[0].Start(), t.startGateway(ctx, victim))
			}, nil
		},
	},
	{
		name: "primary killed", in: several, holds: time.Second, deafens: everyGateway, heals: true,
		inject: func(_ context.Context, t *trial, _ *gateway) (func() error, error) {
			primary, err := t.aPrimary()
			if err != nil {
				return nil, err
			}
			primary.Kill()
			return primary.Start, nil
		},
	},
	{
		name: "primary hangs", in: several, holds: time.Second, deafens: everyGateway, heals: true,
		inject: func(_ context.Context, t *trial, _ *gateway) (func() error, error) {
			primary, err := t.aPrimary()
			if err != nil {
				return nil, err
			}
			return primary.Resume, primary.Pause()
		},
	},
	{
		name: "primary hangs for a moment", in: several, holds: 2 * time.Second, deafens: everyGateway,
		inject: func(_ context.Context, t *trial, _ *gateway) (func() error, error) {
			primary, err := t.aPrimary()
			if err != nil {
				return nil, err
			}
			return primary.Resume, primary.Pause()
		},
	},
	{
		name: "replica killed", in: several, holds: 3 * time.Second, deafens: everyGateway,
		inject: func(_ context.Context, t *trial, _ *gateway) (func() error, error) {
			replica, err := t.aReplica()
			if err != nil {
				return nil, err
			}
			replica.Kill()
			return replica.Start, nil
		},
	},
	{
		name: "sentinel killed", in: []string{"sentinel"}, holds: 3 * time.Second, deafens: everyGateway,
		inject: func(_ context.Context, t *trial, _ *gateway) (func() error, error) {
			s := t.redis.Sentinels[t.random.IntN(len(t.redis.Sentinels))]
			s.Kill()
			return s.Start, nil
		},
	},
	{
		name: "Redis full", holds: 3 * time.Second, short: nodes,
		inject: func(_ context.Context, t *trial, _ *gateway) (func() error, error) {
			return func() error { return t.limitMemory("0") }, t.limitMemory("1")
		},
	},
	{
		name: "platform silent", holds: 6 * time.Second, short: single,
		inject: platformFault(toxic.Condition{Stalled: true}),
	},
	{
		name: "platform cannot be reached", holds: 3 * time.Second, short: single,
		inject: platformFault(toxic.Condition{Refused: true}),
	},
}

func nothing() error { return nil }

func theVictim(_ *trial, victim *gateway) []*gateway { return []*gateway{victim} }

func everyGateway(t *trial, _ *gateway) []*gateway { return t.gateways }

// networkFault is a condition of the network between Redis and some gateways.
func networkFault(c toxic.Condition, of func(*trial, *gateway) []*gateway) func(context.Context, *trial, *gateway) (func() error, error) {
	return func(_ context.Context, t *trial, victim *gateway) (func() error, error) {
		gateways := of(t, victim)
		t.network(c, gateways...)
		return func() error {
			t.network(toxic.Condition{}, gateways...)
			return nil
		}, nil
	}
}

func platformFault(c toxic.Condition) func(context.Context, *trial, *gateway) (func() error, error) {
	return func(_ context.Context, t *trial, _ *gateway) (func() error, error) {
		t.platformNet.Set(c)
		return func() error {
			t.platformNet.Set(toxic.Condition{})
			return nil
		}, nil
	}
}

// aPrimary returns a primary that chance has chosen, and that will be lost.
func (t *trial) aPrimary() (*redisserver.Server, error) {
	primaries := t.redis.Primaries()
	if len(primaries) == 0 {
		return nil, errors.New("there is no primary")
	}
	t.lost = primaries[t.random.IntN(len(primaries))]
	return t.lost, nil
}

// aReplica returns a replica that chance has chosen.
func (t *trial) aReplica() (*redisserver.Server, error) {
	for range 100 {
		if s := t.redis.Servers[t.random.IntN(len(t.redis.Servers))]; !s.IsPrimary() {
			return s, nil
		}
	}
	return nil, errors.New("there is no replica")
}

// limitMemory sets the limit of memory of all servers, in bytes; 0 is none.
func (t *trial) limitMemory(limit string) error {
	for _, s := range t.redis.Servers {
		if err := s.Must("OK", "config", "set", "maxmemory", limit); err != nil {
			return err
		}
	}
	return nil
}
