// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Limits of the contract, in bytes.
const (
	MaxKey   = 512
	MaxValue = 1 << 20
)

// ErrClosed says that a store was used after Close.
var ErrClosed = errors.New("store is closed")

// CheckKey refuses what the contract does not allow as a key, so that a mistake
// shows before the gateway runs on another store.
func CheckKey[K string | []byte](key K) error {
	if len(key) < 1 || len(key) > MaxKey {
		return fmt.Errorf("key of %d bytes is not between 1 and %d", len(key), MaxKey)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return fmt.Errorf("key has byte %#x, which is not visible ASCII", key[i])
		}
	}
	return nil
}

// CheckValue refuses what the contract does not allow as a value.
func CheckValue(value []byte) error {
	if len(value) > MaxValue {
		return fmt.Errorf("value of %d bytes is longer than %d", len(value), MaxValue)
	}
	return nil
}

// Locks are the locks of a store that only one process can open. The zero value
// has none held.
type Locks struct {
	mu    sync.Mutex
	named map[string]*namedLock
}

// namedLock exists as long as somebody holds it or waits for it.
type namedLock struct {
	held  chan struct{} // has room for the one who holds it
	users int           // who holds it or waits for it; guarded by Locks.mu
}

// Lock waits until nobody else holds the lock called name, ctx is done, or
// closing is closed; then the error is ErrClosed. unlock may be called more than
// once.
func (l *Locks) Lock(ctx context.Context, name string, closing <-chan struct{}) (unlock func(), err error) {
	n := l.use(name)
	select {
	case n.held <- struct{}{}:
		return sync.OnceFunc(func() {
			<-n.held
			l.leave(name, n)
		}), nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-closing:
		err = ErrClosed
	}
	l.leave(name, n)
	return nil, err
}

func (l *Locks) use(name string) *namedLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.named[name]
	if n == nil {
		n = &namedLock{held: make(chan struct{}, 1)}
		if l.named == nil {
			l.named = make(map[string]*namedLock)
		}
		l.named[name] = n
	}
	n.users++
	return n
}

func (l *Locks) leave(name string, n *namedLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.users--; n.users == 0 {
		delete(l.named, name)
	}
}
