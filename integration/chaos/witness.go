// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// acquainted is how many users a gateway gets to know before it is cut off.
const acquainted = 12

// acquaint signs users in, and has a gateway serve them until it needs not ask the
// store.
func (t *trial) acquaint(victim *gateway) ([]*login, error) {
	c := newClient()
	defer c.CloseIdleConnections()
	var known []*login
	for i := range acquainted {
		u := &user{name: fmt.Sprint("acquainted-", i)}
		who, err := t.platform.Identity(program, u.name)
		if err != nil {
			return nil, err
		}
		u.openID = who.OpenID
		code, err := t.platform.Login(program, u.name)
		if err != nil {
			return nil, err
		}
		a := c.login(victim, code)
		if a.status != 200 {
			return nil, fmt.Errorf("signing in at %s: %d %s", victim.name, a.status, a.kind())
		}
		known = append(known, &login{user: u, token: a.token, begun: time.Now()})
	}
	for begun := time.Now(); time.Since(begun) < 300*time.Millisecond; {
		for _, s := range known {
			t.load.judge(s, c.get(victim, s.token))
		}
	}
	return known, nil
}

// witness signs users out at another gateway, and tries again and again until the
// given time whether the victim still serves them. It returns at once, with what to
// wait for.
func (t *trial) witness(ctx context.Context, known []*login, victim *gateway, until time.Time) *sync.WaitGroup {
	var busy sync.WaitGroup
	for i, s := range known {
		other := t.gateways[i%len(t.gateways)]
		if other == victim {
			other = t.gateways[(i+1)%len(t.gateways)]
		}
		busy.Go(func() {
			c := newClient()
			defer c.CloseIdleConnections()
			a := c.logout(other, s.token, i%2 == 0)
			if a.status != 204 {
				t.load.ledger.refused(a)
				return
			}
			s.state, s.at, s.by = ended, time.Now(), other
			for time.Now().Before(until) && ctx.Err() == nil {
				t.load.judge(s, c.get(victim, s.token))
				time.Sleep(250 * time.Millisecond)
			}
		})
	}
	return &busy
}
