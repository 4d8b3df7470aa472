// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/store"
)

const (
	// assertionKeysKey is the store key of the keys that sign assertions, and the
	// name of the lock of those who replace them.
	assertionKeysKey = "key/assertion"

	// assertionKeyLife is for how long a key signs.
	assertionKeyLife = 30 * 24 * time.Hour

	// assertionKeyAhead is for how long a key is published before it signs. It is
	// longer than upstreams keep what was published.
	assertionKeyAhead = time.Hour
	publishedMaxAge   = 15 * time.Minute

	// assertionKeyAfter is for how long a key is published after it has signed for
	// the last time: until no assertion is left, on clocks that differ.
	assertionKeyAfter = longestAssertion + 15*time.Minute

	// Keys are read from the store again after a minute, in the background. Those
	// that were read longer ago than ten are not used before that.
	assertionKeysFresh = time.Minute
	assertionKeysStale = 10 * time.Minute
	assertionKeysWait  = 10 * time.Second
	// assertionKeysPause is for how long the store is not asked again that gave none.
	assertionKeysPause = time.Second
)

// assertionKeysRecord is what is stored of the keys, the oldest first.
type assertionKeysRecord struct {
	// Key is the store key, so that no other sealed record can take its place.
	Key  string               `json:"key"`
	Keys []assertionKeyRecord `json:"keys"`
}

// assertionKeyRecord is one key. It signs from Since, in unix seconds, until the
// next one does.
type assertionKeyRecord struct {
	Private []byte `json:"private"` // PKCS #8
	Since   int64  `json:"since"`
}

// assertionKeySet is the keys as they were read. It is immutable.
type assertionKeySet struct {
	keys      []*keyring.SigningKey // the oldest first
	since     []int64               // of each
	published []byte                // JWK Set
	readAt    time.Time
}

// signer returns the key that signs at a time.
func (s *assertionKeySet) signer(now time.Time) *keyring.SigningKey {
	for i := len(s.keys) - 1; i > 0; i-- {
		if s.since[i] <= now.Unix() {
			return s.keys[i]
		}
	}
	return s.keys[0]
}

// publishes reports whether the key called id is one of these.
func (s *assertionKeySet) publishes(id string) bool {
	for _, key := range s.keys {
		if key.ID == id {
			return true
		}
	}
	return false
}

// assertionKeys are the keys that sign assertions. All gateways that share a store
// have the same ones; each is published before it signs and after. It is safe for
// concurrent use.
type assertionKeys struct {
	store  store.Store
	keys   *keyring.Ring
	logger *zap.Logger
	now    func() time.Time
	// run runs something in the background.
	run func(func(context.Context)) bool

	known      atomic.Pointer[assertionKeySet]
	refreshing atomic.Bool
	gate       chan struct{} // held by the one who asks the store; it has room for one

	// failure is why the store gave no keys, and when. Both are guarded by gate.
	failure  error
	failedAt time.Time
}

// current returns the keys. It asks the store when it has none that it can be sure
// of, and otherwise at most in the background: the warm path does not wait for it.
func (a *assertionKeys) current(ctx context.Context) (*assertionKeySet, error) {
	set, now := a.known.Load(), a.now()
	if set == nil || now.Sub(set.readAt) > assertionKeysStale {
		return a.read(ctx)
	}
	if now.Sub(set.readAt) > assertionKeysFresh && a.refreshing.CompareAndSwap(false, true) {
		started := a.run(func(ctx context.Context) {
			defer a.refreshing.Store(false)
			if _, err := a.read(ctx); err != nil {
				a.logger.Warn("assertion keys are not read again", zap.Error(err))
			}
		})
		if !started {
			a.refreshing.Store(false)
		}
	}
	return set, nil
}

// read reads the keys from the store, and replaces them there if it is time.
func (a *assertionKeys) read(ctx context.Context) (*assertionKeySet, error) {
	select {
	case a.gate <- struct{}{}:
		defer func() { <-a.gate }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if set := a.known.Load(); set != nil && a.now().Sub(set.readAt) < assertionKeysFresh {
		return set, nil // somebody else did
	}
	if a.failure != nil && a.now().Sub(a.failedAt) < assertionKeysPause {
		return nil, a.failure // and failed
	}
	set, err := a.readStore(ctx)
	a.failure, a.failedAt = err, a.now()
	return set, err
}

// readStore does the work of read. The caller holds the gate.
func (a *assertionKeys) readStore(ctx context.Context) (*assertionKeySet, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), assertionKeysWait)
	defer cancel()
	record, err := a.load(ctx)
	if err != nil {
		return nil, err
	}
	if record.due(a.now()) {
		changed, err := a.change(ctx, func(record *assertionKeysRecord, now time.Time) (bool, error) {
			if !record.due(now) {
				return false, nil // another gateway did it
			}
			return true, record.add(now, now.Add(assertionKeyAhead))
		})
		switch {
		case err == nil:
			record = changed
		case len(record.Keys) == 0:
			return nil, err
		default: // a store that takes no writes now may do so in a minute
			a.logger.Warn("assertion key is not replaced yet", zap.Error(err))
		}
	}
	return a.use(record)
}

// Rotate replaces the key that signs: an hour from now, when all upstreams have had
// time to learn of the new one; or at once, and without a trace of the old one, which is
// for a key that has leaked. It returns the id of the new key.
func (a *assertionKeys) Rotate(ctx context.Context, atOnce bool) (id string, err error) {
	select {
	case a.gate <- struct{}{}:
		defer func() { <-a.gate }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), assertionKeysWait)
	defer cancel()
	record, err := a.change(ctx, func(record *assertionKeysRecord, now time.Time) (bool, error) {
		if atOnce {
			record.Keys = nil
			return true, record.add(now, now)
		}
		return true, record.add(now, now.Add(assertionKeyAhead))
	})
	if err != nil {
		return "", err
	}
	set, err := a.use(record)
	if err != nil {
		return "", err
	}
	return set.keys[len(set.keys)-1].ID, nil
}

// use makes the keys of a record the known ones.
func (a *assertionKeys) use(record *assertionKeysRecord) (*assertionKeySet, error) {
	set := &assertionKeySet{readAt: a.now()}
	for i, stored := range record.Keys {
		if i+1 < len(record.Keys) && set.readAt.Sub(time.Unix(record.Keys[i+1].Since, 0)) > assertionKeyAfter {
			continue // nothing that it has signed is left
		}
		key, err := keyring.ParseSigningKey(stored.Private)
		if err != nil {
			return nil, fmt.Errorf("reading assertion keys: %w", err)
		}
		set.keys = append(set.keys, key)
		set.since = append(set.since, stored.Since)
	}
	var err error
	if set.published, err = keyring.PublicKeys(set.keys...); err != nil {
		return nil, err
	}
	a.known.Store(set)
	return set, nil
}

// load returns the stored keys; an empty record where there are none.
func (a *assertionKeys) load(ctx context.Context) (*assertionKeysRecord, error) {
	record := &assertionKeysRecord{Key: assertionKeysKey}
	sealed, err := a.store.Get(ctx, assertionKeysKey)
	if errors.Is(err, store.ErrNotFound) {
		return record, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading assertion keys: %w", err)
	}
	plain, err := a.keys.Open(sealed)
	if errors.Is(err, keyring.ErrElsewhere) {
		return nil, fmt.Errorf("reading assertion keys: %w", err)
	}
	if err == nil {
		err = json.Unmarshal(plain, record)
	}
	if err == nil && record.Key != assertionKeysKey {
		err = errors.New("it is another record")
	}
	if err != nil {
		// Upstreams learn of new ones by themselves; without any, nobody is served.
		a.logger.Error("assertion keys cannot be read, and are replaced", zap.Error(err))
		return &assertionKeysRecord{Key: assertionKeysKey}, nil
	}
	return record, nil
}

// change changes the stored keys, by one gateway at a time.
func (a *assertionKeys) change(ctx context.Context, change func(*assertionKeysRecord, time.Time) (bool, error)) (*assertionKeysRecord, error) {
	unlock, err := a.store.Lock(ctx, assertionKeysKey)
	if err != nil {
		return nil, fmt.Errorf("locking assertion keys: %w", err)
	}
	defer unlock()
	record, err := a.load(ctx)
	if err != nil {
		return nil, err
	}
	changed, err := change(record, a.now())
	if err != nil || !changed {
		return record, err
	}
	plain, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encoding assertion keys: %w", err)
	}
	sealed, err := a.keys.Seal(plain)
	if err != nil {
		return nil, err
	}
	if err := a.store.Put(ctx, assertionKeysKey, sealed, 0); err != nil {
		return nil, fmt.Errorf("storing assertion keys: %w", err)
	}
	a.logger.Info("assertion key is replaced", zap.Int("published", len(record.Keys)))
	return record, nil
}

// due reports whether it is time for a new key.
func (r *assertionKeysRecord) due(now time.Time) bool {
	return len(r.Keys) == 0 || !now.Before(time.Unix(r.Keys[len(r.Keys)-1].Since, 0).Add(assertionKeyLife-assertionKeyAhead))
}

// add adds a key that signs from a time on, and removes those of which no
// assertion is left. The first key of all signs at once: nobody has kept another.
func (r *assertionKeysRecord) add(now, since time.Time) error {
	if len(r.Keys) == 0 {
		since = now
	}
	key, err := keyring.NewSigningKey()
	if err != nil {
		return err
	}
	private, err := key.Marshal()
	if err != nil {
		return err
	}
	for len(r.Keys) > 1 && now.Sub(time.Unix(r.Keys[1].Since, 0)) > assertionKeyAfter {
		r.Keys = r.Keys[1:]
	}
	if n := len(r.Keys); n > 0 && r.Keys[n-1].Since > since.Unix() {
		since = time.Unix(r.Keys[n-1].Since, 0)
	}
	r.Keys = append(r.Keys, assertionKeyRecord{private, since.Unix()})
	return nil
}
