// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/minigate/minigate/module/store"
)

const (
	// lockName is the lock that who copies into a store holds there.
	lockName = "migrate"

	// lockPatience is how long it takes at most until the lock of a process that
	// was killed is free.
	lockPatience = 15 * time.Second

	// markTime is how long a mark stays that nobody removes.
	markTime = time.Minute
)

var (
	// ErrSame says that source and destination are one.
	ErrSame = errors.New("source and destination are the same store")

	// ErrTaken says that a gateway uses the destination: a copy would undo what it
	// writes.
	ErrTaken = errors.New("a gateway uses the destination; stop it, and try again 15 seconds later")

	// ErrBusy says that somebody else copies into the destination.
	ErrBusy = errors.New("another migration into this destination is under way")
)

// Claim makes sure that from may be copied into to, and that nobody else does so
// until release is called. The error wraps ErrSame, ErrTaken or ErrBusy, or says
// what cannot be done with one of the stores.
func Claim(ctx context.Context, from, to store.Store) (release func(), err error) {
	same, err := Same(ctx, to, from)
	if err != nil {
		return nil, err
	}
	if same {
		return nil, ErrSame
	}
	patient, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	release, err = to.Lock(patient, lockName)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, ErrBusy
	}
	if err != nil {
		return nil, fmt.Errorf("locking the destination: %w", err)
	}
	taken, err := InUse(ctx, to)
	if err == nil && taken {
		err = ErrTaken
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// Same reports whether two stores have the same data, by a mark that it leaves in
// a for a moment and looks for in b: one Redis may have two names.
func Same(ctx context.Context, a, b store.Store) (bool, error) {
	key := markPrefix + rand.Text()
	if err := a.Put(ctx, key, []byte{'1'}, markTime); err != nil {
		return false, fmt.Errorf("writing to the destination: %w", err)
	}
	found, err := find(ctx, b, key)
	// If this fails, it expires.
	_ = a.Delete(context.WithoutCancel(ctx), key)
	if err != nil {
		return false, fmt.Errorf("looking for a mark: %w", err)
	}
	return found != nil, nil
}

// InUse reports whether gateways that share a store use it.
func InUse(ctx context.Context, s store.Store) (bool, error) {
	found := errors.New("found")
	err := s.Scan(ctx, nodePrefix, func(store.Entry) error { return found })
	if err != nil && !errors.Is(err, found) {
		return false, fmt.Errorf("looking for gateways: %w", err)
	}
	return err != nil, nil
}
