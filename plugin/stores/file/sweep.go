// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bytes"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	// sweepRecords bounds what the sweeper reads and removes in one
	// transaction.
	sweepRecords = 256
	// sweepPause is between two steps that found nothing: 12,800 records a
	// second, for less than 1 % of a processor.
	sweepPause = 20 * time.Millisecond
	// sweepEvery is between two rounds.
	sweepEvery = 30 * time.Second
)

// sweep removes what has expired until Close. It goes through the file in
// small steps, quickly where there is much to remove. An error it leaves to
// whoever uses the store next, and begins again later.
func (s *boltStore) sweep(every, pause time.Duration) {
	timer := time.NewTimer(every)
	defer timer.Stop()
	var from []byte
	for {
		select {
		case <-s.life.Done():
			return
		case <-timer.C:
		}
		removed, next, err := s.sweepStep(from)
		switch from = next; {
		case err != nil || next == nil:
			from = nil
			timer.Reset(every)
		case removed > 0:
			timer.Reset(0)
		default:
			timer.Reset(pause)
		}
	}
}

// sweepStep removes what has expired among a bounded number of records,
// beginning at from. next is where to go on, nil at the end.
func (s *boltStore) sweepStep(from []byte) (removed int, next []byte, err error) {
	var old [][]byte
	err = s.view(s.life, func(records *bolt.Bucket) error {
		now, seen, cursor := s.now(), 0, records.Cursor()
		for key, record := cursor.Seek(from); key != nil; key, record = cursor.Next() {
			if seen++; seen > sweepRecords {
				next = bytes.Clone(key)
				return nil
			}
			if err := checkFound(key, record); err != nil {
				return err
			}
			if expired(record, now) {
				old = append(old, bytes.Clone(key))
			}
		}
		return nil
	})
	if err != nil || len(old) == 0 {
		return 0, next, err
	}
	err = s.write(s.life, 0, func(records *bolt.Bucket) (bool, error) {
		for _, key := range old {
			// It may have been written again meanwhile.
			record := records.Get(key)
			if record == nil || !expired(record, s.now()) {
				continue
			}
			if err := records.Delete(key); err != nil {
				return removed > 0, err
			}
			removed++
		}
		return removed > 0, nil
	})
	return removed, next, err
}
