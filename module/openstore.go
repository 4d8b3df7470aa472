// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"

	"github.com/minigate/minigate/module/store"
)

// openStores holds the stores that are open, by identity. A state and a migration
// may share one: a file can be opened once.
var openStores = caddy.NewUsagePool()

// openStore is a store that is closed when nobody needs it any more.
type openStore struct{ store.Store }

// Destruct implements caddy.Destructor.
func (s openStore) Destruct() error {
	if err := s.Close(); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}

// acquireStore returns the store that opener opens, and whether it was open
// before. It is used until release is called, once.
func acquireStore(ctx context.Context, opener store.Opener) (s store.Store, before bool, release func() error, err error) {
	key := opener.Identity()
	value, before, err := openStores.LoadOrNew(key, func() (caddy.Destructor, error) {
		opened, err := opener.Open(ctx)
		if err != nil {
			return nil, err
		}
		return openStore{opened}, nil
	})
	if err != nil {
		return nil, false, nil, err
	}
	opened, ok := value.(openStore)
	if !ok {
		return nil, false, nil, errors.New("the store could not be opened")
	}
	return opened.Store, before, func() error {
		_, err := openStores.Delete(key)
		return err
	}, nil
}
