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

// checkers is how many sessions are checked at once.
const checkers = 8

// back waits until the gateways do everything that they are for: at each one
// somebody signs in, is served by all, signs out and is served by none. It returns
// how long that took from since.
func (t *trial) back(ctx context.Context, since time.Time, gateways []*gateway) (time.Duration, error) {
	c := newClient()
	c.Timeout = 5 * time.Second // it tries again
	defer c.CloseIdleConnections()
	for n, g := range gateways {
		for attempt := 0; ; attempt++ {
			err := t.probe(c, g, gateways, fmt.Sprintf("probe-%d-%d", n, attempt))
			if err == nil {
				break
			}
			if time.Since(since) > 2*patience {
				return 0, fmt.Errorf("%v after the cause was gone: %w", time.Since(since).Round(time.Second), err)
			}
			if err := t.calm(ctx, 50*time.Millisecond); err != nil {
				return 0, err
			}
		}
	}
	return time.Since(since), nil
}

// takenOver waits until another server has taken the place of a primary that is
// lost, and where enough replicas are left also until the gateways do everything.
// It returns how long that took from since.
func (t *trial) takenOver(ctx context.Context, since time.Time) (time.Duration, error) {
	primaries, replicasLeft := 3, 0
	if t.topology == "sentinel" {
		primaries, replicasLeft = 1, 1
	}
	if err := t.redis.WaitForFailover(t.lost, primaries); err != nil {
		return 0, err
	}
	if t.replicas() > replicasLeft {
		return time.Since(since), nil
	}
	return t.back(ctx, since, t.gateways)
}

// probe tries everything once.
func (t *trial) probe(c *client, at *gateway, gateways []*gateway, name string) error {
	failed := func(what string, a *answer) error {
		return fmt.Errorf("%s at %s: %d %s", what, a.gateway.name, a.status, a.kind())
	}
	code, err := t.platform.Login(program, name)
	if err != nil {
		return err
	}
	who, err := t.platform.Identity(program, name)
	if err != nil {
		return err
	}
	signedIn := c.login(at, code)
	if signedIn.status != 200 {
		return failed("signing in", signedIn)
	}
	for _, g := range gateways {
		if a := c.get(g, signedIn.token); a.status != 200 {
			return failed("being served", a)
		} else if !a.isOf(who.OpenID) {
			t.load.ledger.violation(wrong, a, "%s is %s", name, who.OpenID)
		}
	}
	if a := c.logout(gateways[len(gateways)-1], signedIn.token, false); a.status != 204 {
		return failed("signing out", a)
	}
	for deadline := time.Now().Add(time.Second); ; {
		a := c.get(at, signedIn.token)
		if a.status == 401 {
			return nil
		}
		if time.Now().After(deadline) {
			return failed("being refused", a)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// check holds the workers up and looks at every session that is known of, on every
// gateway.
func (t *trial) check(ctx context.Context) error {
	t.load.gate.Lock()
	defer t.load.gate.Unlock()
	work := make(chan func(*client) error)
	var failure error
	var mu sync.Mutex
	var busy sync.WaitGroup
	for range checkers {
		busy.Go(func() {
			c := newClient()
			defer c.CloseIdleConnections()
			for do := range work {
				if err := do(c); err != nil {
					mu.Lock()
					failure = err
					mu.Unlock()
				}
			}
		})
	}
	for _, w := range t.load.workers {
		sessions := append([]*login(nil), w.ended...)
		for _, u := range w.users {
			sessions = append(sessions, u.logins...)
		}
		for _, s := range sessions {
			work <- func(c *client) error { return t.checkOne(ctx, c, s) }
		}
	}
	close(work)
	busy.Wait()
	for _, w := range t.load.workers {
		for _, u := range w.users {
			u.prune()
		}
	}
	return failure
}

// checkOne looks at one session on every gateway, until there is an answer that
// says what it is.
func (t *trial) checkOne(ctx context.Context, c *client, s *login) error {
	for _, g := range t.gateways {
		for since := time.Now(); ; {
			a := c.get(g, s.token)
			if a.status == 200 && s.state == ended && a.gateway != s.by && t.mayServe(g, a.begun, s.at) {
				if err := t.calm(ctx, 100*time.Millisecond); err != nil {
					return err
				}
				continue // not for long
			}
			if a.status == 200 || a.status == 401 {
				t.load.judge(s, a)
				t.load.ledger.count(func(t *tally) { t.Checked++ })
				break
			}
			if time.Since(since) > patience {
				return fmt.Errorf("%s does not say whether %s is signed in: %d %s", g.name, s.user.name, a.status, a.kind())
			}
			if err := t.calm(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}
