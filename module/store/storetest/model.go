// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/minigate/minigate/module/store"
)

// model does random sequences of operations to the store and to a map, and
// compares what both answer. rapid shortens a sequence that fails.
func model(t *testing.T, s store.Store) {
	runModel(t, func(*rapid.T) store.Store { return s }, nil)
}

// runModel checks sequences on the store that current returns. With a reopen
// that is not nil, closing and opening the store is one of the operations.
func runModel(t *testing.T, current func(*rapid.T) store.Store, reopen func(*rapid.T)) {
	sequences := 0
	rapid.Check(t, func(rt *rapid.T) {
		sequences++
		m := &machine{
			store:    current,
			prefix:   fmt.Sprintf("model%d/", sequences),
			expected: make(map[string]string),
			t:        t,
		}
		actions := map[string]func(*rapid.T){
			"Put":    m.put,
			"Expire": m.expire,
			"Get":    m.get,
			"Update": m.update,
			"Delete": m.delete,
			"Scan":   m.scan,
		}
		if reopen != nil {
			actions["Reopen"] = reopen
		}
		rt.Repeat(actions)
		m.compare(rt, "")
	})
}

// machine is a store, and the map that it has to equal under prefix.
type machine struct {
	store    func(*rapid.T) store.Store
	prefix   string
	expected map[string]string
	t        *testing.T
}

// names are few, so that operations meet, and some begin with others.
var names = rapid.SampledFrom([]string{"a", "A", "ab", "a/b", "a/", "a*", "~", strings.Repeat("long", 100)})

func (m *machine) key(rt *rapid.T) string {
	return m.prefix + names.Draw(rt, "name")
}

func value(rt *rapid.T) []byte {
	size := rapid.SampledFrom([]int{1, 3, 300, 3000, 9000}).Draw(rt, "size")
	fill := rapid.Byte().Draw(rt, "fill")
	return bytes.Repeat([]byte{fill}, size)
}

func (m *machine) put(rt *rapid.T) {
	key, value := m.key(rt), value(rt)
	d := rapid.SampledFrom([]ttl{0, -1, late, forever}).Draw(rt, "ttl")
	if err := m.store(rt).Put(bounded(m.t), key, value, d); err != nil {
		rt.Fatalf("Put(%q): %v", key, err)
	}
	m.expected[key] = string(value)
}

func (m *machine) expire(rt *rapid.T) {
	key, value := m.key(rt), value(rt)
	if err := m.store(rt).Put(bounded(m.t), key, value, 1); err != nil {
		rt.Fatalf("Put(%q): %v", key, err)
	}
	delete(m.expected, key)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if missing, err := isMissing(m.t, m.store(rt), key); missing {
			return
		} else if err != nil || time.Now().After(deadline) {
			rt.Fatalf("Get(%q) after its ttl: error %v", key, err)
		}
	}
}

func (m *machine) get(rt *rapid.T) {
	key := m.key(rt)
	got, err := m.store(rt).Get(bounded(m.t), key)
	want, present := m.expected[key]
	switch {
	case !present && !errors.Is(err, store.ErrNotFound):
		rt.Fatalf("Get(%q): %s, error %v, want ErrNotFound", key, short(got), err)
	case present && (err != nil || string(got) != want):
		rt.Fatalf("Get(%q): %s, error %v, want %s", key, short(got), err, short([]byte(want)))
	}
}

func (m *machine) update(rt *rapid.T) {
	key, next := m.key(rt), value(rt)
	want, present := m.expected[key]
	outcome := rapid.SampledFrom([]string{"set", "append", "delete", "refuse"}).Draw(rt, "outcome")
	err := m.store(rt).Update(bounded(m.t), key, func(old []byte) ([]byte, ttl, error) {
		if (old != nil) != present || string(old) != want {
			return nil, 0, fmt.Errorf("change sees %s, want %s", short(old), short([]byte(want)))
		}
		switch outcome {
		case "set":
			return next, late, nil
		case "append":
			return append(old, next...), 0, nil
		case "delete":
			return nil, 0, nil
		}
		return next, 0, errRefused
	})
	if outcome == "refuse" && errors.Is(err, errRefused) {
		return
	}
	if err != nil {
		rt.Fatalf("Update(%q): %v", key, err)
	}
	switch outcome {
	case "set":
		m.expected[key] = string(next)
	case "append":
		m.expected[key] = want + string(next)
	case "delete":
		delete(m.expected, key)
	case "refuse":
		rt.Fatalf("Update(%q): no error though change refused", key)
	}
}

func (m *machine) delete(rt *rapid.T) {
	key := m.key(rt)
	if err := m.store(rt).Delete(bounded(m.t), key); err != nil {
		rt.Fatalf("Delete(%q): %v", key, err)
	}
	delete(m.expected, key)
}

func (m *machine) scan(rt *rapid.T) {
	m.compare(rt, rapid.SampledFrom([]string{"", "a", "A", "a/", "a*", "b", "~"}).Draw(rt, "prefix"))
}

// compare checks that a scan below prefix finds what is expected there.
func (m *machine) compare(rt *rapid.T, prefix string) {
	found := make(map[string]string)
	err := m.store(rt).Scan(bounded(m.t), m.prefix+prefix, func(e store.Entry) error {
		key, value := e.Key, e.Value
		if _, seen := found[key]; seen {
			return fmt.Errorf("key %q is visited twice", key)
		}
		found[key] = string(value)
		return nil
	})
	if err != nil {
		rt.Fatalf("Scan(%q): %v", prefix, err)
	}
	want := maps.Clone(m.expected)
	maps.DeleteFunc(want, func(key, _ string) bool { return !strings.HasPrefix(key, m.prefix+prefix) })
	if !maps.Equal(found, want) {
		rt.Fatalf("Scan(%q) finds the keys %q, want %q, or the values differ", prefix,
			slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(want)))
	}
}
