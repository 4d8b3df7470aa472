// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestQuantiles(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{7}, spread{7, 7, 7}},
		{[]float64{2, 1}, spread{1.25, 1.5, 1.75}},
		{[]float64{5, 1, 4, 2, 3}, spread{2, 3, 4}},
		{[]float64{4, 1, 3, 2}, spread{1.75, 2.5, 3.25}},
		{[]float64{1, 1, 1, 1, 1000}, spread{1, 1, 1}},
	} {
		before := slices.Clone(test.values)
		if got := spreadOf(test.values); got != test.want {
			t.Errorf("%v: got %+v, want %+v", test.values, got, test.want)
		}
		if !slices.Equal(before, test.values) {
			t.Errorf("%v has become %v", before, test.values)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("the median of nothing is %v, want NaN", got)
	}
}

// The paired ratio sees through a drift of the machine that the ratio of the
// medians takes for a difference.
func TestCompareTargets(t *testing.T) {
	t.Parallel()
	var first, second TargetResult
	first.Name, second.Name = on, off
	for i, speed := range []float64{1000, 400, 900} {
		first.Samples = append(first.Samples, Sample{Throughput: speed * 0.9, CPU: 110 / float64(i+1)})
		second.Samples = append(second.Samples, Sample{Throughput: speed, CPU: 100 / float64(i+1)})
	}
	second.Samples[2].Throughput = 1800 // one disturbed round
	r := compareTargets(first, second)
	if got := fmt.Sprintf("%.2f %.2f %.2f", r.OfMedians, r.Throughput.Median, r.CPU.Median); got != "0.81 0.90 1.10" {
		t.Errorf("ratio of medians, paired, processor time: %s, want 0.81 0.90 1.10", got)
	}
	if r.String() != "on / off" {
		t.Errorf("the ratio is called %q", r)
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for round := range 6 {
		seen[fmt.Sprint(order(3, round))] = true
	}
	if len(seen) != 6 {
		t.Errorf("six rounds have the orders %v, want all", seen)
	}
	for round := range 7 {
		sorted := slices.Sorted(slices.Values(order(5, round)))
		if !slices.Equal(sorted, []int{0, 1, 2, 3, 4}) {
			t.Errorf("round %d measures %v", round, sorted)
		}
	}
}

// Every recorded result can be read, and says the same as its samples.
func TestRecordedResults(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("results/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("recorded results: %v, %v", paths, err)
	}
	for _, path := range paths {
		r, err := readResult(path)
		if err != nil {
			t.Error(err)
			continue
		}
		recorded := fmt.Sprint(r.Ratios)
		r.summarize()
		if got := fmt.Sprint(r.Ratios); got != recorded || recorded == "[]" {
			t.Errorf("%s: the ratios are %s, but the samples say %s", path, recorded, got)
		}
		copied := filepath.Join(t.TempDir(), "copy.json")
		if err := r.write(copied); err != nil {
			t.Fatal(err)
		}
		again, err := readResult(copied)
		if err != nil {
			t.Fatal(err)
		}
		text := again.text() + again.textAgainst(r)
		if strings.Contains(text, "not the same") || strings.Count(text, on+" / "+off) < 3 {
			t.Errorf("%s is shown as\n%s", path, text)
		}
	}
}
