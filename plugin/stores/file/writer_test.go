// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/minigate/minigate/module/store"
)

// gate stands between a store's writer and bbolt. Each transaction shows up in
// begun, and goes on when it has got its error, or nil, from result.
type gate struct {
	begun  chan struct{}
	result chan error
}

func newGate(s *boltStore) *gate {
	g := &gate{begun: make(chan struct{}), result: make(chan error)}
	update := s.writer.update
	s.writer.update = func(do func(*bolt.Tx) error) error {
		return update(func(tx *bolt.Tx) error {
			err := do(tx)
			g.begun <- struct{}{}
			return errors.Join(err, <-g.result)
		})
	}
	return g
}

// held starts a store whose writer waits in a transaction, so that what comes
// next has to queue.
func held(t *testing.T) (*boltStore, *gate) {
	t.Helper()
	s := openTest(t, newPath(t), options{})
	g := newGate(s)
	go func() { _ = s.Put(context.Background(), "first", []byte("value"), 0) }()
	<-g.begun
	return s, g
}

// calling calls do, and returns its error when it has one.
func calling(do func() error) <-chan error {
	result := make(chan error, 1)
	go func() { result <- do() }()
	return result
}

func queued(t *testing.T, s *boltStore, n int) {
	t.Helper()
	until(t, fmt.Sprint(n, " operations are queued"), func() bool { return len(s.writer.queue) == n })
}

func setTo(value string) store.Change {
	return func([]byte) ([]byte, time.Duration, error) { return []byte(value), 0, nil }
}

// TestGroupCommit checks that what queues during one transaction shares the
// next, and that those who fail there fail alone.
func TestGroupCommit(t *testing.T) {
	s, g := held(t)
	ctx := context.Background()
	refused := errors.New("refused")
	var puts []<-chan error
	for i := range 50 {
		puts = append(puts, calling(func() error {
			return s.Put(ctx, fmt.Sprint("key/", i), []byte("value"), 0)
		}))
	}
	failing := calling(func() error {
		return s.Update(ctx, "failing", func([]byte) ([]byte, time.Duration, error) { return []byte("x"), 0, refused })
	})
	panicking := calling(func() error {
		return s.Update(ctx, "panicking", func([]byte) ([]byte, time.Duration, error) { panic("on purpose") })
	})
	ending := calling(func() error {
		return s.Update(ctx, "ending", func([]byte) ([]byte, time.Duration, error) {
			runtime.Goexit()
			return nil, 0, nil
		})
	})
	queued(t, s, 53)
	g.result <- nil
	<-g.begun // one transaction for all of them
	g.result <- nil
	for _, put := range puts {
		if err := <-put; err != nil {
			t.Errorf("Put beside one that fails: %v", err)
		}
	}
	if err := <-failing; !errors.Is(err, refused) {
		t.Errorf("Update: error %v, want that of change", err)
	}
	if err := <-panicking; err == nil || !strings.Contains(err.Error(), "change panicked: on purpose") {
		t.Errorf("Update with a change that panics: error %v", err)
	}
	if err := <-ending; err == nil || !strings.Contains(err.Error(), "change ended its goroutine") {
		t.Errorf("Update with a change that ends its goroutine: error %v", err)
	}
	for i := range 50 {
		wantValue(t, s, fmt.Sprint("key/", i), "value")
	}
	if n := inFile(t, s); n != 51 {
		t.Errorf("%d records in the file, want 51", n)
	}
}

// TestOrder checks that operations on one key take effect in the order in
// which they queued, also within a transaction.
func TestOrder(t *testing.T) {
	s, g := held(t)
	ctx := context.Background()
	add := func(s string) store.Change {
		return func(old []byte) ([]byte, time.Duration, error) { return append(old, s...), 0, nil }
	}
	var results []<-chan error
	for i, do := range []func() error{
		func() error { return s.Put(ctx, "key", []byte("a"), 0) },
		func() error { return s.Update(ctx, "key", add("b")) },
		func() error { return s.Delete(ctx, "key") },
		func() error { return s.Update(ctx, "key", add("c")) },
		func() error { return s.Update(ctx, "key", add("d")) },
	} {
		results = append(results, calling(do))
		queued(t, s, i+1)
	}
	g.result <- nil
	<-g.begun
	g.result <- nil
	for _, result := range results {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	wantValue(t, s, "key", "cd")
}

// TestBatchIsBounded checks that a transaction takes neither more operations
// nor much more bytes than it may.
func TestBatchIsBounded(t *testing.T) {
	s := &boltStore{}
	s.writer.queue = make(chan *operation, 3*batchOperations)
	for range 3 * batchOperations {
		s.writer.queue <- new(operation)
	}
	if n := len(s.fill([]*operation{{}})); n != batchOperations {
		t.Errorf("%d operations in a transaction, want %d", n, batchOperations)
	}
	s.writer.queue = make(chan *operation, 100)
	for range 100 {
		s.writer.queue <- &operation{size: store.MaxValue}
	}
	if n := len(s.fill([]*operation{{size: store.MaxValue}})); n != batchBytes/store.MaxValue {
		t.Errorf("%d operations of 1 MiB in a transaction, want %d", n, batchBytes/store.MaxValue)
	}
}

// TestCommitError checks that a transaction that fails fails for everyone in
// it, leaves nothing behind, and harms no later one.
func TestCommitError(t *testing.T) {
	s, g := held(t)
	ctx := context.Background()
	var results []<-chan error
	for i := range 10 {
		results = append(results, calling(func() error { return s.Put(ctx, fmt.Sprint("key/", i), []byte("1"), 0) }))
	}
	results = append(results, calling(func() error { return s.Update(ctx, "key", setTo("1")) }))
	queued(t, s, 11)
	g.result <- nil
	<-g.begun
	g.result <- syscall.ENOSPC
	for _, result := range results {
		err := <-result
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "writing store file "+s.path) {
			t.Errorf("error %v, want that of the transaction with the path", err)
		}
	}
	if n := inFile(t, s); n != 1 {
		t.Errorf("%d records in the file, want the first alone", n)
	}
	later := calling(func() error { return s.Put(ctx, "later", []byte("value"), 0) })
	<-g.begun
	g.result <- nil
	if err := <-later; err != nil {
		t.Errorf("Put after a transaction that failed: %v", err)
	}
	wantValue(t, s, "later", "value")
}

// TestInputOutputError checks that nothing is written after the disk failed:
// the system forgets what it could not write, and says that the next flush
// succeeded. What was read before goes on being read.
func TestInputOutputError(t *testing.T) {
	s, g := held(t)
	ctx := context.Background()
	put := calling(func() error { return s.Put(ctx, "key", []byte("value"), 0) })
	queued(t, s, 1)
	g.result <- nil
	<-g.begun
	g.result <- &syscallError{syscall.EIO}
	if err := <-put; !errors.Is(err, syscall.EIO) {
		t.Errorf("Put: error %v, want that of the disk", err)
	}
	for range 3 {
		err := s.Put(ctx, "key", []byte("value"), 0)
		if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "until the gateway is restarted") {
			t.Errorf("Put after the disk failed: error %v", err)
		}
	}
	wantValue(t, s, "first", "value")
}

// syscallError is an error around that of the system, as bbolt has them.
type syscallError struct{ err error }

func (e *syscallError) Error() string { return "fdatasync: " + e.err.Error() }
func (e *syscallError) Unwrap() error { return e.err }

// TestCancelledInQueue checks that a call returns as soon as its context is
// done, and that its operation is then dropped.
func TestCancelledInQueue(t *testing.T) {
	s, g := held(t)
	ctx, cancel := context.WithCancel(context.Background())
	put := calling(func() error { return s.Put(ctx, "put", []byte("value"), 0) })
	update := calling(func() error {
		return s.Update(ctx, "update", func([]byte) ([]byte, time.Duration, error) {
			t.Error("change is called after its context is done")
			return []byte("value"), 0, nil
		})
	})
	queued(t, s, 2)
	cancel()
	for _, result := range []<-chan error{put, update} {
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
	}
	g.result <- nil
	<-g.begun
	g.result <- nil
	if n := inFile(t, s); n != 1 {
		t.Errorf("%d records in the file, want the first alone", n)
	}
}

// TestCancelledInChange checks that Update returns while the transaction goes
// on, and not while change runs.
func TestCancelledInChange(t *testing.T) {
	s := openTest(t, newPath(t), options{})
	g := newGate(s)
	ctx, cancel := context.WithCancel(context.Background())
	ended := false
	err := calling(func() error {
		err := s.Update(ctx, "key", func([]byte) ([]byte, time.Duration, error) {
			cancel()
			runtime.Gosched()
			ended = true
			return []byte("value"), 0, nil
		})
		if !ended {
			t.Error("Update returns while change runs")
		}
		return err
	})
	<-g.begun // the transaction waits, Update must not
	if err := <-err; !errors.Is(err, context.Canceled) {
		t.Errorf("Update: error %v, want context.Canceled", err)
	}
	g.result <- nil
}

// TestNothingToWrite checks that operations that change nothing cost no flush.
func TestNothingToWrite(t *testing.T) {
	s := openTest(t, newPath(t), options{})
	ctx := context.Background()
	mustPut(t, s, "key", "value", 0)
	number := func() (id int) {
		if err := s.db.View(func(tx *bolt.Tx) error {
			id = tx.ID()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return id
	}
	before := number()
	if err := s.Delete(ctx, "absent"); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if err := s.Update(ctx, "absent", func([]byte) ([]byte, time.Duration, error) { return nil, 0, nil }); err != nil {
		t.Errorf("Update: %v", err)
	}
	refused := errors.New("refused")
	if err := s.Update(ctx, "key", func([]byte) ([]byte, time.Duration, error) { return nil, 0, refused }); !errors.Is(err, refused) {
		t.Errorf("Update: %v", err)
	}
	if after := number(); after != before {
		t.Errorf("%d transactions were written for nothing", after-before)
	}
	mustPut(t, s, "key", "value2", 0)
}

// TestCloseAnswers checks that Close waits until what is queued is on the disk
// and answered.
func TestCloseAnswers(t *testing.T) {
	s, g := held(t)
	var results []<-chan error
	for i := range 20 {
		results = append(results, calling(func() error {
			return s.Put(context.Background(), fmt.Sprint("key/", i), []byte("value"), 0)
		}))
	}
	queued(t, s, 20)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	until(t, "Close begins", func() bool { return s.life.Err() != nil })
	if err := s.Put(context.Background(), "late", []byte("value"), 0); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Put while the store closes: error %v, want store.ErrClosed", err)
	}
	g.result <- nil
	<-g.begun
	g.result <- nil
	wg.Wait()
	for _, result := range results {
		if err := <-result; err != nil {
			t.Errorf("a Put that was queued when Close began: %v", err)
		}
	}
	s = openTest(t, s.path, options{})
	for i := range 20 {
		wantValue(t, s, fmt.Sprint("key/", i), "value")
	}
}
