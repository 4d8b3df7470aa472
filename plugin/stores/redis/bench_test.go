// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minigate/minigate/module/store"
)

// measureInvalidation writes times times, and returns how long it takes from the
// beginning of a write until the other node is told.
func measureInvalidation(t testing.TB, writer store.Store, w *watcher, times int) (p50, p99 time.Duration) {
	t.Helper()
	took := make([]time.Duration, times)
	for i := range took {
		key := fmt.Sprint("user/", i)
		begin := time.Now()
		put(t, writer, key, "value")
		w.wants(t, key)
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	return took[times/2], took[times*99/100]
}

// benchValue is as long as a session with its sealed platform key.
var benchValue = make([]byte, 400)

// parallel has that many goroutines share b.N calls of do.
func parallel(b *testing.B, goroutines int, do func(i int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range goroutines {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= b.N; i = int(next.Add(1)) {
				if err := do(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func BenchmarkStore(b *testing.B) {
	if !installed(b, "redis-server") {
		return
	}
	s := openStore(b, Opener{Addresses: []string{startServer(b).address}})
	ctx := context.Background()
	key := func(i int) string { return fmt.Sprint("user/", i%1000) }
	for i := range 1000 {
		put(b, s, key(i), string(benchValue))
	}
	for _, operation := range []struct {
		name string
		do   func(i int) error
	}{
		{"Get", func(i int) error {
			_, err := s.Get(ctx, key(i))
			return err
		}},
		{"Put", func(i int) error { return s.Put(ctx, key(i), benchValue, time.Hour) }},
		{"Update", func(i int) error {
			return s.Update(ctx, key(i), func(old []byte) ([]byte, time.Duration, error) { return old, time.Hour, nil })
		}},
	} {
		for _, goroutines := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", operation.name, goroutines), func(b *testing.B) {
				parallel(b, goroutines, operation.do)
			})
		}
	}
}

func BenchmarkInvalidation(b *testing.B) {
	if !installed(b, "redis-server") {
		return
	}
	server := startServer(b)
	for _, invalidation := range []string{tracking, pubsub} {
		b.Run(invalidation, func(b *testing.B) {
			o := Opener{Addresses: []string{server.address}, Invalidation: invalidation}
			writer, w := openStore(b, o), startWatch(b, openStore(b, o), "user/")
			b.ResetTimer()
			p50, p99 := measureInvalidation(b, writer, w, max(b.N, 100))
			b.ReportMetric(float64(p50.Microseconds()), "p50-µs")
			b.ReportMetric(float64(p99.Microseconds()), "p99-µs")
		})
	}
}
