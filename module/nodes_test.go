// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	goruntime "runtime"
	"slices"
	"testing"
	"time"

	"github.com/minigate/minigate/module/keyring"
)

// newRing returns a ring of keys that are made of one letter each.
func newRing(t *testing.T, letters string) *keyring.Ring {
	t.Helper()
	var masters [][]byte
	for _, letter := range letters {
		master := make([]byte, keyring.KeySize)
		for i := range master {
			master[i] = byte(letter)
		}
		masters = append(masters, master)
	}
	ring, err := keyring.New(masters...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// A gateway with the keys of others, or of somebody else, is told so.
func TestNodesMustHaveAKeyInCommon(t *testing.T) {
	for name, test := range map[string]struct {
		there, comes string
		want         error
	}{
		"same key":            {there: "a", comes: "a"},
		"new key, old second": {there: "ab", comes: "ba"},
		"another key":         {there: "ab", comes: "cd", want: errOtherKeys},
	} {
		t.Run(name, func(t *testing.T) {
			st, _ := newSharedState(t)
			first, second := newNodes(st.store), newNodes(st.store)
			if err := first.join(t.Context(), newRing(t, test.there)); err != nil {
				t.Fatal(err)
			}
			if err := second.join(t.Context(), newRing(t, test.comes)); !errors.Is(err, test.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// One that was killed does not count for long. How far the clocks of two machines
// are apart does not matter: they must not forget each other.
func TestNodesThatDie(t *testing.T) {
	st, _ := newSharedState(t)
	dead, first, second := newNodes(st.store), newNodes(st.store), newNodes(st.store)
	skew := time.Hour
	second.now = func() time.Time { return time.Now().Add(skew) }
	for _, n := range []*nodes{dead, first, second} {
		if err := n.join(t.Context(), newRing(t, "a")); err != nil {
			t.Fatal(err)
		}
	}
	see := func(n *nodes, want int) {
		t.Helper()
		if others, err := n.announce(t.Context()); err != nil || len(others) != want {
			t.Errorf("%d others, %v; want %d", len(others), err, want)
		}
	}
	see(first, 2)
	see(second, 2)
	skew += nodeAlive - time.Second
	see(first, 2)
	see(second, 2)
	skew += 2 * time.Second
	see(second, 1)
	see(first, 1)
}

// What another gateway sealed with a key that is being handed out is not damaged.
func TestNodesKnowKeysElsewhere(t *testing.T) {
	st, _ := newSharedState(t)
	first, second := newNodes(st.store), newNodes(st.store)
	mine, other, stranger := newRing(t, "a"), newRing(t, "ab"), newRing(t, "z")
	if err := first.join(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	if err := second.join(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	next := newRing(t, "ba")
	sealed, err := next.Seal([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := next.SignToken([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	strange, err := stranger.Seal([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mine.Open(sealed); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("before it is known: %v", err)
	}
	others, err := first.announce(t.Context())
	if err != nil || len(others) != 1 {
		t.Fatalf("%v %v", others, err)
	}
	first.learn(others)
	if _, err := mine.Open(sealed); !errors.Is(err, keyring.ErrElsewhere) {
		t.Errorf("record: %v", err)
	}
	if _, _, err := mine.VerifyToken(token); !errors.Is(err, keyring.ErrElsewhere) {
		t.Errorf("token: %v", err)
	}
	if _, err := mine.Open(strange); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("a key that nobody has: %v", err)
	}
	if _, err := other.Open(sealed); err != nil {
		t.Errorf("whoever has the key: %v", err)
	}
	if first.count() != 2 {
		t.Errorf("%d gateways", first.count())
	}
	second.leave(t.Context())
	if others, err = first.announce(t.Context()); err != nil || len(others) != 0 {
		t.Errorf("after the end of the other: %v %v", others, err)
	}
	// It may only be restarted: what it wrote is no rubbish.
	first.learn(others)
	if _, err := mine.Open(sealed); !errors.Is(err, keyring.ErrElsewhere) {
		t.Errorf("while it is away: %v", err)
	}
	first.now = func() time.Time { return time.Now().Add(elsewhereKept + time.Minute) }
	first.learn(others)
	if _, err := mine.Open(sealed); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("long after: %v", err)
	}
}

// Nothing is sealed with a key of which the others have not had time to hear.
func TestNodesAreGivenTimeToHearOfAKey(t *testing.T) {
	st, _ := newSharedState(t)
	first, second := newNodes(st.store), newNodes(st.store)
	if err := first.join(t.Context(), newRing(t, "a")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	joined := make(chan error, 1)
	go func() { joined <- second.join(ctx, newRing(t, "ba")) }()
	for heard := false; !heard; {
		others, err := first.announce(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		heard = len(others) == 1
	}
	select {
	case err := <-joined:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	cancel()
	if err := <-joined; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if ids := second.ids(); ids != nil {
		t.Errorf("it uses %v", ids)
	}
}

// While a gateway waits for others to hear of its new key, it goes on saying that it
// is there; that must not take the new key back.
func TestNodesAnnounceAKeyAllTheTime(t *testing.T) {
	st, _ := newSharedState(t)
	first, second := newNodes(st.store), newNodes(st.store)
	ring, other := newRing(t, "a"), newRing(t, "a")
	for n, keys := range map[*nodes]*keyring.Ring{first: ring, second: other} {
		if err := n.join(t.Context(), keys); err != nil {
			t.Fatal(err)
		}
	}
	next := newRing(t, "ba")
	ctx, cancel := context.WithCancel(t.Context())
	changed := make(chan error, 1)
	go func() { changed <- first.changing(ctx, next.IDs(), func() error { return nil }) }()
	hears := func() bool {
		others, err := second.announce(t.Context())
		if err != nil || len(others) != 1 {
			t.Fatalf("%v %v", others, err)
		}
		return slices.Contains(others[0].Keys, next.ActiveID())
	}
	for !hears() {
		goruntime.Gosched()
	}
	if _, err := first.announce(t.Context()); err != nil { // as run does
		t.Fatal(err)
	}
	if !hears() {
		t.Error("the key is taken back")
	}
	cancel()
	if err := <-changed; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// The last configuration goes while the others are asked: nothing is left to
// compare with them.
func TestNodesLearnWithoutKeys(t *testing.T) {
	st, _ := newSharedState(t)
	n := newNodes(st.store)
	ring := newRing(t, "a")
	if err := n.join(t.Context(), ring); err != nil {
		t.Fatal(err)
	}
	n.part(ring)
	n.learn([]node{{Host: "other", Keys: newRing(t, "b").IDs()}})
	if n.count() != 2 {
		t.Errorf("%d gateways", n.count())
	}
}

// The list is damaged: each gateway writes itself down again.
func TestNodesListIsDamaged(t *testing.T) {
	st, _ := newSharedState(t)
	if err := st.store.Put(t.Context(), nodesKey, []byte("rubbish"), 0); err != nil {
		t.Fatal(err)
	}
	n := newNodes(st.store)
	ring := newRing(t, "a")
	if err := n.join(t.Context(), ring); err != nil {
		t.Fatal(err)
	}
	n.part(ring)
	if ids := n.ids(); ids != nil {
		t.Errorf("after the end it uses %v", ids)
	}
}
