// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/caddyserver/certmagic"

	"github.com/minigate/minigate/module/keyring"
)

// sealKeyName is where Caddy's storage keeps the seal key that the gateway made
// for itself.
const sealKeyName = "miniprogram/seal.key"

// storedMaster returns the seal key from storage, and makes it the first time.
// Nodes that share the storage agree on one.
func storedMaster(ctx context.Context, storage certmagic.Storage) ([]byte, error) {
	master, err := loadMaster(ctx, storage)
	if !errors.Is(err, fs.ErrNotExist) {
		return master, err
	}
	if err := storage.Lock(ctx, sealKeyName); err != nil {
		return nil, fmt.Errorf("locking %s in storage: %w", sealKeyName, err)
	}
	master, err = loadMaster(ctx, storage) // somebody else may have been first
	if errors.Is(err, fs.ErrNotExist) {
		master = keyring.NewMaster()
		err = storage.Store(ctx, sealKeyName, []byte(keyring.EncodeMaster(master)+"\n"))
		if err != nil {
			err = fmt.Errorf("storing %s: %w", sealKeyName, err)
		}
	}
	if unlockErr := storage.Unlock(ctx, sealKeyName); err == nil && unlockErr != nil {
		err = fmt.Errorf("unlocking %s in storage: %w", sealKeyName, unlockErr)
	}
	if err != nil {
		return nil, err
	}
	return master, nil
}

func loadMaster(ctx context.Context, storage certmagic.Storage) ([]byte, error) {
	text, err := storage.Load(ctx, sealKeyName)
	if err != nil {
		return nil, fmt.Errorf("loading %s from storage: %w", sealKeyName, err)
	}
	master, err := keyring.ParseMaster(string(text))
	if err != nil {
		return nil, fmt.Errorf("reading %s from storage: %w", sealKeyName, err)
	}
	return master, nil
}
