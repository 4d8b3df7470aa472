// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package avatar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/minigate/minigate/module/store"
)

const (
	// temporary begins the names of files that are being written.
	temporary = "new-"
	// temporaryLife is after what time such a file was left over by a crash.
	temporaryLife = time.Hour
	// batch is how many names of a directory are read at once.
	batch = 256
)

// errNotFile says that what has a picture's name is not a file of its size.
var errNotFile = errors.New("it is not a picture file")

// inDirectory is the Keeper that InDirectory returns.
type inDirectory struct {
	dir  string
	keep time.Duration
	now  func() time.Time
}

// InDirectory returns a keeper that has its pictures as files in a directory,
// which the first Put makes. Only the user who runs the gateway can read them;
// they are not sealed. A picture is kept for the time keep from Put or Refresh,
// which is the time when its file was modified, and with 0 until it is deleted.
//
// Other files in the directory are left alone. No name and no symbolic link
// leads out of it.
func InDirectory(dir string, keep time.Duration) Keeper {
	return &inDirectory{dir: dir, keep: keep, now: time.Now}
}

// Put implements Keeper.
func (k *inDirectory) Put(ctx context.Context, name string, p Picture) error {
	err := ctx.Err()
	if err == nil {
		err = checkPut(name, p)
	}
	if err == nil {
		err = store.CheckValue(p.Data) // so that the keepers refuse the same
	}
	if err == nil {
		err = k.write(name, p.Data)
	}
	if err != nil {
		return k.failed("keeping a picture", err)
	}
	return nil
}

// write writes a file so that it is there with all of data, or not at all.
func (k *inDirectory) write(name string, data []byte) (err error) {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(k.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()

	unfinished := temporary + random()
	if err := k.writeNew(root, unfinished, data); err != nil {
		return errors.Join(err, ignoreAbsent(root.Remove(unfinished)))
	}
	if err := root.Rename(unfinished, name); err != nil {
		return errors.Join(err, ignoreAbsent(root.Remove(unfinished)))
	}
	return syncDirectory(root)
}

// writeNew writes a file that does not exist yet, durably.
func (k *inDirectory) writeNew(root *os.Root, name string, data []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	now := k.now()
	return root.Chtimes(name, now, now)
}

// syncDirectory makes a change of names durable. Windows does so by itself, and
// cannot be asked to.
func syncDirectory(root *os.Root) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Get implements Keeper.
func (k *inDirectory) Get(ctx context.Context, name string) (p Picture, err error) {
	kind, ok := typeOf(name)
	if !ok {
		return Picture{}, ErrNotFound
	}
	if err := ctx.Err(); err != nil {
		return Picture{}, k.failed("reading a picture", err)
	}
	err = k.in(func(root *os.Root) error {
		info, err := lstat(root, name)
		if err != nil {
			return err
		}
		if k.over(info) {
			return fs.ErrNotExist
		}
		p = Picture{Type: kind}
		p.Data, err = read(root, name)
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Picture{}, ErrNotFound
	case err != nil:
		return Picture{}, k.failed("reading a picture", err)
	default:
		return p, nil
	}
}

// read returns what is in a file.
func read(root *os.Root, name string) (data []byte, err error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err = io.ReadAll(io.LimitReader(f, store.MaxValue+1))
	if err == nil && (len(data) == 0 || len(data) > store.MaxValue) {
		err = errNotFile
	}
	return data, err
}

// Delete implements Keeper.
func (k *inDirectory) Delete(_ context.Context, name string) error {
	if !IsName(name) {
		return nil
	}
	err := k.in(func(root *os.Root) error {
		if err := root.Remove(name); err != nil {
			return err
		}
		return syncDirectory(root)
	})
	if ignoreAbsent(err) != nil {
		return k.failed("deleting a picture", err)
	}
	return nil
}

// Refresh implements Keeper.
func (k *inDirectory) Refresh(ctx context.Context, name string) error {
	if !IsName(name) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return k.failed("extending the life of a picture", err)
	}
	err := k.in(func(root *os.Root) error {
		info, err := lstat(root, name)
		if err != nil || k.over(info) {
			return err
		}
		now := k.now()
		return root.Chtimes(name, now, now)
	})
	if ignoreAbsent(err) != nil {
		return k.failed("extending the life of a picture", err)
	}
	return nil
}

// Sweep implements Keeper. It removes pictures whose retention is over, and what
// a crash left half written an hour ago or earlier.
func (k *inDirectory) Sweep(ctx context.Context) error {
	err := k.in(func(root *os.Root) (err error) {
		d, err := root.Open(".")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		var failed []error
		for {
			if err := ctx.Err(); err != nil {
				return err
			}
			entries, err := d.ReadDir(batch)
			for _, entry := range entries {
				if err := ignoreAbsent(k.sweep(root, entry.Name())); err != nil {
					failed = append(failed, err)
				}
			}
			if errors.Is(err, io.EOF) {
				return errors.Join(failed...)
			}
			if err != nil {
				return err
			}
		}
	})
	if ignoreAbsent(err) != nil {
		return k.failed("looking through the pictures", err)
	}
	return nil
}

// sweep removes the file called name if its time is over.
func (k *inDirectory) sweep(root *os.Root, name string) error {
	rest, unfinished := strings.CutPrefix(name, temporary)
	unfinished = unfinished && isRandom(rest)
	if !unfinished && !IsName(name) {
		return nil
	}
	info, err := lstat(root, name)
	if err != nil {
		return err
	}
	if unfinished && k.now().Sub(info.ModTime()) > temporaryLife || !unfinished && k.over(info) {
		return root.Remove(name)
	}
	return nil
}

// over reports whether the retention of a picture is over.
func (k *inDirectory) over(info fs.FileInfo) bool {
	return k.keep > 0 && k.now().Sub(info.ModTime()) >= k.keep
}

// in calls do with the directory. The error is fs.ErrNotExist if there is none.
func (k *inDirectory) in(do func(*os.Root) error) (err error) {
	root, err := os.OpenRoot(k.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return do(root)
}

// lstat returns what is known of a file. Links, pipes and whatever else is none
// are refused: reading a pipe would never end.
func lstat(root *os.Root, name string) (fs.FileInfo, error) {
	info, err := root.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = errNotFile
	}
	return info, err
}

// failed returns the error of a task, with the directory where the operating
// system's has a path: whoever knows the name of a picture can have it.
func (k *inDirectory) failed(task string, err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return fmt.Errorf("%s: %s in %s: %w", task, path.Op, k.dir, path.Err)
	case errors.As(err, &link):
		return fmt.Errorf("%s: %s in %s: %w", task, link.Op, k.dir, link.Err)
	default:
		return fmt.Errorf("%s: %w", task, err)
	}
}

// ignoreAbsent returns err, unless it says that a file does not exist.
func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
