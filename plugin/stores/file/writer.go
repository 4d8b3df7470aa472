// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"

	bolt "go.etcd.io/bbolt"
)

const (
	// batchOperations and batchBytes bound what one transaction takes, and so
	// for how long its first operation waits for the last.
	batchOperations = 256
	batchBytes      = 4 << 20
)

// errUnchanged rolls a transaction back that has nothing to write.
var errUnchanged = errors.New("nothing changed")

// writer commits in groups. Flushing the disk takes longer than anything else,
// so all operations that came while it worked share the next flush. Nobody
// waits for others to come: a writer that is alone is committed at once.
type writer struct {
	queue chan *operation
	stop  chan struct{} // closed when no more operations come

	// update is db.Update.
	update func(func(*bolt.Tx) error) error

	// Of the writer's goroutine:

	// refusal is why nothing is written any more, if so.
	refusal error
	// next is the number that the next transaction must have, if nobody else
	// writes to the file; zero when it is not known.
	next int
}

// operation is a write that waits for its transaction.
type operation struct {
	ctx  context.Context
	size int // bytes to write, about
	// apply does the write, and says whether it changed anything. It is called
	// once at most.
	apply func(records *bolt.Bucket) (changed bool, err error)
	err   error // of apply, or why it was not called

	mu        sync.Mutex // held while apply runs
	abandoned bool       // the caller is gone; guarded by mu

	done chan error // has room for the answer
}

// write queues an operation and waits until it is on the disk. If ctx is done
// first, apply is not running and will not run any more when write returns.
func (s *boltStore) write(ctx context.Context, size int, apply func(*bolt.Bucket) (bool, error)) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.calls.Done()
	op := &operation{ctx: ctx, size: size, apply: apply, done: make(chan error, 1)}
	select {
	case s.writer.queue <- op:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-op.done:
		return err
	case <-ctx.Done():
		op.mu.Lock()
		op.abandoned = true
		op.mu.Unlock()
		return ctx.Err()
	}
}

// run is the writer's goroutine.
func (s *boltStore) run() {
	batch := make([]*operation, 0, batchOperations)
	for {
		select {
		case op := <-s.writer.queue:
			batch = append(batch, op)
		case <-s.writer.stop:
			return
		}
		// Those whom the last commit answered are about to queue again. Let
		// them run, as long as any of them comes.
		for before := 0; before < len(batch); {
			before = len(batch)
			runtime.Gosched()
			batch = s.fill(batch)
		}
		err := s.commit(batch)
		for _, op := range batch {
			if err != nil {
				op.done <- err
			} else {
				op.done <- op.err
			}
		}
		clear(batch)
		batch = batch[:0]
	}
}

// fill adds what is queued to batch, as much as goes into one transaction.
func (s *boltStore) fill(batch []*operation) []*operation {
	size := batch[0].size
	for len(batch) < batchOperations && size < batchBytes {
		select {
		case op := <-s.writer.queue:
			batch = append(batch, op)
			size += op.size
		default:
			return batch
		}
	}
	return batch
}

// commit applies a batch in one transaction. Its error is that of every
// operation in the batch: what one of them saw, another one may have written.
func (s *boltStore) commit(batch []*operation) error {
	err := s.tryCommit(batch)
	if err == nil || errors.Is(err, errUnchanged) {
		return nil
	}
	return fmt.Errorf("writing store file %s: %w", s.path, err)
}

func (s *boltStore) tryCommit(batch []*operation) error {
	w := &s.writer
	if w.refusal != nil {
		return w.refusal
	}
	if err := s.inPlace(); err != nil {
		return err
	}
	id := 0
	err := s.guard(w.update, func(tx *bolt.Tx) error {
		if id = tx.ID(); w.next != 0 && id != w.next {
			return fmt.Errorf("%w: something else wrote to it while it is open", errDamaged)
		}
		records := tx.Bucket(recordsBucket)
		if records == nil {
			return errDamaged
		}
		changed := false
		for _, op := range batch {
			if op.run(records) {
				changed = true
			}
		}
		if !changed {
			return errUnchanged
		}
		return nil
	})
	switch {
	case err == nil:
		w.next = id + 1
	case errors.Is(err, errUnchanged):
	case errors.Is(err, errDamaged), errors.Is(err, syscall.EIO):
		// What is damaged must not be written to. And after a flush that
		// failed, the next one succeeds without having written what the first
		// did not.
		w.refusal = fmt.Errorf("%w; nothing is written until the gateway is restarted", err)
		return w.refusal
	default:
		w.next = 0
	}
	return err
}

// run applies the operation, unless nobody waits for it any more.
func (op *operation) run(records *bolt.Bucket) (changed bool) {
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.err = op.ctx.Err(); op.err != nil || op.abandoned {
		return false
	}
	changed, op.err = op.apply(records)
	return changed && op.err == nil
}
