// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/minigate/minigate/module/store"
)

// format is the version of what is in the file: a bucket of records, and a
// bucket that says so.
const format = 1

var (
	formatBucket  = []byte("minigate")
	formatKey     = []byte("format")
	recordsBucket = []byte("records")
)

// options are what tests set. The zero value is what the gateway uses.
type options struct {
	now         func() time.Time
	lockTimeout time.Duration
	maxSize     int // of the file, in bytes; zero is without limit
	sweepEvery  time.Duration
	sweepPause  time.Duration
}

// openBolt opens or creates the file at path, which should be absolute. Its
// errors are for the operator, and name the path.
func openBolt(ctx context.Context, path string, o options) (*boltStore, error) {
	if o.now == nil {
		o.now = time.Now
	}
	if o.lockTimeout == 0 {
		o.lockTimeout = time.Second
	}
	if o.sweepEvery == 0 {
		o.sweepEvery, o.sweepPause = sweepEvery, sweepPause
	}
	s := &boltStore{path: path, now: o.now}
	s.life, s.end = context.WithCancel(context.Background())
	s.writer.queue = make(chan *operation, batchOperations)
	s.writer.stop = make(chan struct{})
	if err := s.open(ctx, o); err != nil {
		s.end()
		return nil, fmt.Errorf("opening store file %s: %w", path, err)
	}
	s.workers.Go(s.run)
	s.workers.Go(func() { s.sweep(o.sweepEvery, o.sweepPause) })
	return s, nil
}

func (s *boltStore) open(ctx context.Context, o options) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	created, err := prepare(s.path)
	if err != nil {
		return err
	}
	if err := s.openDB(o); err != nil {
		return err
	}
	s.writer.update = s.db.Update
	if err := s.check(ctx, created); err != nil {
		if s.stuck.Load() {
			return errors.Join(err, abandon(s.file))
		}
		return errors.Join(err, s.db.Close())
	}
	return nil
}

// prepare makes the folder of path and looks at what is at path. created are
// the folders whose contents have to be flushed once the file is there.
func prepare(path string) (created []string, err error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, errors.New("it is a folder")
	case err == nil && !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case err == nil:
		return nil, nil
	case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
		return nil, withoutPath(err)
	}
	dir := filepath.Dir(path)
	created = append(created, dir)
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
		created = append(created, dir)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("creating its folder: %w", err)
	}
	return created, nil
}

// openDB opens the file with bbolt. If it fails, nothing is left open.
func (s *boltStore) openDB(o options) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			// bbolt left it open, and locked.
			err = errors.Join(fmt.Errorf("%w: %v", errDamaged, p), abandon(s.file))
		}
	}()
	s.db, err = bolt.Open(s.path, 0o600, &bolt.Options{
		Timeout:      o.lockTimeout,
		FreelistType: bolt.FreelistMapType,
		MaxSize:      o.maxSize,
		NoStatistics: true,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			file, err := os.OpenFile(name, flag, mode)
			if err != nil {
				return nil, err
			}
			s.file = file
			s.info, err = file.Stat()
			return file, err
		},
	})
	switch {
	case err == nil:
		s.smallest = int64(2 * s.db.Info().PageSize) // two pages of metadata
		return nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return store.ErrInUse
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum),
		errors.Is(err, bolterrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %w", errDamaged, err)
	case s.info != nil && s.info.Size() > 0 && s.info.Size() < int64(2*os.Getpagesize()):
		return fmt.Errorf("%w: it has %d bytes", errDamaged, s.info.Size())
	}
	return withoutPath(err)
}

// check makes sure that the file is one of ours, whole, and on the disk.
func (s *boltStore) check(ctx context.Context, created []string) error {
	if err := readThrough(ctx, s.file); err != nil {
		return err
	}
	size, err := s.size()
	if err != nil {
		return err
	}
	last := 0
	if err := s.guard(s.db.View, func(tx *bolt.Tx) error {
		last = tx.ID()
		return nil
	}); err != nil {
		return err
	}
	empty, err := checkFile(ctx, s.file, size, s.db.Info().PageSize, last)
	if err != nil {
		return err
	}
	if empty {
		if err := s.guard(s.db.Update, initialize); err != nil {
			return withoutPath(err)
		}
		last++
	}
	s.writer.next = last + 1
	for _, dir := range created {
		if err := syncDir(dir); err != nil {
			return fmt.Errorf("flushing folder %s: %w", dir, err)
		}
	}
	return nil
}

// initialize makes an empty file ours.
func initialize(tx *bolt.Tx) error {
	if _, err := tx.CreateBucket(recordsBucket); err != nil {
		return err
	}
	marker, err := tx.CreateBucket(formatBucket)
	if err != nil {
		return err
	}
	return marker.Put(formatKey, []byte(strconv.Itoa(format)))
}

// syncDir makes what was created in dir survive a loss of power. Some file
// systems do that by themselves, and refuse to be asked.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, d.Close())
}
