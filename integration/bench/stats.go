// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
)

// spread describes measurements of one thing by their quartiles, which a few
// disturbed rounds do not move.
type spread struct {
	Lower  float64 `json:"lower_quartile"`
	Median float64 `json:"median"`
	Upper  float64 `json:"upper_quartile"`
}

// spreadOf returns the quartiles of values.
func spreadOf(values []float64) spread {
	return spread{quantile(values, 0.25), median(values), quantile(values, 0.75)}
}

// median returns the middle of values, or NaN if there are none.
func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile returns the value below which the share q of values lies, between
// two neighbours by linear interpolation. It is NaN if there are no values.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	position := q * float64(len(sorted)-1)
	below := int(position)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (position-float64(below))*(sorted[above]-sorted[below])
}

// divide returns the ratios of values with the same index, that is, of the same
// round.
func divide(values, by []float64) []float64 {
	ratios := make([]float64, min(len(values), len(by)))
	for i := range ratios {
		ratios[i] = values[i] / by[i]
	}
	return ratios
}

// order returns the order in which n targets are measured in a round. Six
// rounds of three targets are all orders: each target is at each place, and
// behind each other one, equally often.
func order(n, round int) []int {
	indexes := make([]int, n)
	for i := range indexes {
		indexes[i] = (i + round/2) % n
	}
	if round%2 == 1 {
		slices.Reverse(indexes)
	}
	return indexes
}

// Ratio compares two targets.
type Ratio struct {
	// Of and To are the names of the targets.
	Of string `json:"of"`
	To string `json:"to"`
	// OfMedians is the ratio of the median throughputs.
	OfMedians float64 `json:"throughput_of_medians"`
	// Throughput and CPU are of the ratios within each round.
	Throughput spread `json:"throughput_paired"`
	CPU        spread `json:"cpu_per_request_paired"`
}

// compareTargets returns the ratio of one target's measurements to another's.
func compareTargets(of, to TargetResult) Ratio {
	throughput := func(s Sample) float64 { return s.Throughput }
	cpu := func(s Sample) float64 { return s.CPU }
	return Ratio{
		Of: of.Name, To: to.Name,
		OfMedians:  median(of.each(throughput)) / median(to.each(throughput)),
		Throughput: spreadOf(divide(of.each(throughput), to.each(throughput))),
		CPU:        spreadOf(divide(of.each(cpu), to.each(cpu))),
	}
}

// String returns the names of the two targets.
func (r Ratio) String() string { return fmt.Sprintf("%s / %s", r.Of, r.To) }
