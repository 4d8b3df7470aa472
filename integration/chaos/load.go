// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/minigate/minigate/module/keyring"
)

const (
	workers       = 16
	usersEach     = 6
	sessionsEach  = 3 // live ones, of a user; fewer than a gateway keeps
	endedEach     = 8 // of a worker, to be tried again and again
	shortestPause = 10 * time.Millisecond
	longestPause  = 60 * time.Millisecond
	bigSteps      = 100 // of the dice
	forgedHeader  = "somebody-else"
)

// state is what is known of a session. One of which nobody knows whether a sign-out
// was done is not looked at any more.
type state int

const (
	live  state = iota // it was acknowledged
	ended              // the sign-out was acknowledged
	gone               // it was lost, and that was counted
)

// login is a session that was acknowledged.
type login struct {
	user  *user
	token string
	begun time.Time
	state state
	at    time.Time // when the end of it was acknowledged
	by    *gateway  // which gateway did that
}

// user is one user. Only his worker, or the check while all workers are held up,
// touches him.
type user struct {
	name, openID string
	logins       []*login
}

// worker does what some users do, one thing after the other, so that it knows what
// has to be true.
type worker struct {
	trial  *trial
	client *client
	random *rand.Rand
	users  []*user
	ended  []*login
}

// load is all workers.
type load struct {
	trial   *trial
	ledger  *ledger
	forger  *keyring.Ring // a key that no gateway has
	workers []*worker
	gate    sync.RWMutex // held for writing while the workers are held up
	quit    chan struct{}
	running sync.WaitGroup
}

func newLoad(t *trial) *load {
	l := &load{trial: t, ledger: newLedger(), quit: make(chan struct{})}
	// A new master has the right size.
	l.forger, _ = keyring.New(keyring.NewMaster())
	for i := range workers {
		w := &worker{trial: t, client: newClient(), random: rand.New(rand.NewPCG(t.random.Uint64(), uint64(i)))}
		for n := range usersEach {
			u := &user{name: fmt.Sprintf("user-%d-%d", i, n)}
			// The simulator knows every user of a program that it has.
			who, _ := t.platform.Identity(program, u.name)
			u.openID = who.OpenID
			w.users = append(w.users, u)
		}
		l.workers = append(l.workers, w)
	}
	return l
}

func (l *load) start() {
	for _, w := range l.workers {
		l.running.Go(func() {
			for {
				pause := shortestPause + time.Duration(w.random.Int64N(int64(longestPause-shortestPause)))
				select {
				case <-l.quit:
					return
				case <-time.After(pause):
				}
				l.gate.RLock()
				w.step()
				l.gate.RUnlock()
			}
		})
	}
}

func (l *load) stop() {
	close(l.quit)
	l.running.Wait()
	for _, w := range l.workers {
		w.client.CloseIdleConnections()
	}
}

func (w *worker) gateway() *gateway { return w.trial.gateways[w.random.IntN(len(w.trial.gateways))] }

func (w *worker) ledger() *ledger { return w.trial.load.ledger }

// step does one thing.
func (w *worker) step() {
	u := w.users[w.random.IntN(len(w.users))]
	switch dice := w.random.IntN(bigSteps); {
	case dice < 12 && len(u.logins) < sessionsEach, len(u.logins) == 0:
		w.login(u)
	case dice < 60:
		w.use(u.logins[w.random.IntN(len(u.logins))])
	case dice < 75 && len(w.ended) > 0:
		w.use(w.ended[w.random.IntN(len(w.ended))])
	case dice < 81:
		w.logout(u, false)
	case dice < 84:
		w.logout(u, true)
	default:
		w.forge(u.logins[w.random.IntN(len(u.logins))], w.gateway())
	}
}

// login signs a user in: by a call, or on the way of a request.
func (w *worker) login(u *user) {
	code, err := w.trial.platform.Login(program, u.name)
	if err != nil {
		return
	}
	var a *answer
	inline := w.random.IntN(4) == 0
	if inline {
		a = w.client.do(w.gateway(), "GET", "/", "", fmt.Sprintf(`Authorization: MiniProgram program="%s", code="%s"`, program, code))
	} else {
		a = w.client.login(w.gateway(), code)
	}
	if a.status != 200 || a.token == "" {
		w.ledger().refused(a)
		return
	}
	if inline && !a.isOf(u.openID) {
		w.ledger().violation(wrong, a, "%s, who has just signed in, is %s", u.name, u.openID)
	}
	w.ledger().count(func(t *tally) { t.Logins++ })
	u.logins = append(u.logins, &login{user: u, token: a.token, begun: time.Now()})
}

// isOf reports whether the upstream was told this openid and no other.
func (a *answer) isOf(openID string) bool {
	return len(a.seen.OpenID) == 1 && a.seen.OpenID[0] == openID && len(a.seen.UserID) == 1 && a.seen.UserID[0] == openID
}

// use makes a request with a session, good or ended.
func (w *worker) use(s *login) {
	lines := []string{}
	if w.random.IntN(4) == 0 {
		lines = append(lines, "X-User-Openid: "+forgedHeader, "X_User_Id: "+forgedHeader)
	}
	w.trial.load.judge(s, w.client.get(w.gateway(), s.token, lines...))
	s.user.prune()
}

// prune takes lost sessions off a user's list.
func (u *user) prune() {
	u.logins = slices.DeleteFunc(u.logins, func(s *login) bool { return s.state == gone })
}

// judge compares an answer to a request with a session with what is known of it.
func (l *load) judge(s *login, a *answer) {
	switch {
	case a.status == 200 && !a.isOf(s.user.openID):
		l.ledger.violation(wrong, a, "%s is %s", s.user.name, s.user.openID)
	case a.status == 200 && s.state == ended && (a.gateway == s.by || !l.trial.mayServe(a.gateway, a.begun, s.at)):
		l.ledger.violation(through, a, "%s has signed out %v before, by %s", s.user.name, a.begun.Sub(s.at), s.by.name)
	case a.status == 200:
		l.ledger.count(func(t *tally) { t.Served++ })
	case a.status == 401 && s.state == live:
		s.state = gone
		l.ledger.violation(lost, a, "%s, signed in %v before", s.user.name, a.begun.Sub(s.begun))
	case a.status == 401:
		l.ledger.count(func(t *tally) { t.Forged++ })
	default:
		l.ledger.refused(a)
	}
}

// logout signs a user out, in one session or in all of them.
func (w *worker) logout(u *user, everywhere bool) {
	chosen := w.random.IntN(len(u.logins))
	s := u.logins[chosen]
	a := w.client.logout(w.gateway(), s.token, everywhere)
	acknowledged := a.status == 204
	switch {
	case acknowledged:
		w.ledger().count(func(t *tally) { t.Logouts++ })
	case a.status == 401:
		w.trial.load.judge(s, a)
		u.prune()
		return
	default:
		w.ledger().refused(a)
	}
	of := []*login{s}
	if everywhere {
		of = u.logins
	}
	for _, s := range of {
		if acknowledged {
			s.state, s.at, s.by = ended, time.Now(), a.gateway
			w.keep(s)
		}
	}
	if everywhere {
		u.logins = nil
	} else {
		u.logins = slices.Delete(u.logins, chosen, chosen+1)
	}
}

// keep keeps a session that has ended, in the place of an older one.
func (w *worker) keep(s *login) {
	if len(w.ended) < endedEach {
		w.ended = append(w.ended, s)
		return
	}
	w.ended[w.random.IntN(endedEach)] = s
}
