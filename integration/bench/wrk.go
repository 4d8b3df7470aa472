// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// load is what wrk is asked to do.
type load struct {
	url         string
	seconds     int
	connections int
	threads     int
	headers     []string
}

// wrkReport is what wrk says about a run.
type wrkReport struct {
	requests     int
	elapsed      time.Duration
	p50, p99     time.Duration
	notOK        int // answers other than 2xx and 3xx
	socketErrors int // connections and requests that failed
	cpu          time.Duration
}

// throughput returns the requests per second.
func (r wrkReport) throughput() float64 { return float64(r.requests) / r.elapsed.Seconds() }

// findWrk returns the path of wrk, or says how to get it.
func findWrk() (string, error) {
	path, err := exec.LookPath("wrk")
	if err != nil {
		return "", errors.New("the load generator wrk is missing; on Debian and Ubuntu: apt install wrk")
	}
	return path, nil
}

// runWrk puts a load on a target. It is an error if an answer is not OK.
func runWrk(ctx context.Context, wrk string, l load) (wrkReport, error) {
	args := []string{
		"--latency",
		"--duration", strconv.Itoa(l.seconds) + "s",
		"--connections", strconv.Itoa(l.connections),
		"--threads", strconv.Itoa(l.threads),
	}
	for _, header := range l.headers {
		args = append(args, "--header", header)
	}
	cmd := command(ctx, wrk, append(args, l.url)...)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return wrkReport{}, context.Cause(ctx)
	}
	if err != nil {
		return wrkReport{}, fmt.Errorf("running wrk: %w\n%s", err, out)
	}
	report, err := parseWrk(string(out))
	if err != nil {
		return wrkReport{}, fmt.Errorf("reading what wrk says: %w\n%s", err, out)
	}
	if report.notOK > 0 {
		return wrkReport{}, fmt.Errorf("%d of %d answers are not 2xx or 3xx", report.notOK, report.requests)
	}
	report.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return report, nil
}

// Lines of wrk's output, version 4.
var (
	wrkPercentile   = regexp.MustCompile(`(?m)^\s+(50|99)%\s+(\S+) *$`)
	wrkTotal        = regexp.MustCompile(`(?m)^\s+(\d+) requests in ([^\s,]+),`)
	wrkNotOK        = regexp.MustCompile(`(?m)^\s+Non-2xx or 3xx responses: (\d+)$`)
	wrkSocketErrors = regexp.MustCompile(`(?m)^\s+Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)$`)
)

// parseWrk reads what `wrk --latency` prints.
func parseWrk(out string) (wrkReport, error) {
	var r wrkReport
	total := wrkTotal.FindStringSubmatch(out)
	if total == nil {
		return r, errors.New("no total of requests")
	}
	var err error
	if r.requests, err = strconv.Atoi(total[1]); err != nil {
		return r, fmt.Errorf("total of requests: %w", err)
	}
	if r.elapsed, err = parseWrkTime(total[2]); err != nil {
		return r, err
	}
	if r.requests == 0 || r.elapsed <= 0 {
		return r, errors.New("no request was answered")
	}
	for _, match := range wrkPercentile.FindAllStringSubmatch(out, -1) {
		latency, err := parseWrkTime(match[2])
		if err != nil {
			return r, err
		}
		if match[1] == "50" {
			r.p50 = latency
		} else {
			r.p99 = latency
		}
	}
	if r.p50 == 0 || r.p99 == 0 {
		return r, errors.New("no latency distribution")
	}
	if match := wrkNotOK.FindStringSubmatch(out); match != nil {
		if r.notOK, err = strconv.Atoi(match[1]); err != nil {
			return r, fmt.Errorf("answers that are not OK: %w", err)
		}
	}
	if match := wrkSocketErrors.FindStringSubmatch(out); match != nil {
		for _, text := range match[1:] {
			n, err := strconv.Atoi(text)
			if err != nil {
				return r, fmt.Errorf("socket errors: %w", err)
			}
			r.socketErrors += n
		}
	}
	return r, nil
}

// parseWrkTime reads a time as wrk writes it: 12.34us, 1.23ms, 3.00s, 1.50m or
// 1.00h.
func parseWrkTime(text string) (time.Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("time %q: %w", text, err)
	}
	return d, nil
}
