// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"strings"
	"testing"
	"time"
)

// What wrk 4.1.0 prints.
const wrkOutput = `Running 3s test @ http://127.0.0.1:40000/orders
  2 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.99ms    3.34ms  50.50ms   91.10%
    Req/Sec     6.56k     0.95k    8.63k    65.00%
  Latency Distribution
     50%  987.00us
     75%    3.42ms
     90%    6.28ms
     99%    1.02s 
  39223 requests in 3.01s, 8.72MB read
Requests/sec:  13029.39
Transfer/sec:      2.90MB
`

func TestParseWrk(t *testing.T) {
	t.Parallel()
	r, err := parseWrk(wrkOutput)
	if err != nil {
		t.Fatal(err)
	}
	want := wrkReport{requests: 39223, elapsed: 3010 * time.Millisecond, p50: 987 * time.Microsecond, p99: 1020 * time.Millisecond}
	if r != want {
		t.Errorf("got %+v, want %+v", r, want)
	}
	if got := int(r.throughput()); got != 13030 {
		t.Errorf("throughput is %d, want 13030", got)
	}
}

func TestParseWrkTrouble(t *testing.T) {
	t.Parallel()
	const trouble = "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 17\nRequests/sec:"
	r, err := parseWrk(strings.Replace(wrkOutput, "Requests/sec:", trouble, 1))
	if err != nil {
		t.Fatal(err)
	}
	if r.socketErrors != 4321 || r.notOK != 17 {
		t.Errorf("got %d socket errors and %d bad answers, want 4321 and 17", r.socketErrors, r.notOK)
	}
}

func TestParseWrkNonsense(t *testing.T) {
	t.Parallel()
	for name, out := range map[string]string{
		"nothing":         "",
		"no total":        strings.Replace(wrkOutput, "requests in", "answers in", 1),
		"no answer":       strings.Replace(wrkOutput, "39223", "0", 1),
		"huge total":      strings.Replace(wrkOutput, "39223", "99999999999999999999", 1),
		"no time":         strings.Replace(wrkOutput, "3.01s", "soon", 1),
		"no distribution": strings.Replace(wrkOutput, "99%", "98%", 1),
		"latency":         strings.Replace(wrkOutput, "987.00us", "quick", 1),
	} {
		if r, err := parseWrk(out); err == nil {
			t.Errorf("%s: no error but %+v", name, r)
		}
	}
}

func TestParseProcessCPU(t *testing.T) {
	t.Parallel()
	const stat = "123 (a ) (b) S 1 123 123 0 -1 4194560 1000 0 0 0 250 150 7 7 20 0 9 0 100 1 2 3\n"
	got, err := parseProcessCPU(stat)
	if err != nil || got != 4*time.Second {
		t.Errorf("got %v, %v, want 4s", got, err)
	}
	for _, bad := range []string{"", "123 (caddy) S 1", "123 caddy S", strings.Replace(stat, "250", "x", 1)} {
		if got, err := parseProcessCPU(bad); err == nil {
			t.Errorf("%q: no error but %v", bad, got)
		}
	}
}

func TestParseMachineCPU(t *testing.T) {
	t.Parallel()
	const stat = "cpu  100 20 30 999999 888888 4 5 6 777 666\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
	got, err := parseMachineCPU(stat)
	if want := 165 * tick; err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9", strings.Replace(stat, "30", "x", 1)} {
		if got, err := parseMachineCPU(bad); err == nil {
			t.Errorf("%q: no error but %v", bad, got)
		}
	}
}

func TestHeaderValues(t *testing.T) {
	t.Parallel()
	got := headerValues("Host: a\r\nx-user-id: one\r\nX-User-Id:two\r\n", "X-User-Id")
	if len(got) != 2 || got[0] != "one" || got[1] != "two" {
		t.Errorf("got %q, want one and two", got)
	}
}

func TestParseFlags(t *testing.T) {
	t.Parallel()
	o, err := parseFlags([]string{"-rounds", "6", "-gogc", "100", "-header", "A: b", "-header", "C: d"})
	if err != nil || o.Rounds != 6 || o.GOGC != "100" || len(o.Headers) != 2 {
		t.Errorf("got %+v, %v", o, err)
	}
	for _, o := range []options{
		{},
		{Settings: Settings{Rounds: 1, Seconds: 1, Procs: 1, Threads: 4, Connections: 2, Log: "default"}},
		{Settings: Settings{Rounds: 1, Seconds: 1, Procs: 1, Threads: 1, Connections: 1, Log: "default", GOGC: "much"}},
	} {
		if err := o.check(nil); err == nil {
			t.Errorf("no error for %+v", o)
		}
	}
}
