// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/store"
)

// lasting begins the keys of records that are kept for good. Sessions end, and
// new ones are sealed with the active key; these records would keep an old key
// in use for ever.
var lasting = []string{directoryPrefix, "key/"}

// reseal begins to seal lasting records with the active key, in the background,
// so that older keys can be taken away.
func (a *App) reseal() {
	rt := a.running.Load()
	if rt == nil || len(rt.keys.IDs()) < 2 {
		return
	}
	rt.state.done.Go(func() {
		n, err := reseal(rt.state.ctx, rt.state.store, rt.keys)
		if err != nil {
			a.logger.Warn("records are not all sealed with the active key; keep the older keys", zap.Int("sealed", n), zap.Error(err))
			return
		}
		a.logger.Info("all lasting records are sealed with the active key", zap.Int("sealed", n))
	})
}

// reseal seals the lasting records of s anew that are sealed with another key
// than the active one, and returns how many.
func reseal(ctx context.Context, s store.Store, keys *keyring.Ring) (n int, err error) {
	for _, prefix := range lasting {
		var outdated []string
		err := s.Scan(ctx, prefix, func(key string, value []byte) error {
			if !keys.SealedByActive(value) {
				outdated = append(outdated, key)
			}
			return nil
		})
		if err != nil {
			return n, fmt.Errorf("looking for records to seal anew: %w", err)
		}
		for _, key := range outdated {
			if err := s.Update(ctx, key, func(old []byte) ([]byte, time.Duration, error) { return resealed(keys, old) }); err != nil {
				return n, fmt.Errorf("sealing a record anew: %w", err)
			}
			n++
		}
	}
	return n, nil
}

// resealed is a store.Change: it seals a record with the active key.
func resealed(keys *keyring.Ring, old []byte) ([]byte, time.Duration, error) {
	if old == nil {
		return nil, 0, nil // deleted meanwhile
	}
	plain, err := keys.Open(old)
	if err != nil {
		return nil, 0, err
	}
	sealed, err := keys.Seal(plain)
	return sealed, 0, err
}
