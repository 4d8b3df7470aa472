// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Call is one platform call as it was received, secrets included.
type Call struct {
	// Time is when it was received, by the simulator's clock.
	Time time.Time `json:"time"`
	// Method is the HTTP method.
	Method string `json:"method"`
	// Path is the path of the platform's interface.
	Path string `json:"path"`
	// API is the name of the API where several share the path.
	API string `json:"api,omitempty"`
	// Program is the app id that the call names; empty where it names none that
	// is configured.
	Program string `json:"program"`
	// Query is the query exactly as sent, with its escapes.
	Query string `json:"query"`
	// ContentType is the header of that name.
	ContentType string `json:"content_type,omitempty"`
	// Body is the body, empty where a fault reset the connection before it was
	// read.
	Body string `json:"body,omitempty"`
	// Cut says that the query or body was longer than the 4096 bytes kept.
	Cut bool `json:"cut,omitempty"`
}

// CallCount is how often one interface was called for one program.
type CallCount struct {
	Program string `json:"program"`
	Path    string `json:"path"`
	API     string `json:"api,omitempty"`
	Count   int    `json:"count"`
}

// Calls is what the platforms were asked since the start or the last reset.
type Calls struct {
	// Total counts all calls.
	Total int `json:"total"`
	// Counts counts them by program and path, in the order of these.
	Counts []CallCount `json:"counts"`
	// Recorded are the latest calls, oldest first.
	Recorded []Call `json:"calls"`
}

// Count returns how often path, or the API of this name, was called for
// program. An empty argument stands for any.
func (c Calls) Count(program, path string) int {
	total := 0
	for _, count := range c.Counts {
		if (program == "" || count.Program == program) && (path == "" || count.Path == path || count.API == path) {
			total += count.Count
		}
	}
	return total
}

// Calls returns the counts and the record of platform calls. Calls refused by
// a fault are among them; calls of the control surface are not.
func (s *Simulator) Calls() Calls { return s.calls.snapshot() }

// ResetCalls forgets all platform calls.
func (s *Simulator) ResetCalls() { s.calls.reset() }

// callLog counts calls and keeps the latest in a ring. It is safe for
// concurrent use, and bounded: the keys of counts are configured programs and
// known paths and APIs.
type callLog struct {
	mu     sync.Mutex
	limit  int
	total  int
	counts map[countKey]int
	ring   []Call
	oldest int
}

type countKey struct{ program, path, api string }

// newCallLog makes a log that keeps the latest limit calls.
func newCallLog(limit int) *callLog {
	return &callLog{limit: limit, counts: make(map[countKey]int)}
}

// add enters a call.
func (l *callLog) add(c Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total++
	l.counts[countKey{c.Program, c.Path, c.API}]++
	if len(l.ring) < l.limit {
		l.ring = append(l.ring, c)
		return
	}
	l.ring[l.oldest] = c
	l.oldest = (l.oldest + 1) % l.limit
}

// snapshot copies the log.
func (l *callLog) snapshot() Calls {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := Calls{
		Total:    l.total,
		Counts:   make([]CallCount, 0, len(l.counts)),
		Recorded: append(append([]Call{}, l.ring[l.oldest:]...), l.ring[:l.oldest]...),
	}
	for key, count := range l.counts {
		calls.Counts = append(calls.Counts, CallCount{Program: key.program, Path: key.path, API: key.api, Count: count})
	}
	slices.SortFunc(calls.Counts, func(a, b CallCount) int {
		return cmp.Or(cmp.Compare(a.Program, b.Program), cmp.Compare(a.Path, b.Path), cmp.Compare(a.API, b.API))
	})
	return calls
}

// reset empties the log.
func (l *callLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total, l.oldest, l.ring = 0, 0, nil
	clear(l.counts)
}
