// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
)

var (
	errDamaged   = errors.New("the file is damaged, or was not made by this gateway")
	errTruncated = fmt.Errorf("%w: it is shorter than what was written to it", errDamaged)
	errStuck     = fmt.Errorf("%w; restart the gateway to use it again", errDamaged)
)

// guard runs use in a transaction of begin, which is db.View or db.Update.
//
// bbolt trusts its file. It maps it into memory and follows the page numbers
// it finds there, so that a damaged file makes it panic, or read memory that
// is not there, which would end the process. Here both become an error.
func (s *boltStore) guard(begin func(func(*bolt.Tx) error) error, use func(*bolt.Tx) error) (err error) {
	if s.stuck.Load() {
		return errStuck
	}
	// bbolt reads the first pages while it holds its locks.
	size, err := s.size()
	if err != nil {
		return err
	}
	if size < s.smallest {
		return errTruncated
	}

	var tx *bolt.Tx
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		// A transaction that is not over holds locks, and nobody can end it.
		if tx == nil || tx.DB() != nil {
			s.stuck.Store(true)
		}
		err = fmt.Errorf("%w: %v", errDamaged, p)
	}()
	return begin(func(began *bolt.Tx) error {
		tx = began
		if err := s.checkSize(tx, size); err != nil {
			return err
		}
		return use(tx)
	})
}

// checkSize refuses a file that was cut off while it is open. size is what it
// was before tx began; the file may have grown since.
func (s *boltStore) checkSize(tx *bolt.Tx, size int64) (err error) {
	if tx.Size() > size {
		if size, err = s.size(); err != nil {
			return err
		}
	}
	if tx.Size() > size {
		return errTruncated
	}
	return nil
}

func (s *boltStore) size() (int64, error) {
	info, err := s.file.Stat()
	if err != nil {
		return 0, withoutPath(err)
	}
	return info.Size(), nil
}

// inPlace refuses to write to a file that nobody will find again.
func (s *boltStore) inPlace() error {
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errors.New("the file was deleted while it is open; put it back, or restart the gateway to begin with an empty one")
	case err != nil:
		return withoutPath(err)
	case !os.SameFile(info, s.info):
		return errors.New("the file was replaced while it is open; restart the gateway to use the new one")
	}
	return nil
}

// withoutPath takes the path out of an error of package os. The errors here
// begin with it.
func withoutPath(err error) error {
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		return pathErr.Err
	}
	return err
}
