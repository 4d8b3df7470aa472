// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/minigate/minigate/module/store"
)

const (
	// scanRecords and scanBytes bound what Scan reads in one transaction: an
	// open transaction keeps pages from being used again.
	scanRecords = 256
	scanBytes   = 1 << 20
)

// boltStore is the store.Store in a bbolt file. Reads are transactions of
// their callers; writes are queued for one goroutine, see writer.go.
type boltStore struct {
	path string
	now  func() time.Time

	db       *bolt.DB
	file     *os.File    // the file that db has open, to look at its size
	info     os.FileInfo // which file that is
	smallest int64       // the size of a file with nothing in it

	// stuck says that bbolt panicked while it held a lock, so that calling it
	// again would wait for ever. See guard.go.
	stuck atomic.Bool

	locks  store.Locks
	writer writer

	// life ends when Close begins.
	life context.Context
	end  context.CancelFunc

	// calls are those in progress, which Close waits for; mu orders their
	// beginning and closed.
	calls  sync.WaitGroup
	mu     sync.RWMutex
	closed bool

	closing  sync.Once
	closeErr error
	workers  sync.WaitGroup // the writer and the sweeper
}

// Get implements store.Store.
func (s *boltStore) Get(ctx context.Context, key string) ([]byte, error) {
	found, err := s.Lookup(ctx, key)
	return found.Value, err
}

// Lookup implements store.Store.
func (s *boltStore) Lookup(ctx context.Context, key string) (store.Entry, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Entry{}, err
	}
	found, present := store.Entry{Key: key}, false
	err := s.view(ctx, func(records *bolt.Bucket) (err error) {
		record := records.Get([]byte(key))
		if found.Value, present, err = readValue(record, s.now()); present {
			found.Expires = expiry(record)
		}
		return err
	})
	switch {
	case err != nil:
		return store.Entry{}, err
	case !present:
		return store.Entry{}, store.ErrNotFound
	}
	return found, nil
}

// Put implements store.Store. When it returns nil, the value is on the disk.
func (s *boltStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	record, err := newRecord(value, ttl, s.now())
	if err != nil {
		return err
	}
	return s.write(ctx, len(record), func(records *bolt.Bucket) (bool, error) {
		return true, records.Put([]byte(key), record)
	})
}

// Update implements store.Store. change runs in the writer, and all other
// writes wait for it; its panic becomes an error.
func (s *boltStore) Update(ctx context.Context, key string, change store.Change) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	return s.write(ctx, 0, func(records *bolt.Bucket) (bool, error) {
		present := records.Get([]byte(key))
		old, _, err := readValue(present, s.now())
		if err != nil {
			return false, err
		}
		value, ttl, err := call(change, old)
		if err != nil {
			return false, err
		}
		if value == nil {
			return present != nil, records.Delete([]byte(key))
		}
		record, err := newRecord(value, ttl, s.now())
		if err != nil {
			return false, err
		}
		return true, records.Put([]byte(key), record)
	})
}

// call calls change, and returns as an error that it panicked or ended its
// goroutine: neither must end the writer, which is why it gets a goroutine of
// its own.
func call(change store.Change, old []byte) (value []byte, ttl time.Duration, err error) {
	err = errors.New("updating: change ended its goroutine")
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("updating: change panicked: %v", p)
			}
		}()
		value, ttl, err = change(old)
	}()
	<-done
	return value, ttl, err
}

// Delete implements store.Store.
func (s *boltStore) Delete(ctx context.Context, key string) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	return s.write(ctx, 0, func(records *bolt.Bucket) (bool, error) {
		return records.Get([]byte(key)) != nil, records.Delete([]byte(key))
	})
}

// Scan implements store.Store, in byte order. No transaction is open while it
// visits, so that visit may take its time and call the store.
func (s *boltStore) Scan(ctx context.Context, prefix string, visit func(store.Entry) error) error {
	from := []byte(prefix)
	for from != nil {
		var page []scanned
		err := s.view(ctx, func(records *bolt.Bucket) (err error) {
			page, from, err = readPage(records, prefix, from)
			return err
		})
		if err != nil {
			return err
		}
		for _, found := range page {
			if err := s.usable(ctx); err != nil {
				return err
			}
			if expired(found.record, s.now()) {
				continue
			}
			if err := visit(store.Entry{Key: found.key, Value: found.record[headSize:], Expires: expiry(found.record)}); err != nil {
				return err
			}
		}
	}
	return nil
}

type scanned struct {
	key    string
	record []byte
}

// readPage copies the records whose keys begin with prefix, beginning at from,
// as many as fit into a page. next is where to go on, nil at the end.
func readPage(records *bolt.Bucket, prefix string, from []byte) (page []scanned, next []byte, err error) {
	cursor, size := records.Cursor(), 0
	for key, record := cursor.Seek(from); key != nil; key, record = cursor.Next() {
		if !bytes.HasPrefix(key, []byte(prefix)) {
			return page, nil, nil
		}
		if len(page) == scanRecords || size >= scanBytes {
			return page, bytes.Clone(key), nil
		}
		if err := checkFound(key, record); err != nil {
			return nil, nil, err
		}
		page = append(page, scanned{string(key), bytes.Clone(record)})
		size += len(record)
	}
	return page, nil, nil
}

// Watch implements store.Store. Only one process can have the file open, so
// there is nothing to report.
func (s *boltStore) Watch(ctx context.Context, _ string, observer store.Observer) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	if observer.Started != nil {
		observer.Started()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.life.Done():
		return store.ErrClosed
	}
}

// Lock implements store.Store.
func (s *boltStore) Lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	return s.locks.Lock(ctx, name, s.life.Done())
}

// Close implements store.Store. It waits until the calls in progress are
// answered.
func (s *boltStore) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.end()
		stop := func() {
			s.calls.Wait()
			close(s.writer.stop)
			s.workers.Wait()
		}
		if s.stuck.Load() {
			// Who waits for bbolt's locks waits for ever, so nobody waits for
			// him. Closing the file lets others open it.
			go stop()
			s.closeErr = abandon(s.file)
			return
		}
		stop()
		s.closeErr = s.db.Close()
	})
	return s.closeErr
}

// usable returns why no call can be made, if so.
func (s *boltStore) usable(ctx context.Context) error {
	if s.life.Err() != nil {
		return store.ErrClosed
	}
	return ctx.Err()
}

// enter begins a call that uses the file. Without an error, the caller has to
// end it with s.calls.Done.
func (s *boltStore) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	s.calls.Add(1)
	return nil
}

// view calls read in a read transaction. read must not keep what it gets.
func (s *boltStore) view(ctx context.Context, read func(records *bolt.Bucket) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.calls.Done()
	err := s.guard(s.db.View, func(tx *bolt.Tx) error {
		records := tx.Bucket(recordsBucket)
		if records == nil {
			return errDamaged
		}
		return read(records)
	})
	if err != nil {
		return fmt.Errorf("reading store file %s: %w", s.path, err)
	}
	return nil
}
