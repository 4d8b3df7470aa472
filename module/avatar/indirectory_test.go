// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package avatar

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// names returns what is in a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func write(t *testing.T, path string, when time.Time) {
	t.Helper()
	do(t, os.WriteFile(path, []byte("content"), 0o600))
	do(t, os.Chtimes(path, when, when))
}

func TestDirectoryIsPrivate(t *testing.T) {
	k := newInDirectory(t, 0, newClock())
	if _, err := os.Stat(k.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is there before the first picture: %v", err)
	}
	name := keepOne(t, k)
	for path, want := range map[string]os.FileMode{k.dir: 0o700 | os.ModeDir, filepath.Join(k.dir, name): 0o600} {
		info, err := os.Stat(path)
		do(t, err)
		if info.Mode() != want {
			t.Errorf("%s has mode %s, want %s", path, info.Mode(), want)
		}
	}
	if all := names(t, k.dir); len(all) != 1 {
		t.Errorf("something is left over: %q", all)
	}
}

// A link in the directory is no way to any other file.
func TestLinksAreNotFollowed(t *testing.T) {
	c := newClock()
	k := newInDirectory(t, day, c)
	keepOne(t, k)
	outside := filepath.Join(t.TempDir(), "secret")
	write(t, outside, c.now().Add(-time.Hour))
	inside := filepath.Join(k.dir, "other file")
	write(t, inside, c.now().Add(-time.Hour))
	for what, target := range map[string]string{"absolute": outside, "inside": "other file", "nowhere": "nothing"} {
		link := NewName(sample)
		do(t, os.Symlink(target, filepath.Join(k.dir, link)))
		if p, err := k.Get(t.Context(), link); err == nil || errors.Is(err, ErrNotFound) || strings.Contains(err.Error(), link) {
			t.Errorf("%s: Get returns %v, %v", what, p, err)
		}
		if err := k.Refresh(t.Context(), link); err == nil {
			t.Errorf("%s: Refresh follows it", what)
		}
		do(t, k.Put(t.Context(), link, sample)) // takes its place
		expect(t, k, link, &sample)
		do(t, os.Remove(filepath.Join(k.dir, link)))
		do(t, os.Symlink(target, filepath.Join(k.dir, link)))
		do(t, k.Delete(t.Context(), link))
		if _, err := os.Lstat(filepath.Join(k.dir, link)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: Delete leaves it: %v", what, err)
		}
	}
	for _, path := range []string{outside, inside} {
		info, err := os.Stat(path)
		do(t, err)
		content, err := os.ReadFile(path)
		do(t, err)
		if string(content) != "content" || !info.ModTime().Equal(c.now().Add(-time.Hour)) {
			t.Errorf("%s was touched", path)
		}
	}
}

func TestSweepOfDirectory(t *testing.T) {
	c := newClock()
	k := newInDirectory(t, 10*day, c)
	kept := keepOne(t, k)
	old, outdated, fresh := c.now().Add(-11*day), temporary+random(), temporary+random()
	for name, when := range map[string]time.Time{
		NewName(sample): old, outdated: c.now().Add(-time.Hour - time.Second), fresh: c.now().Add(-time.Hour),
		"README": old, "new-": old, "new-short": old, ".hidden.png": old, "portrait.png": old, kept + ".bak": old, outdated + "x": old,
	} {
		write(t, filepath.Join(k.dir, name), when)
	}
	do(t, os.Mkdir(filepath.Join(k.dir, "folder.png"), 0o700))
	do(t, k.Sweep(t.Context()))
	left := strings.Join(names(t, k.dir), " ")
	for _, name := range []string{kept, fresh, "README", "new-", "new-short", ".hidden.png", "portrait.png", kept + ".bak", outdated + "x", "folder.png"} {
		if !strings.Contains(" "+left+" ", " "+name+" ") {
			t.Errorf("%s is gone", name)
		}
	}
	if n := len(names(t, k.dir)); n != 10 {
		t.Errorf("%d files are left: %s", n, left)
	}
	// What has a picture's name and is none stays, and the operator is told.
	do(t, os.Mkdir(filepath.Join(k.dir, NewName(sample)), 0o700))
	if err := k.Sweep(t.Context()); !errors.Is(err, errNotFile) {
		t.Errorf("error %v", err)
	}
}

// A write that fails leaves nothing, and shows no name: whoever knows it can
// have the picture.
func TestFailedWrite(t *testing.T) {
	k := newInDirectory(t, 0, newClock())
	name := keepOne(t, k)
	blocked := NewName(sample)
	do(t, os.MkdirAll(filepath.Join(k.dir, blocked, "x"), 0o700))
	for call, err := range map[string]error{
		"Put":    k.Put(t.Context(), blocked, sample),
		"Delete": k.Delete(t.Context(), blocked),
		"Get":    func() error { _, err := k.Get(t.Context(), blocked); return err }(),
	} {
		if err == nil || errors.Is(err, ErrNotFound) || strings.Contains(err.Error(), blocked) {
			t.Errorf("%s: %v", call, err)
		}
	}
	if all := names(t, k.dir); len(all) != 2 {
		t.Errorf("something is left over: %q", all)
	}
	expect(t, k, name, &sample)

	// A file where the directory should be.
	k.dir = filepath.Join(k.dir, name)
	if err := k.Put(t.Context(), NewName(sample), sample); err == nil {
		t.Error("no error")
	}
	if _, err := k.Get(t.Context(), name); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("Get: %v", err)
	}
}

// A file that was damaged is not a picture.
func TestDamagedFile(t *testing.T) {
	k := newInDirectory(t, 0, newClock())
	name := keepOne(t, k)
	for _, size := range []int64{0, 1<<20 + 1} {
		do(t, os.Truncate(filepath.Join(k.dir, name), size))
		if p, err := k.Get(t.Context(), name); !errors.Is(err, errNotFile) {
			t.Errorf("%d bytes: Get returns %d bytes, %v", size, len(p.Data), err)
		}
	}
}
