// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/module/store"
)

// TestDamagedPage damages one page after the other, each in one of several
// ways. Opening must find that, or the page was not in use.
func TestDamagedPage(t *testing.T) {
	path := newPath(t)
	whole := filled(t, path)
	size := os.Getpagesize()
	random := rand.NewChaCha8([32]byte{2})
	found := 0
	for page := range len(whole) / size {
		content := slices.Clone(whole)
		at := content[page*size : (page+1)*size]
		switch page % 5 {
		case 0:
			clear(at)
		case 1:
			_, _ = random.Read(at)
		case 2: // a page that was never written, on a disk that says it was
			copy(at, whole[(page+7)%(len(whole)/size)*size:][:size])
		case 3: // its own header, and garbage after it
			_, _ = random.Read(at[16:])
		case 4:
			for i := range at {
				at[i] = 0xff
			}
		}
		writeFile(t, path, content)
		s, err := openBolt(context.Background(), path, options{lockTimeout: time.Millisecond})
		if err != nil {
			if !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), path) {
				t.Errorf("page %d: error %v, want that the file is damaged", page, err)
			}
			found++
			continue
		}
		for i := range fillings {
			// Values are not checked here but by who sealed them.
			if got, err := s.Get(context.Background(), fillingKey(i)); err != nil || len(got) != len(filling(i)) {
				t.Fatalf("page %d: Get(%q) is %d bytes, error %v, after the file was opened", page, fillingKey(i), len(got), err)
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("page %d: Close: %v", page, err)
		}
	}
	if found < fillings/10 {
		t.Errorf("found the damage to %d pages; the records alone take more", found)
	}
}

// TestDamagedBits flips bits anywhere in the file. Whatever comes of it, the
// process goes on, and every call returns.
func TestDamagedBits(t *testing.T) {
	path := newPath(t)
	whole := filled(t, path)
	random := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		content := slices.Clone(whole)
		for range 1 + random.IntN(20) {
			// Headers are where it hurts, so half of the flips go there.
			at := random.IntN(len(content))
			if random.IntN(2) == 0 {
				at = at/os.Getpagesize()*os.Getpagesize() + random.IntN(64)
			}
			content[at%len(content)] ^= 1 << random.IntN(8)
		}
		writeFile(t, path, content)
		s, err := openBolt(context.Background(), path, options{lockTimeout: time.Millisecond})
		if err != nil {
			continue
		}
		useAll(t, s)
	}
}

// useAll calls everything on a store whose file may be damaged, and wants no
// more than that it returns: a value, or an error that says why not.
func useAll(t *testing.T, s *boltStore) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx := context.Background()
		for i := 0; i < fillings; i += 20 {
			for _, err := range []error{
				func() error { _, err := s.Get(ctx, fillingKey(i)); return err }(),
				s.Put(ctx, fillingKey(i+1), []byte("value"), 0),
				s.Delete(ctx, fillingKey(i+2)),
				s.Update(ctx, fillingKey(i+3), func(old []byte) ([]byte, time.Duration, error) { return []byte("value"), 0, nil }),
			} {
				if err != nil && !errors.Is(err, store.ErrNotFound) && !strings.Contains(err.Error(), s.path) {
					t.Errorf("error %v, want one with the path", err)
				}
			}
		}
		_ = s.Scan(ctx, "", func(store.Entry) error { return nil })
		_ = s.Close()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("a call on a damaged file hangs")
	}
}

// TestDamagedWhileOpen destroys the file under a store that has it open, as a
// backup copied over it does.
func TestDamagedWhileOpen(t *testing.T) {
	page := os.Getpagesize()
	garbage := make([]byte, 4<<20)
	_, _ = rand.NewChaCha8([32]byte{4}).Read(garbage)
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, f *os.File, size int)
	}{
		{"truncated to nothing", func(t *testing.T, f *os.File, size int) { truncate(t, f, 0) }},
		{"truncated to a byte", func(t *testing.T, f *os.File, size int) { truncate(t, f, 1) }},
		{"truncated to its meta pages", func(t *testing.T, f *os.File, size int) { truncate(t, f, 2*page) }},
		{"truncated to half", func(t *testing.T, f *os.File, size int) { truncate(t, f, size/2) }},
		{"overwritten", func(t *testing.T, f *os.File, size int) { writeAt(t, f, garbage[:size], 0) }},
		{"meta pages overwritten", func(t *testing.T, f *os.File, size int) { writeAt(t, f, garbage[:2*page], 0) }},
		{"records overwritten", func(t *testing.T, f *os.File, size int) { writeAt(t, f, garbage[:size-2*page], 2*page) }},
		{"second half overwritten", func(t *testing.T, f *os.File, size int) { writeAt(t, f, garbage[:size/2], size/2) }},
		{"zeroed", func(t *testing.T, f *os.File, size int) { writeAt(t, f, make([]byte, size), 0) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := newPath(t)
			size := len(filled(t, path))
			s := openTest(t, path, options{})
			wantValue(t, s, fillingKey(1), string(filling(1)))
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			c.damage(t, f, size)

			refused := 0
			for i := range fillings {
				_, err := s.Get(context.Background(), fillingKey(i))
				if errors.Is(err, store.ErrNotFound) {
					t.Fatalf("Get(%q) takes a damaged file for an absent key", fillingKey(i))
				}
				if err != nil {
					refused++
				}
			}
			if refused == 0 {
				t.Error("every key is read from a damaged file")
			}
			useAll(t, s)
			// Closed, it locks nobody out.
			_, err = openBolt(context.Background(), path, options{lockTimeout: time.Millisecond})
			if err != nil && strings.Contains(err.Error(), "another process") {
				t.Errorf("opening it again: %v", err)
			}
		})
	}
}

func truncate(t *testing.T, f *os.File, size int) {
	t.Helper()
	if err := f.Truncate(int64(size)); err != nil {
		t.Fatal(err)
	}
}

func writeAt(t *testing.T, f *os.File, b []byte, offset int) {
	t.Helper()
	if _, err := f.WriteAt(b, int64(offset)); err != nil {
		t.Fatal(err)
	}
}

// TestChangedWhileOpen copies a backup over the open file: nothing is wrong
// with the content, but it is not what the store knows of it.
func TestChangedWhileOpen(t *testing.T) {
	path := newPath(t)
	backup := filled(t, path)
	s := openTest(t, path, options{})
	for i := range 5 {
		mustPut(t, s, fmt.Sprint("later/", i), "value", 0)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	writeAt(t, f, backup, 0)
	for range 2 {
		err := s.Put(context.Background(), "key", []byte("value"), 0)
		if !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "something else wrote to it") {
			t.Errorf("Put: error %v, want that something else wrote to the file", err)
		}
	}
}

// TestDeletedWhileOpen checks that nothing is acknowledged that goes into a
// file that nobody will find again.
func TestDeletedWhileOpen(t *testing.T) {
	path := newPath(t)
	s := openTest(t, path, options{})
	mustPut(t, s, "key", "value", 0)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	err := s.Put(context.Background(), "key", []byte("lost"), 0)
	if err == nil || !strings.Contains(err.Error(), path+": the file was deleted while it is open") {
		t.Errorf("Put: error %v, want that the file was deleted", err)
	}
	wantValue(t, s, "key", "value")

	writeFile(t, path, []byte("another file"))
	err = s.Put(context.Background(), "key", []byte("lost"), 0)
	if err == nil || !strings.Contains(err.Error(), path+": the file was replaced while it is open") {
		t.Errorf("Put: error %v, want that the file was replaced", err)
	}
	wantValue(t, s, "key", "value")

	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "key", "after it was put back", 0)
	wantValue(t, s, "key", "after it was put back")
}
