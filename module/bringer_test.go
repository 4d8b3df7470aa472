// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/store"
)

// Alipay's phone data has no name, time or chance in it: a captured one would
// pass for anybody's. It belongs to whoever brought it first, and he may bring it
// again, because his number is the same data every time.
func TestBringers(t *testing.T) {
	st, keys := newSharedState(t)
	b := &bringers{store: st.store, keys: keys}
	for _, step := range []struct {
		data, subject string
		want          bool
	}{
		{"phone of alice", "alice", true},
		{"phone of alice", "mallory", false},
		{"phone of alice", "alice", true},
		{"phone of bob", "bob", true},
		{"phone of alice", "bob", false},
	} {
		if got, err := b.first(t.Context(), "alipay", []byte(step.data), step.subject); err != nil || got != step.want {
			t.Errorf("%v: %v, %v", step, got, err)
		}
	}
	if got, err := b.first(t.Context(), "other", []byte("phone of alice"), "mallory"); err != nil || !got {
		t.Errorf("of another platform: %v, %v", got, err)
	}
	err := st.store.Scan(t.Context(), "", func(e store.Entry) error {
		key, value := e.Key, e.Value
		if strings.Contains(key+string(value), "alice") {
			t.Errorf("record %s = %s tells of its user", key, value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Seal keys are taken away in the end: what is known of who brought what must not
// go with them, nor become everlasting.
func TestBringersSurviveAKeyRotation(t *testing.T) {
	st, keys := newSharedState(t)
	old := keyring.NewMaster()
	if err := keys.Replace(old); err != nil {
		t.Fatal(err)
	}
	b := &bringers{store: st.store, keys: keys}
	if _, err := b.first(t.Context(), "alipay", []byte("data"), "alice"); err != nil {
		t.Fatal(err)
	}
	fresh := keyring.NewMaster()
	if err := keys.Replace(fresh, old); err != nil {
		t.Fatal(err)
	}
	if n, err := reseal(t.Context(), st.store, keys); n != 1 || err != nil {
		t.Fatalf("sealed %d, %v", n, err)
	}
	if err := keys.Replace(fresh); err != nil {
		t.Fatal(err)
	}
	if got, err := b.first(t.Context(), "alipay", []byte("data"), "mallory"); err != nil || got {
		t.Errorf("%v, %v", got, err)
	}
	sealed, err := keys.Seal([]byte(`{"key":"signed/x","sub":"alice","until":` + "1" + `}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, ttl, err := resealed(keys, sealed); err != nil || ttl <= 0 || ttl > time.Minute {
		t.Errorf("a record at its end lives on for %v, %v", ttl, err)
	}
}
