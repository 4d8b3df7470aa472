// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// row is what came of one fault.
type row struct {
	Topology, Fault string
	// Lasted is from the fault to the end of its cause.
	Lasted time.Duration
	// Failover is from the fault until others had taken over; zero where nobody
	// does.
	Failover time.Duration
	// Back is from the end of the cause until all gateways did everything.
	Back time.Duration
	tally
}

// line is the row for people who watch.
func (r *row) line() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s for %s, ", r.Topology, r.Fault, short(r.Lasted))
	if r.Failover > 0 {
		fmt.Fprintf(&text, "others took over after %s, ", short(r.Failover))
	}
	fmt.Fprintf(&text, "back after %s; %d served, refused %s; %d checks", short(r.Back), r.Served, kinds(r.Refused), r.Checked)
	for _, what := range never {
		if n := r.Violations[what]; n > 0 {
			fmt.Fprintf(&text, "; %s: %d", what, n)
		}
	}
	return text.String()
}

// report is what came of all trials.
type report struct {
	seed  uint64
	begun time.Time
	rows  []row
	sum   tally // of everything, also between the faults
}

// text is the report as a table in Markdown. Of a fault that came more than once it
// has the longest times.
func (r *report) text() string {
	merged := make(map[string]*row)
	var order []string
	times := make(map[string]int)
	for _, line := range r.rows {
		key := line.Topology + " " + line.Fault
		times[key]++
		m, known := merged[key]
		if !known {
			m = &row{Topology: line.Topology, Fault: line.Fault, tally: newTally()}
			merged[key] = m
			order = append(order, key)
		}
		m.Lasted, m.Failover, m.Back = max(m.Lasted, line.Lasted), max(m.Failover, line.Failover), max(m.Back, line.Back)
		m.add(line.tally)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n| Redis | fault | times | lasted | taken over after | back after | served | refused | checked |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, key := range order {
		m := merged[key]
		failover := ""
		if m.Failover > 0 {
			failover = short(m.Failover)
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %s | %s | %s | %d | %s | %d |\n",
			m.Topology, m.Fault, times[key], short(m.Lasted), failover, short(m.Back), m.Served, kinds(m.Refused), m.Checked)
	}
	fmt.Fprintf(&b, "\nseed %d, %s; %d faults; acknowledged: %d sign-ins, %d sign-outs; %d requests served; %d refused that had to be; %d checks of sessions after a fault\n",
		r.seed, time.Since(r.begun).Round(time.Second), len(r.rows), r.sum.Logins, r.sum.Logouts, r.sum.Served, r.sum.Forged, r.sum.Checked)
	for _, what := range never {
		fmt.Fprintf(&b, "%s: %d\n", what, r.sum.Violations[what])
	}
	return b.String()
}

// verdict is an error if anything was counted that must never happen.
func (r *report) verdict() error {
	var failed []error
	for _, what := range never {
		if n := r.sum.Violations[what]; n > 0 {
			failed = append(failed, fmt.Errorf("%s: %d", what, n))
		}
	}
	return errors.Join(failed...)
}

// kinds says how many of which kind.
func kinds(refused map[string]int) string {
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(refused)) {
		if n := refused[kind]; n > 0 {
			all = append(all, fmt.Sprintf("%d %s", n, kind))
		}
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

// short is a duration in tenths of a second.
func short(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
