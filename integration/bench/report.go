// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// goal is what the throughput with the gateway should be of that without. It is
// for people to read and decides nothing: a noisy machine misses it by chance.
const goal = 0.97

// text is a result for people.
func (r *Result) text() string {
	var b strings.Builder
	s := r.Settings
	fmt.Fprintf(&b, "\n%d rounds of %d s, %d connections, %d wrk threads, GOMAXPROCS=%d, log %s\n",
		s.Rounds, s.Seconds, s.Connections, s.Threads, s.Procs, s.Log)
	fmt.Fprintf(&b, "%s, %d cores, %s, Caddy %s, revision %s\n",
		r.Subject.Processor, r.Subject.Cores, r.Subject.Go, r.Subject.Caddy, r.Subject.Revision)
	fmt.Fprintf(&b, "the upstream alone: %.0f requests/s\n", r.Direct)
	fmt.Fprintf(&b, "processor time that went to others: %s (median, quartiles)\n\n", r.Noise.format(percent))

	rows := [][]string{{"target", "requests/s, quartiles", "p50", "p99", "CPU/request, quartiles", "errors", ""}}
	for _, t := range r.Targets {
		errors := 0
		for _, sample := range t.Samples {
			errors += sample.SocketErrors
		}
		rows = append(rows, []string{
			t.Name, t.Throughput.format(whole), microseconds(t.P50), microseconds(t.P99),
			t.CPU.format(tenth) + " µs", strconv.Itoa(errors), t.What,
		})
	}
	b.WriteString(table(rows) + "\n")

	rows = [][]string{{"ratio", "of medians", "paired, quartiles", "CPU/request paired, quartiles"}}
	for _, ratio := range r.Ratios {
		rows = append(rows, []string{
			ratio.String(), three(ratio.OfMedians), ratio.Throughput.format(three), ratio.CPU.format(three),
		})
	}
	b.WriteString(table(rows))

	if ratio, ok := r.ratio(on, off); ok {
		word := "reached"
		if ratio.Throughput.Median < goal {
			word = "missed"
		}
		fmt.Fprintf(&b, "\nthe goal of %s ≥ %.2f is %s: %.3f\n", ratio, goal, word, ratio.Throughput.Median)
	}
	return b.String()
}

// textAgainst is the ratios of a result next to those of a recorded one.
func (r *Result) textAgainst(recorded *Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nrecorded %s, revision %s", recorded.Time.Format(time.DateOnly), recorded.Subject.Revision)
	if recorded.Note != "" {
		fmt.Fprintf(&b, ": %s", recorded.Note)
	}
	b.WriteByte('\n')
	for _, difference := range r.differences(recorded) {
		fmt.Fprintf(&b, "not the same: %s\n", difference)
	}
	rows := [][]string{{"ratio", "recorded", "now", "CPU recorded", "now"}}
	for _, ratio := range r.Ratios {
		if old, ok := recorded.ratio(ratio.Of, ratio.To); ok {
			rows = append(rows, []string{
				ratio.String(), old.Throughput.format(three), ratio.Throughput.format(three),
				old.CPU.format(three), ratio.CPU.format(three),
			})
		}
	}
	b.WriteString(table(rows))
	return b.String()
}

// table aligns the columns of rows.
func table(rows [][]string) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		_, _ = io.WriteString(t, strings.Join(row, "\t")+"\n")
	}
	_ = t.Flush()
	return b.String()
}

// differences says what else than the gateway may make a difference to a
// recorded result. Rounds and their length make none.
func (r *Result) differences(recorded *Result) []string {
	var list []string
	add := func(what string, old, now any) {
		if old, now := fmt.Sprint(old), fmt.Sprint(now); old != now {
			list = append(list, fmt.Sprintf("%s: %s then, %s now", what, old, now))
		}
	}
	add("connections", recorded.Settings.Connections, r.Settings.Connections)
	add("wrk threads", recorded.Settings.Threads, r.Settings.Threads)
	add("GOMAXPROCS", recorded.Settings.Procs, r.Settings.Procs)
	add("-log", recorded.Settings.Log, r.Settings.Log)
	add("-bare", recorded.Settings.Bare, r.Settings.Bare)
	add("headers", strings.Join(recorded.Settings.Headers, "; "), strings.Join(r.Settings.Headers, "; "))
	add("processor", recorded.Subject.Processor, r.Subject.Processor)
	add("cores", recorded.Subject.Cores, r.Subject.Cores)
	add("Go", recorded.Subject.Go, r.Subject.Go)
	add("Caddy", recorded.Subject.Caddy, r.Subject.Caddy)
	return list
}

// format writes the median and the quartiles.
func (s spread) format(number func(float64) string) string {
	return fmt.Sprintf("%s (%s…%s)", number(s.Median), number(s.Lower), number(s.Upper))
}

// percent writes a share.
func percent(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) }

// whole writes a throughput.
func whole(v float64) string { return fmt.Sprintf("%.0f", v) }

// tenth writes a time in microseconds.
func tenth(v float64) string { return fmt.Sprintf("%.1f", v) }

// three writes a ratio.
func three(v float64) string { return fmt.Sprintf("%.3f", v) }

// microseconds writes a time given in microseconds.
func microseconds(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.2f ms", v/1000)
	}
	return fmt.Sprintf("%.1f µs", v)
}
