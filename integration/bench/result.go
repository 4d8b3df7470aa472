// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Settings are how a comparison is made.
type Settings struct {
	Rounds      int      `json:"rounds"`
	Seconds     int      `json:"seconds"`
	Connections int      `json:"connections"`
	Threads     int      `json:"threads"`
	Procs       int      `json:"gomaxprocs"`
	GOGC        string   `json:"gogc,omitempty"`
	Floor       bool     `json:"floor,omitempty"`
	Redis       string   `json:"redis,omitempty"`
	Log         string   `json:"log"`
	Bare        bool     `json:"bare,omitempty"`
	Headers     []string `json:"headers,omitempty"`
}

// Sample is one run of wrk against one target. Times are in microseconds.
type Sample struct {
	Round int `json:"round"`
	// Place is the target's place in the round.
	Place      int     `json:"place"`
	Requests   int     `json:"requests"`
	Throughput float64 `json:"requests_per_second"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	// CPU is the processor time of the proxy, a request.
	CPU float64 `json:"cpu_us_per_request"`
	// Noise is the share of the machine's processor time that went to neither
	// the proxy, wrk nor the upstream.
	Noise        float64 `json:"noise"`
	SocketErrors int     `json:"socket_errors,omitempty"`
}

// TargetResult is what was measured at one target.
type TargetResult struct {
	Name       string   `json:"name"`
	What       string   `json:"what"`
	Throughput spread   `json:"requests_per_second"`
	P50        float64  `json:"median_p50_us"`
	P99        float64  `json:"median_p99_us"`
	CPU        spread   `json:"cpu_us_per_request"`
	Samples    []Sample `json:"samples"`
}

// each returns one figure of every sample.
func (t TargetResult) each(figure func(Sample) float64) []float64 {
	values := make([]float64, len(t.Samples))
	for i, s := range t.Samples {
		values[i] = figure(s)
	}
	return values
}

// Result is a comparison as it is recorded.
type Result struct {
	Time     time.Time `json:"time"`
	Note     string    `json:"note,omitempty"`
	Subject  Subject   `json:"subject"`
	Settings Settings  `json:"settings"`
	// Direct is the throughput of the upstream without a proxy: far above all
	// others, or the upstream is what was measured.
	Direct float64 `json:"direct_requests_per_second"`
	// Noise is over all samples.
	Noise   spread         `json:"noise"`
	Targets []TargetResult `json:"targets"`
	Ratios  []Ratio        `json:"ratios"`
}

// summarize fills in what follows from the samples.
func (r *Result) summarize() {
	byName := make(map[string]TargetResult)
	var noise []float64
	for i := range r.Targets {
		t := &r.Targets[i]
		t.Throughput = spreadOf(t.each(func(s Sample) float64 { return s.Throughput }))
		t.CPU = spreadOf(t.each(func(s Sample) float64 { return s.CPU }))
		t.P50 = median(t.each(func(s Sample) float64 { return s.P50 }))
		t.P99 = median(t.each(func(s Sample) float64 { return s.P99 }))
		noise = append(noise, t.each(func(s Sample) float64 { return s.Noise })...)
		byName[t.Name] = *t
	}
	r.Noise = spreadOf(noise)
	r.Ratios = nil
	for _, pair := range ratios(r.Settings) {
		r.Ratios = append(r.Ratios, compareTargets(byName[pair[0]], byName[pair[1]]))
	}
}

// ratio returns the ratio of two targets, if it was measured.
func (r *Result) ratio(of, to string) (Ratio, bool) {
	for _, ratio := range r.Ratios {
		if ratio.Of == of && ratio.To == to {
			return ratio, true
		}
	}
	return Ratio{}, false
}

// write records a result in a file.
func (r *Result) write(path string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("recording the result: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("recording the result: %w", err)
	}
	return nil
}

// readResult reads a recorded result.
func readResult(path string) (*Result, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the recorded result: %w", err)
	}
	r := new(Result)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("reading the recorded result %s: %w", path, err)
	}
	return r, nil
}
