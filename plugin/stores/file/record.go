// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/minigate/minigate/module/store"
)

const (
	// headSize is the length of what stands in front of each value: when it
	// expires, in nanoseconds since 1970, big endian; zero is never.
	headSize = 8
)

// newRecord returns value with its expiry, as it is kept in the file. It
// shares no memory with value.
func newRecord(value []byte, ttl time.Duration, now time.Time) ([]byte, error) {
	if err := store.CheckValue(value); err != nil {
		return nil, err
	}
	var expires int64
	if ttl > 0 {
		// A sum that overflows, in the year 2262, is as good as never.
		expires = max(0, now.UnixNano()+int64(ttl))
	}
	record := make([]byte, headSize, headSize+len(value))
	binary.BigEndian.PutUint64(record, uint64(expires))
	return append(record, value...), nil
}

// checkRecord refuses what newRecord cannot have made.
func checkRecord(record []byte) error {
	if len(record) < headSize || len(record) > headSize+store.MaxValue {
		return fmt.Errorf("%w: a record has %d bytes", errDamaged, len(record))
	}
	return nil
}

// checkFound refuses a key and a record that this store cannot have written.
// record is nil where key is that of a bucket.
func checkFound(key, record []byte) error {
	if err := store.CheckKey(key); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return checkRecord(record)
}

// expired says whether a record that passed checkRecord is over.
func expired(record []byte, now time.Time) bool {
	expires := int64(binary.BigEndian.Uint64(record))
	return expires != 0 && now.UnixNano() >= expires
}

// expiry returns when a record that passed checkRecord is over; zero is never.
func expiry(record []byte) time.Time {
	expires := int64(binary.BigEndian.Uint64(record))
	if expires == 0 {
		return time.Time{}
	}
	return time.Unix(0, expires)
}

// readValue returns a copy of the value in a record, and whether there is one:
// record may be nil, and what has expired is gone.
func readValue(record []byte, now time.Time) (value []byte, found bool, err error) {
	if record == nil {
		return nil, false, nil
	}
	if err := checkRecord(record); err != nil {
		return nil, false, err
	}
	if expired(record, now) {
		return nil, false, nil
	}
	return append([]byte{}, record[headSize:]...), true, nil
}
