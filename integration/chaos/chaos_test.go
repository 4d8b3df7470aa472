// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// What counts as let through, and what as the documented time in which a gateway
// may not know, decides whether a run means anything.
func TestMayServe(t *testing.T) {
	now := time.Now()
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	g, other := new(gateway), new(gateway)
	trial := &trial{deaf: []deafness{
		{gateway: g, from: at(100), to: at(160)},
		{gateway: g, from: at(300)},
	}}
	for name, test := range map[string]struct {
		gateway   *gateway
		ended, at int
		want      bool
	}{
		"at once":                              {g, 0, 1, true},
		"later":                                {g, 0, 10, false},
		"shortly before it was cut off":        {g, 99, 103, true},
		"before it was cut off":                {g, 99, 130, true},
		"before it was cut off, long after":    {g, 99, 140, false},
		"while it was cut off":                 {g, 110, 140, true},
		"while it was cut off, long after":     {g, 110, 150, false},
		"after it was cut off":                 {g, 170, 180, false},
		"while it is cut off":                  {g, 310, 340, true},
		"while it is cut off, long after":      {g, 310, 350, false},
		"another one, while this one is":       {other, 110, 140, false},
		"just ended, and another one hears it": {other, 110, 113, true},
	} {
		if got := trial.mayServe(test.gateway, at(test.at), at(test.ended)); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Whatever an answer shows that must never happen is counted, and nothing else is.
func TestJudge(t *testing.T) {
	g, other := &gateway{name: "g"}, &gateway{name: "other"}
	u := &user{name: "alice", openID: "oAlice"}
	alice, bob := seen{[]string{"oAlice"}, []string{"oAlice"}}, seen{[]string{"oBob"}, []string{"oBob"}}
	both := seen{[]string{"oAlice", "oBob"}, []string{"oAlice"}}
	for name, test := range map[string]struct {
		state  state
		answer answer
		want   string
	}{
		"served":              {live, answer{status: 200, seen: alice}, ""},
		"lost":                {live, answer{status: 401, word: "session_expired"}, lost},
		"lost, known":         {gone, answer{status: 401}, ""},
		"refused":             {live, answer{status: 503, word: "store_unavailable"}, ""},
		"no answer":           {live, answer{}, ""},
		"another":             {live, answer{status: 200, seen: bob}, wrong},
		"two":                 {live, answer{status: 200, seen: both}, wrong},
		"nobody":              {live, answer{status: 200}, wrong},
		"ended":               {ended, answer{status: 401, word: "session_revoked"}, ""},
		"ended, let through":  {ended, answer{status: 200, seen: alice}, through},
		"ended, as another":   {ended, answer{status: 200, seen: bob}, wrong},
		"ended, store is off": {ended, answer{status: 503, word: "store_unavailable"}, ""},
	} {
		l := &load{trial: new(trial), ledger: newLedger()}
		s := &login{user: u, state: test.state, at: time.Now().Add(-time.Minute), by: other}
		test.answer.gateway, test.answer.begun = g, time.Now()
		l.judge(s, &test.answer)
		for _, what := range never {
			want := 0
			if what == test.want {
				want = 1
			}
			if got := l.ledger.snapshot().Violations[what]; got != want {
				t.Errorf("%s: %s is %d", name, what, got)
			}
		}
	}
}

// A violation between two faults is one, too, and the run ends with an error.
func TestVerdict(t *testing.T) {
	r := &report{sum: newTally()}
	if err := r.verdict(); err != nil {
		t.Error(err)
	}
	l := newLedger()
	before := l.snapshot()
	l.violation(lost, &answer{gateway: &gateway{name: "g"}}, "a session")
	l.count(func(t *tally) { t.Served++ })
	if d := l.snapshot().minus(before); d.Violations[lost] != 1 || d.Served != 1 || before.Violations[lost] != 0 {
		t.Errorf("%+v", d)
	}
	r.sum.add(l.snapshot())
	if err := r.verdict(); err == nil || !strings.Contains(err.Error(), lost) {
		t.Errorf("the verdict is %v", err)
	}
	if text := r.text(); !strings.Contains(text, lost+": 1\n") {
		t.Error(text)
	}
}

// A network that is cut for one gateway has to know its connections.
func TestOwners(t *testing.T) {
	var o owners
	o.set("this", os.Getpid())
	o.set("init", 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if owner := o.of(conn.LocalAddr()); owner != "this" {
		t.Errorf("it is of %q", owner)
	}
	if owner := o.of(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}); owner != "" {
		t.Errorf("a connection that is not there is of %q", owner)
	}
}

// Who starts a run of a night should hear at once of a mistake.
func TestFlags(t *testing.T) {
	for line, good := range map[string]bool{
		"": true, "-short": true, "-long -for 2h -seed 7 -topology cluster -fault killed": true,
		"-short -long": false, "-topology ring": false, "-for 0s": false, "surplus": false,
	} {
		if _, err := parseFlags(strings.Fields(line)); (err == nil) != good {
			t.Errorf("%q: %v", line, err)
		}
	}
	for _, f := range faults {
		for _, topology := range append(f.in, f.short...) {
			if !strings.Contains(strings.Join(topologies, " "), topology) {
				t.Errorf("%s: there is no %s", f.name, topology)
			}
		}
	}
}
