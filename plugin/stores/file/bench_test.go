// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

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

// benchKey spreads over the tree, as the keys of sessions do.
func benchKey(i int) string {
	return fmt.Sprintf("session/%016x", uint64(i%100_000)*0x9e3779b97f4a7c15)
}

// benchValue is as long as a session with its sealed platform key.
var benchValue = make([]byte, 400)

// BenchmarkPut is the promise of the store: durable puts a second.
func BenchmarkPut(b *testing.B) {
	for _, goroutines := range []int{1, 2, 8, 64, 256} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			s := openTest(b, filepath.Join(b.TempDir(), "sessions.db"), options{})
			parallel(b, goroutines, func(i int) error {
				return s.Put(context.Background(), benchKey(i), benchValue, time.Hour)
			})
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			s := openTest(b, filepath.Join(b.TempDir(), "sessions.db"), options{})
			parallel(b, goroutines, func(i int) error {
				return s.Update(context.Background(), benchKey(i), func([]byte) ([]byte, time.Duration, error) {
					return benchValue, time.Hour, nil
				})
			})
		})
	}
}

// BenchmarkBoltBatch is what bbolt offers for the same purpose.
func BenchmarkBoltBatch(b *testing.B) {
	for _, delay := range []time.Duration{10 * time.Millisecond, time.Millisecond} {
		for _, goroutines := range []int{1, 2, 8, 64, 256} {
			b.Run(fmt.Sprintf("%v/%d", delay, goroutines), func(b *testing.B) {
				s := openTest(b, filepath.Join(b.TempDir(), "sessions.db"), options{})
				s.db.MaxBatchDelay = delay
				parallel(b, goroutines, func(i int) error {
					record, err := newRecord(benchValue, time.Hour, time.Now())
					if err != nil {
						return err
					}
					return s.db.Batch(func(tx *bolt.Tx) error {
						return tx.Bucket(recordsBucket).Put([]byte(benchKey(i)), record)
					})
				})
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s := openTest(b, filepath.Join(b.TempDir(), "sessions.db"), options{})
	for i := range 256 {
		if err := s.Put(context.Background(), benchKey(i), benchValue, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			parallel(b, goroutines, func(i int) error {
				_, err := s.Get(context.Background(), benchKey(i%256))
				return err
			})
		})
	}
}
