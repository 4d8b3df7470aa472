// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/session"
	"github.com/minigate/minigate/module/store"
	"github.com/minigate/minigate/plugin/stores/memory"
)

func newBenchManager(b *testing.B) *session.Manager {
	b.Helper()
	opened, err := new(memory.Opener).Open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { opened.Close() })
	keys, err := keyring.New(keyring.NewMaster())
	if err != nil {
		b.Fatal(err)
	}
	return session.NewManager(session.Options{Store: opened, Keys: keys, Cache: session.NewCache()})
}

func benchUser(i int) identity.Identity {
	return identity.Identity{
		Platform: "wechat", Program: "wx0123456789abcdef",
		OpenID: fmt.Sprintf("oGZUI0egBJY1zhBYw2KhdUf%05d", i), UnionID: fmt.Sprintf("ocMvos6NjeKLIBqg5Mr9Qjx%05d", i),
	}
}

// BenchmarkValidate is what each request of a signed-in user costs.
func BenchmarkValidate(b *testing.B) {
	for _, warm := range []bool{true, false} {
		b.Run(map[bool]string{true: "warm", false: "cold"}[warm], func(b *testing.B) {
			m := newBenchManager(b)
			s, token, err := m.Create(b.Context(), session.Login{User: benchUser(0)})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if !warm {
					m.Cache.Invalidate(s.Subject)
				}
				if _, _, err := m.Validate(context.Background(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// oblivious is a store that keeps nothing, so that only the warm cache weighs.
type oblivious struct{ store.Store }

func (oblivious) Update(_ context.Context, _ string, change store.Change) error {
	_, _, err := change(nil)
	return err
}

// BenchmarkMillionSessions reports what each of a million warm sessions weighs,
// and the longest time for which a sweep keeps readers waiting.
func BenchmarkMillionSessions(b *testing.B) {
	const sessions = 1_000_000
	m := newBenchManager(b)
	m.Store = oblivious{}
	tokens := make([]string, 0, sessions/100)
	before := heap()
	for i := range sessions {
		_, token, err := m.Create(b.Context(), session.Login{User: benchUser(i)})
		if err != nil {
			b.Fatal(err)
		}
		if i%100 == 0 {
			tokens = append(tokens, token)
		}
	}
	weight := float64(heap()-before) / sessions

	i := 0
	for b.Loop() {
		if _, _, err := m.Validate(b.Context(), tokens[i%len(tokens)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
	b.ReportMetric(weight, "B/session")
	b.ReportMetric(float64(m.Cache.SweepAll().Microseconds()), "µs-longest-pause")
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
