// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"maps"
	"sync"
	"time"
)

// What must never happen.
const (
	lost    = "acknowledged sessions lost"
	wrong   = "wrong identities"
	through = "let through that should not be"
)

// never lists it.
var never = []string{lost, wrong, through}

// tally is what was counted up to some moment.
type tally struct {
	Served, Logins, Logouts int            // that were acknowledged
	Forged                  int            // that were refused, as they should be
	Checked                 int            // sessions, on each gateway, after a fault
	Refused                 map[string]int // by kind
	Violations              map[string]int
}

// minus returns what was counted since before.
func (t tally) minus(before tally) tally {
	d := tally{
		Served: t.Served - before.Served, Logins: t.Logins - before.Logins, Logouts: t.Logouts - before.Logouts,
		Forged: t.Forged - before.Forged, Checked: t.Checked - before.Checked,
		Refused: maps.Clone(t.Refused), Violations: maps.Clone(t.Violations),
	}
	for kind, n := range before.Refused {
		d.Refused[kind] -= n
	}
	for kind, n := range before.Violations {
		d.Violations[kind] -= n
	}
	return d
}

// add adds what was counted elsewhere.
func (t *tally) add(other tally) {
	t.Served += other.Served
	t.Logins += other.Logins
	t.Logouts += other.Logouts
	t.Forged += other.Forged
	t.Checked += other.Checked
	for kind, n := range other.Refused {
		t.Refused[kind] += n
	}
	for kind, n := range other.Violations {
		t.Violations[kind] += n
	}
}

func newTally() tally { return tally{Refused: make(map[string]int), Violations: make(map[string]int)} }

// ledger counts. It is safe for concurrent use.
type ledger struct {
	mu    sync.Mutex
	tally tally
	told  int
}

func newLedger() *ledger { return &ledger{tally: newTally()} }

// count changes what is counted.
func (l *ledger) count(change func(*tally)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.tally)
}

// snapshot returns what was counted so far.
func (l *ledger) snapshot() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := newTally()
	t.add(l.tally)
	return t
}

// refused counts an answer that is not the one that was wanted.
func (l *ledger) refused(a *answer) { l.count(func(t *tally) { t.Refused[a.kind()]++ }) }

// maxTold is how many violations are described, after which they are counted only.
const maxTold = 50

// violation counts what must never happen, and tells of it.
func (l *ledger) violation(what string, a *answer, format string, args ...any) {
	l.count(func(t *tally) { t.Violations[what]++ })
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told++; l.told <= maxTold {
		progress("%s! %s at %s answered %d %s, seen as %q: %s", what, a.gateway.name, a.begun.Format(time.StampMilli),
			a.status, a.word, a.seen.OpenID, fmt.Sprintf(format, args...))
	}
}
