// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/minigate/minigate/module/store"
)

// TestOpenErrors has all that can be wrong with a path or file before it is
// used. Each error names the path and says what is wrong.
func TestOpenErrors(t *testing.T) {
	garbage := func(n int) []byte {
		r := rand.NewChaCha8([32]byte{1})
		b := make([]byte, n)
		_, _ = r.Read(b)
		return b
	}
	for _, c := range []struct {
		name string
		make func(t *testing.T, path string) string // returns the path to open
		err  string
	}{
		{"folder", func(t *testing.T, path string) string {
			return filepath.Dir(path)
		}, "it is a folder"},
		{"device", func(*testing.T, string) string {
			return os.DevNull
		}, "it is not a regular file"},
		{"file for folder", func(t *testing.T, path string) string {
			writeFile(t, path, []byte("x"))
			return filepath.Join(path, "sessions.db")
		}, "creating its folder: "},
		{"file for parent of folder", func(t *testing.T, path string) string {
			writeFile(t, path, []byte("x"))
			return filepath.Join(path, "a", "sessions.db")
		}, "creating its folder: "},
		{"text", func(t *testing.T, path string) string {
			writeFile(t, path, []byte("this is no database\n"))
			return path
		}, "the file is damaged"},
		{"one page of garbage", func(t *testing.T, path string) string {
			writeFile(t, path, garbage(os.Getpagesize()))
			return path
		}, "the file is damaged"},
		{"garbage", func(t *testing.T, path string) string {
			writeFile(t, path, garbage(1<<20))
			return path
		}, "the file is damaged"},
		{"zeros", func(t *testing.T, path string) string {
			writeFile(t, path, make([]byte, 1<<16))
			return path
		}, "the file is damaged"},
		{"both meta pages bad", func(t *testing.T, path string) string {
			content := filled(t, path)
			copy(content, garbage(2*os.Getpagesize()))
			writeFile(t, path, content)
			return path
		}, "the file is damaged"},
		{"other bbolt file", func(t *testing.T, path string) string {
			inBolt(t, path, func(tx *bolt.Tx) error {
				_, err := tx.CreateBucket([]byte("other"))
				return err
			})
			return path
		}, "it has no format version"},
		{"newer format", func(t *testing.T, path string) string {
			filled(t, path)
			inBolt(t, path, func(tx *bolt.Tx) error {
				return tx.Bucket(formatBucket).Put(formatKey, []byte("2"))
			})
			return path
		}, "it has format version 2, made by a newer gateway; this one reads version 1"},
		{"format unreadable", func(t *testing.T, path string) string {
			filled(t, path)
			inBolt(t, path, func(tx *bolt.Tx) error {
				return tx.Bucket(formatBucket).Put(formatKey, []byte("one"))
			})
			return path
		}, "its format version cannot be read"},
		{"no records", func(t *testing.T, path string) string {
			filled(t, path)
			inBolt(t, path, func(tx *bolt.Tx) error { return tx.DeleteBucket(recordsBucket) })
			return path
		}, "it has no records"},
		{"other bucket too", func(t *testing.T, path string) string {
			filled(t, path)
			inBolt(t, path, func(tx *bolt.Tx) error {
				_, err := tx.CreateBucket([]byte("other"))
				return err
			})
			return path
		}, "it has 3 buckets, not 2"},
		{"bucket for record", func(t *testing.T, path string) string {
			filled(t, path)
			inBolt(t, path, func(tx *bolt.Tx) error {
				_, err := tx.Bucket(recordsBucket).CreateBucket([]byte("key"))
				return err
			})
			return path
		}, "it has a bucket where a record should be"},
		{"record too short", func(t *testing.T, path string) string {
			filled(t, path)
			inBolt(t, path, func(tx *bolt.Tx) error {
				return tx.Bucket(recordsBucket).Put([]byte("key"), make([]byte, headSize-1))
			})
			return path
		}, "a record has 7 bytes"},
		{"key we never wrote", func(t *testing.T, path string) string {
			filled(t, path)
			inBolt(t, path, func(tx *bolt.Tx) error {
				return tx.Bucket(recordsBucket).Put([]byte("a key"), make([]byte, headSize))
			})
			return path
		}, "key has byte 0x20"},
		{"truncated", func(t *testing.T, path string) string {
			content := filled(t, path)
			writeFile(t, path, content[:len(content)/2])
			return path
		}, "the file is damaged"},
		{"last page cut off", func(t *testing.T, path string) string {
			filled(t, path)
			var size int64
			inBolt(t, path, func(tx *bolt.Tx) error {
				size = tx.Size()
				return nil
			})
			if err := os.Truncate(path, size-1); err != nil {
				t.Fatal(err)
			}
			return path
		}, "it is shorter than what was written to it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := c.make(t, newPath(t))
			for range 2 { // the first one leaves no lock behind
				s, err := openBolt(context.Background(), path, options{lockTimeout: time.Millisecond})
				if err == nil {
					_ = s.Close()
					t.Fatal("no error")
				}
				if !strings.HasPrefix(err.Error(), "opening store file "+path+": ") || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %q, want one with the path and %q", err, c.err)
				}
				if strings.Count(err.Error(), path) > 1 && !strings.Contains(c.err, "folder") {
					t.Errorf("error %q has the path twice", err)
				}
			}
		})
	}
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// fillings is how many records filled makes: enough for more than one level of
// pages.
const fillings = 500

// filled makes a store at path, with some pages that are free, and returns the
// bytes of its file.
func filled(t *testing.T, path string) []byte {
	t.Helper()
	s := openTest(t, path, options{})
	err := s.write(context.Background(), 0, func(records *bolt.Bucket) (bool, error) {
		for i := range fillings {
			record, err := newRecord(filling(i), 0, time.Time{})
			if err != nil {
				return false, err
			}
			if err := records.Put([]byte(fillingKey(i)), record); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < fillings; i += 100 { // frees some pages
		mustPut(t, s, fillingKey(i), string(filling(i)), 0)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func fillingKey(i int) string { return fmt.Sprintf("key/%04d", i) }

// filling is the value of fillingKey(i), some of them longer than
// a page.
func filling(i int) []byte {
	if i%100 == 99 {
		return bytes.Repeat([]byte{byte(i)}, 10_000)
	}
	return bytes.Repeat([]byte{byte(i)}, 300)
}

// inBolt changes a file behind the store's back.
func inBolt(t *testing.T, path string, do func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(do); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenCreates(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, "a", "b", "sessions.db")
	s := openTest(t, path, options{})
	mustPut(t, s, "key", "value", 0)
	for name, want := range map[string]os.FileMode{
		path:                          0o600,
		filepath.Join(base, "a", "b"): 0o700 | os.ModeDir,
		filepath.Join(base, "a"):      0o700 | os.ModeDir,
	} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("mode of %s is %v, want %v", name, info.Mode(), want)
		}
	}
}

// TestOpenEmpty checks that a file without content, which is what some tools
// create for others to fill, becomes a store.
func TestOpenEmpty(t *testing.T) {
	path := newPath(t)
	writeFile(t, path, nil)
	s := openTest(t, path, options{})
	mustPut(t, s, "key", "value", 0)
}

func TestOpenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	path := newPath(t)
	if _, err := openBolt(ctx, path, options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file was created")
	}
}

// TestOpenTwice checks that a second opening is refused, by whichever process,
// and does no harm.
func TestOpenTwice(t *testing.T) {
	path := newPath(t)
	s := openTest(t, path, options{})
	mustPut(t, s, "key", "value", 0)
	begin := time.Now()
	_, err := openBolt(context.Background(), path, options{})
	if err == nil || err.Error() != "opening store file "+path+": another process has it open" || !errors.Is(err, store.ErrInUse) {
		t.Errorf("error %v", err)
	}
	if waited := time.Since(begin); waited < 500*time.Millisecond || waited > 10*time.Second {
		t.Errorf("waited %v for the other to close it, want about a second", waited)
	}
	wantValue(t, s, "key", "value")
	mustPut(t, s, "key", "next", 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantValue(t, openTest(t, path, options{}), "key", "next")
}

// TestFull checks what happens when no more fits into the file: writes answer
// errors, reads go on, and nothing that was stored is lost. The same on a disk
// that is full in fact is in crash_test.go.
func TestFull(t *testing.T) {
	path := newPath(t)
	s := openTest(t, path, options{maxSize: 1 << 20})
	stored := fill(t, s)
	if err := s.Put(context.Background(), "one more", nil, 0); err == nil {
		t.Error("a key with a space is accepted")
	}
	last := s.Put(context.Background(), "huge", make([]byte, 900_000), 0)
	if !errors.Is(last, bolterrors.ErrMaxSizeReached) || !strings.Contains(last.Error(), "writing store file "+path) {
		t.Errorf("Put: error %v, want that the file is full", last)
	}
	wantStored(t, s, stored)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, path, options{maxSize: 1 << 20})
	wantStored(t, s, stored)
	makeRoom(t, s, stored)
}

// fill puts values until that fails, and returns how many were acknowledged.
func fill(t *testing.T, s *boltStore) (stored int) {
	t.Helper()
	for ; stored < 100_000; stored++ {
		if err := s.Put(context.Background(), fillingKey(stored), filling(stored), 0); err != nil {
			return stored
		}
	}
	t.Fatal("it never gets full")
	return 0
}

func wantStored(t *testing.T, s *boltStore, stored int) {
	t.Helper()
	for i := range stored {
		wantValue(t, s, fillingKey(i), string(filling(i)))
	}
	if n := inFile(t, s); n != stored {
		t.Errorf("%d records, want %d", n, stored)
	}
}

// makeRoom checks that deleting helps.
func makeRoom(t *testing.T, s *boltStore, stored int) {
	t.Helper()
	for i := range stored / 2 {
		if err := s.Delete(context.Background(), fillingKey(i)); err != nil {
			t.Fatalf("deleting to make room: %v", err)
		}
	}
	for i := range stored / 4 {
		mustPut(t, s, fillingKey(i), string(filling(i)), 0)
	}
}
