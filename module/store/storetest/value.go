// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/minigate/minigate/module/store"
)

func putGet(t *testing.T, s store.Store) {
	wantMissing(t, s, "key")
	put(t, s, "key", "first", 0)
	wantValue(t, s, "key", "first")
	put(t, s, "key", "second, and longer", 0)
	wantValue(t, s, "key", "second, and longer")
	put(t, s, "key", "3rd", -1)
	wantValue(t, s, "key", "3rd")
	wantMissing(t, s, "key2")
	wantMissing(t, s, "ke")
}

func deletes(t *testing.T, s store.Store) {
	put(t, s, "a", "1", 0)
	put(t, s, "b", "2", 0)
	for range 2 { // the second time there is nothing to delete
		if err := s.Delete(bounded(t), "a"); err != nil {
			t.Fatalf("Delete: %v", err)
		}
		wantMissing(t, s, "a")
		wantValue(t, s, "b", "2")
	}
	put(t, s, "a", "3", 0)
	wantValue(t, s, "a", "3")
}

// visible is all of visible ASCII.
var visible = func() string {
	var b strings.Builder
	for c := byte(0x21); c <= 0x7e; c++ {
		b.WriteByte(c)
	}
	return b.String()
}()

// keys checks every character a key may have, as whole key and inside a
// longest one.
func keys(t *testing.T, s store.Store) {
	want := make(map[string]string)
	for _, c := range visible {
		want[string(c)] = "one " + string(c)
	}
	longest := strings.Repeat(visible, 6)[:512]
	want[longest] = "longest"
	want[longest[:511]+"x"] = "differs in the last byte"
	want["x"+longest[1:]] = "differs in the first byte"
	want[longest[:511]] = "one byte less"
	for key, value := range want {
		put(t, s, key, value, 0)
	}
	for key, value := range want {
		wantValue(t, s, key, value)
	}
	if found := contents(t, s, ""); len(found) != len(want) {
		t.Errorf("Scan finds %d keys, want %d", len(found), len(want))
	}
	for key := range want {
		if err := s.Delete(bounded(t), key); err != nil {
			t.Fatalf("Delete(%q): %v", key, err)
		}
		wantMissing(t, s, key)
	}
}

// keysDifferInCase is attack class T36: openids are case-sensitive, so two
// users may differ in nothing but the case of a letter.
func keysDifferInCase(t *testing.T, s store.Store) {
	put(t, s, "session/wx1/oAbC", "first user", 0)
	wantMissing(t, s, "session/wx1/oABC")
	put(t, s, "session/wx1/oABC", "second user", 0)
	wantValue(t, s, "session/wx1/oAbC", "first user")
	if found := contents(t, s, "session/wx1/oAB"); len(found) != 1 {
		t.Errorf("Scan finds %v, want the second user alone", found)
	}
	if err := s.Delete(bounded(t), "session/wx1/oABC"); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	wantValue(t, s, "session/wx1/oAbC", "first user")
	wantMissing(t, s, "session/wx1/oABC")
}

// values checks sizes and bytes of values. A store may refuse an empty value;
// then what was there before must stay.
func values(t *testing.T, s store.Store) {
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	largest := bytes.Repeat(everyByte, 1<<20/len(everyByte))
	for name, value := range map[string][]byte{
		"one":     {'x'},
		"nul":     {0},
		"nuls":    make([]byte, 1000),
		"binary":  everyByte,
		"utf8":    []byte("用户\n\r\n"),
		"largest": largest,
	} {
		put(t, s, name, string(value), 0)
		wantValue(t, s, name, string(value))
		if found := contents(t, s, name); found[name] != string(value) {
			t.Errorf("Scan reads %s as %s", name, short([]byte(found[name])))
		}
	}

	for name, empty := range map[string][]byte{"empty": {}, "nil": nil} {
		put(t, s, name, "before", 0)
		if err := s.Put(bounded(t), name, empty, 0); err != nil {
			wantValue(t, s, name, "before")
			continue
		}
		wantValue(t, s, name, "")
		called := false
		err := s.Update(bounded(t), name, func(old []byte) ([]byte, ttl, error) {
			called = true
			if old == nil {
				t.Errorf("Update calls change with nil for the empty value of %s", name)
			}
			return []byte("after"), 0, nil
		})
		if err != nil || !called {
			t.Errorf("Update of an empty value: called %t, error %v", called, err)
		}
		wantValue(t, s, name, "after")
	}
}

// valueIsolation checks that nobody shares memory with the store.
func valueIsolation(t *testing.T, s store.Store) {
	handedIn := []byte("value")
	if err := s.Put(bounded(t), "key", handedIn, 0); err != nil {
		t.Fatalf("Put: %v", err)
	}
	overwrite(handedIn)
	wantValue(t, s, "key", "value")

	handedOut, err := s.Get(bounded(t), "key")
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	overwrite(handedOut)
	wantValue(t, s, "key", "value")

	err = s.Scan(bounded(t), "key", func(e store.Entry) error {
		overwrite(e.Value)
		return nil
	})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	wantValue(t, s, "key", "value")
	overwrite(lookup(t, s, "key").Value)
	wantValue(t, s, "key", "value")

	returned := []byte("updated")
	var kept []byte
	err = s.Update(bounded(t), "key", func(old []byte) ([]byte, ttl, error) {
		kept = old
		return returned, 0, nil
	})
	if err != nil {
		t.Fatalf("Update: %v", err)
	}
	overwrite(returned)
	overwrite(kept) // forbidden, but must not reach the next reader
	wantValue(t, s, "key", "updated")

	err = s.Update(bounded(t), "key", func(old []byte) ([]byte, ttl, error) {
		overwrite(old)
		return old, 0, errRefused
	})
	if err == nil {
		t.Fatal("Update returns no error")
	}
	wantValue(t, s, "key", "updated")
}

func overwrite(value []byte) {
	for i := range value {
		value[i] = '#'
	}
}
