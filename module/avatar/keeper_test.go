// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package avatar

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/store"
	"github.com/minigate/minigate/plugin/stores/memory"
)

const day = 24 * time.Hour

// clock is a time that tests move. It begins with the one that file systems know.
type clock struct{ atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.Store(time.Now().Unix())
	return c
}

func (c *clock) now() time.Time           { return time.Unix(c.Load(), 0) }
func (c *clock) advance(by time.Duration) { c.Add(int64(by / time.Second)) }

func openStore(t *testing.T) store.Store {
	t.Helper()
	s, err := new(memory.Opener).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// ring returns a keyring of keys that are told apart by a number.
func ring(t *testing.T, keys ...byte) *keyring.Ring {
	t.Helper()
	var masters [][]byte
	for _, k := range keys {
		masters = append(masters, bytes.Repeat([]byte{k}, keyring.KeySize))
	}
	r, err := keyring.New(masters...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newInStore(t *testing.T, keep time.Duration, c *clock) *inStore {
	t.Helper()
	k := InStore(openStore(t), ring(t, 1), keep).(*inStore)
	k.now = c.now
	return k
}

func newInDirectory(t *testing.T, keep time.Duration, c *clock) *inDirectory {
	t.Helper()
	k := InDirectory(filepath.Join(t.TempDir(), "made", "at first Put"), keep).(*inDirectory)
	k.now = c.now
	return k
}

// onEach runs a test on each kind of keeper.
func onEach(t *testing.T, keep time.Duration, test func(*testing.T, Keeper, *clock)) {
	t.Helper()
	t.Run("store", func(t *testing.T) {
		c := newClock()
		test(t, newInStore(t, keep, c), c)
	})
	t.Run("directory", func(t *testing.T) {
		c := newClock()
		test(t, newInDirectory(t, keep, c), c)
	})
}

var sample = Picture{typePNG, []byte("\x89PNG\r\n\x1a\npixels\n\x00")}

// keepOne puts the sample and returns its name.
func keepOne(t *testing.T, k Keeper) string {
	t.Helper()
	name := NewName(sample)
	if err := k.Put(t.Context(), name, sample); err != nil {
		t.Fatal(err)
	}
	return name
}

// expect gets a picture and compares it; nil is for one that is not there.
func expect(t *testing.T, k Keeper, name string, want *Picture) {
	t.Helper()
	p, err := k.Get(t.Context(), name)
	switch {
	case want == nil && !errors.Is(err, ErrNotFound):
		t.Errorf("Get returns %v, %v, want ErrNotFound", p, err)
	case want != nil && (err != nil || p.Type != want.Type || !bytes.Equal(p.Data, want.Data)):
		t.Errorf("Get returns %v, %v", p, err)
	}
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// hostile are names that are none. The first that reaches a file system or a
// store is one too many.
func hostile() []string {
	good := NewName(sample)
	return []string{
		"", ".", "..", "/", "../" + good, "./" + good, "/etc/passwd", "..\\" + good, good + "/", good + "/..", good + "\x00", good + "\n",
		"\n" + good[1:], good[:21] + "\n" + good[22:], good[:10] + "\n" + good[11:], good[:10] + "%" + good[11:], good[:10] + "." + good[11:],
		good[:10] + "/" + good[11:], good[:10] + "+" + good[11:], good[:10] + "=" + good[11:], good[1:], "A" + good, good[:22], good[:22] + ".svg",
		good[:22] + ".PNG", good[:22] + ".jpeg", good[:22] + ".png.html", good + " ", " " + good, good[:22] + "png", good[:21] + "B.png",
		"new-" + good[:22], ".png", ".jpg", "*", strings.Repeat("A", 1<<16) + ".png", "用" + good[3:],
	}
}

func TestNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, p := range []Picture{{Type: typePNG}, {Type: typeJPEG}} {
		for range 100 {
			name := NewName(p)
			kind, ok := typeOf(name)
			if !ok || !IsName(name) || kind != p.Type || len(name) != 26 || seen[name] || store.CheckKey(storePrefix+name) != nil {
				t.Fatalf("%q for %s", name, p.Type)
			}
			seen[name] = true
		}
	}
	for _, name := range hostile() {
		if IsName(name) {
			t.Errorf("%q is taken for a name", name)
		}
	}
}

func TestKeepers(t *testing.T) {
	onEach(t, 0, func(t *testing.T, k Keeper, _ *clock) {
		absent := NewName(sample)
		expect(t, k, absent, nil)
		do(t, k.Delete(t.Context(), absent))
		do(t, k.Refresh(t.Context(), absent))
		do(t, k.Sweep(t.Context()))

		png := keepOne(t, k)
		photo := Picture{typeJPEG, bytes.Repeat([]byte{0xff, '\n', 0}, 100_000)}
		jpg := NewName(photo)
		do(t, k.Put(t.Context(), jpg, photo))
		expect(t, k, png, &sample)
		expect(t, k, jpg, &photo)
		other := Picture{typePNG, []byte("other")}
		do(t, k.Put(t.Context(), png, other))
		expect(t, k, png, &other)

		do(t, k.Refresh(t.Context(), png))
		do(t, k.Sweep(t.Context()))
		expect(t, k, png, &other)
		do(t, k.Delete(t.Context(), png))
		expect(t, k, png, nil)
		expect(t, k, jpg, &photo)
		do(t, k.Refresh(t.Context(), png))
		expect(t, k, png, nil)
	})
}

// What a keeper hands out or is handed is not shared with it.
func TestKeepersShareNothing(t *testing.T) {
	onEach(t, 0, func(t *testing.T, k Keeper, _ *clock) {
		mine := Picture{typePNG, []byte("mine")}
		name := NewName(mine)
		do(t, k.Put(t.Context(), name, mine))
		copy(mine.Data, "XXXX")
		p, err := k.Get(t.Context(), name)
		do(t, err)
		copy(p.Data, "YYYY")
		expect(t, k, name, &Picture{typePNG, []byte("mine")})
	})
}

func TestKeepersRefuse(t *testing.T) {
	onEach(t, 0, func(t *testing.T, k Keeper, _ *clock) {
		for _, name := range hostile() {
			if k.Put(t.Context(), name, sample) == nil {
				t.Errorf("Put(%q) is accepted", name)
			}
			expect(t, k, name, nil)
			do(t, k.Delete(t.Context(), name))
			do(t, k.Refresh(t.Context(), name))
		}
		for what, p := range map[string]Picture{
			"another type": {typeJPEG, []byte("x")},
			"no type":      {"", []byte("x")},
			"SVG":          {"image/svg+xml", []byte("<svg/>")},
			"nothing":      {typePNG, nil},
			"too much":     {typePNG, make([]byte, store.MaxValue+1)},
		} {
			name := NewName(sample)
			if k.Put(t.Context(), name, p) == nil {
				t.Errorf("%s is accepted", what)
			}
			expect(t, k, name, nil)
		}
	})
}

func TestKeepersRetain(t *testing.T) {
	onEach(t, 10*day, func(t *testing.T, k Keeper, c *clock) {
		left, used := keepOne(t, k), keepOne(t, k)
		c.advance(2 * day)
		do(t, k.Refresh(t.Context(), used))
		c.advance(8*day - time.Second)
		do(t, k.Sweep(t.Context()))
		expect(t, k, left, &sample)
		c.advance(time.Second)
		expect(t, k, left, nil) // also before anybody swept
		do(t, k.Refresh(t.Context(), left))
		expect(t, k, left, nil)
		do(t, k.Sweep(t.Context()))
		expect(t, k, left, nil)
		expect(t, k, used, &sample)
		c.advance(2 * day)
		expect(t, k, used, nil)
	})
}

func TestKeepersForGood(t *testing.T) {
	onEach(t, 0, func(t *testing.T, k Keeper, c *clock) {
		name := keepOne(t, k)
		c.advance(10_000 * day)
		do(t, k.Sweep(t.Context()))
		expect(t, k, name, &sample)
	})
}

// Whoever goes away before it began has nothing kept; what is to be deleted is
// deleted all the same.
func TestKeepersWhenTheClientGoes(t *testing.T) {
	onEach(t, day, func(t *testing.T, k Keeper, c *clock) {
		name := keepOne(t, k)
		c.advance(2 * day) // so that Sweep has something to do
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		fresh := NewName(sample)
		if err := k.Put(gone, fresh, sample); !errors.Is(err, context.Canceled) {
			t.Errorf("Put: %v", err)
		}
		if _, err := k.Get(gone, name); !errors.Is(err, context.Canceled) {
			t.Errorf("Get: %v", err)
		}
		if err := k.Sweep(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("Sweep: %v", err)
		}
		expect(t, k, fresh, nil)
		kept := keepOne(t, k)
		do(t, k.Delete(gone, kept))
		expect(t, k, kept, nil)
	})
}

func TestKeepersAtOnce(t *testing.T) {
	onEach(t, day, func(t *testing.T, k Keeper, _ *clock) {
		shared := NewName(sample)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 5 {
					do(t, k.Put(t.Context(), shared, sample))
					do(t, k.Refresh(t.Context(), shared))
					expect(t, k, shared, &sample)
					own := NewName(sample)
					do(t, k.Put(t.Context(), own, sample))
					do(t, k.Sweep(t.Context()))
					expect(t, k, own, &sample)
					do(t, k.Delete(t.Context(), own))
					expect(t, k, own, nil)
				}
			})
		}
		wg.Wait()
	})
}
