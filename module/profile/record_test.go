// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/minigate/minigate/module/identity"
)

// plain returns a record of subject that can be read.
func plain(subject string) map[string]any {
	return map[string]any{
		"v": 1, "key": Key(subject), "version": 3,
		"known": map[string]any{"created_at": 1, "updated_at": 1, "stated": map[string]any{"nickname": "Al"}},
	}
}

func with(record map[string]any, name string, value any) map[string]any {
	record[name] = value
	return record
}

// What the store holds is not believed, and not replaced either.
func TestUnreadableRecords(t *testing.T) {
	bob := identity.Identity{Platform: "wechat", Program: "wxA", OpenID: "oBob"}
	for what, c := range map[string]struct {
		put     func(*fixture)
		damaged bool
	}{
		"not sealed":          {func(f *fixture) { f.putRaw([]byte(`{"v":1}`)) }, true},
		"empty":               {func(f *fixture) { f.putRaw([]byte{}) }, true},
		"a bit changed":       {func(f *fixture) { f.put(plain(alice.Subject())); raw := f.raw(); raw[len(raw)-8] ^= 1; f.putRaw(raw) }, true},
		"cut":                 {func(f *fixture) { f.put(plain(alice.Subject())); raw := f.raw(); f.putRaw(raw[:len(raw)/2]) }, true},
		"of another user":     {func(f *fixture) { f.put(plain(bob.Subject())) }, true},
		"a session record":    {func(f *fixture) { f.put(map[string]any{"v": 1, "sub": alice.Subject(), "identity": alice}) }, true},
		"not an object":       {func(f *fixture) { f.put([]int{1}) }, true},
		"without a version":   {func(f *fixture) { f.put(with(plain(alice.Subject()), "version", 0)) }, true},
		"of a later gateway":  {func(f *fixture) { f.put(with(plain(alice.Subject()), "v", 2)) }, false},
		"of a key that is no": {func(f *fixture) { f.put(plain(alice.Subject())); f.Keys = ring(f.tb, 2) }, true},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t, 0)
			c.put(f)
			before := f.raw()
			check := func(call string, err error) {
				t.Helper()
				want := errNewer
				if c.damaged {
					want = ErrDamaged
				}
				if !errors.Is(err, want) {
					t.Errorf("%s: error %v, want %v", call, err, want)
				}
				if !bytes.Equal(f.raw(), before) {
					t.Errorf("%s replaced the record", call)
				}
			}
			_, err := f.Get(t.Context(), alice.Subject())
			check("Get", err)
			_, err = f.Change(t.Context(), author("s1"), name("Al"))
			check("Change", err)
			err = f.Manager.Refresh(t.Context(), alice.Subject(), &Profile{CreatedAt: f.clock.now(), end: 1})
			check("Refresh", err)
			f.sweep(0)
			check("Sweep", err)
			if len(f.warnings) != 1 {
				t.Errorf("warnings: %v", f.warnings)
			}
			if !c.damaged {
				_, err := f.Erase(t.Context(), alice.Subject(), nil)
				check("Erase", err)
				return
			}
			// The user's right to have it erased does not depend on it.
			f.erase("s1")
			if p := f.get(); *p != (Profile{Version: 1}) || len(f.warnings) != 2 {
				t.Errorf("after the erasure: %+v, warnings %v", p, f.warnings)
			}
		})
	}
}

// One user's record in the place of another's is worth nothing.
func TestForeignRecord(t *testing.T) {
	f := newFixture(t, 0)
	bob := identity.Identity{Platform: "wechat", Program: "wxA", OpenID: "oBob"}
	if _, err := f.Change(t.Context(), Author{bob.Subject(), bob, "s"}, name("Bob")); err != nil {
		t.Fatal(err)
	}
	stolen, err := f.store.Get(t.Context(), Key(bob.Subject()))
	if err != nil {
		t.Fatal(err)
	}
	f.putRaw(stolen)
	if _, err := f.Get(t.Context(), alice.Subject()); !errors.Is(err, ErrDamaged) {
		t.Errorf("error %v", err)
	}
}

func FuzzOpenRecord(f *testing.F) {
	subject := alice.Subject()
	keys := ring(f, 1)
	rec := record{Version: 1}
	rec.change(&Profile{Stated: identity.UserInfo{Nickname: "Al"}}, alice, 10, 20)
	rec.Format, rec.Key = recordFormat, Key(subject)
	whole, err := json.Marshal(&rec)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{nil, {}, whole, []byte("eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAA.AAAA.AAAA"), []byte(`{"v":1,"key":"` + Key(subject) + `","version":1,"ended":{"until":5}}`)} {
		f.Add(seed, uint32(15))
	}
	f.Fuzz(func(t *testing.T, data []byte, unix uint32) {
		now := int64(unix)
		if _, err := openRecord(keys, subject, data, now); err == nil {
			t.Error("a record that was not sealed is believed")
		}
		trusted, err := keys.Seal(data)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := openRecord(keys, subject, trusted, now)
		if err != nil {
			return
		}
		p := rec.profile()
		if rec.empty() && p.Version != 0 {
			t.Errorf("an empty record has version %d", p.Version)
		}
		again, ttl, err := rec.seal(keys, subject, now)
		if err != nil || ttl < 0 {
			t.Fatalf("sealing it again: ttl %s, error %v", ttl, err)
		}
		if again == nil {
			return
		}
		reopened, err := openRecord(keys, subject, again, now)
		if err != nil || *reopened.profile() != *p {
			t.Errorf("sealed again it is %+v, not %+v; error %v", reopened, rec, err)
		}
	})
}
