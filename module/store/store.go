// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package store is the contract between the gateway and the places that keep
// its records: a byte store with expiry, atomic update, change notification
// and locks.
//
// A store knows nothing of sessions, users or cryptography. What it is given
// is already sealed; what it returns is checked by the caller. That keeps a
// new store small, and a stolen one worthless.
package store

import (
	"context"
	"errors"
	"time"
)

// ErrNotFound says that a key has no value, or had one that expired.
var ErrNotFound = errors.New("key not found")

// ErrInUse says that a store cannot be opened because another process has it
// open.
var ErrInUse = errors.New("another process has it open")

// Opener is the guest module of namespace miniprogram.stores: the
// configuration of a store, from which a store can be opened.
//
// Provision must not open files or connections; Open does.
type Opener interface {
	// Identity names the data that Open gives access to. Two configurations
	// with equal identities share one open Store, also across config reloads,
	// so it must hold all that selects the data (path, addresses, database,
	// prefix) and must not hold a secret.
	Identity() string

	// Open opens the store. It is called once for as long as any configuration
	// with this identity is in use. An error must say what could not be opened
	// and why, without secrets: it is what the operator sees.
	Open(ctx context.Context) (Store, error)
}

// Shared is an ability of openers whose data several processes use at once. They
// must have the same seal keys, so that the gateway refuses to make one of its own.
type Shared interface {
	Shared() bool
}

// Existing is an ability of openers whose Open makes what is not there. Exists
// reports whether it is there, and makes nothing. An error says why nobody can
// tell.
type Existing interface {
	Exists() (bool, error)
}

// Store keeps byte values under string keys. All methods may be called
// concurrently, and honour ctx: once it is done they return its error soon,
// and the outcome of a write is then unknown.
//
// Keys are 1 to 512 bytes of visible ASCII and are compared byte for byte:
// letter case matters. Values are 0 bytes to 1 MiB; an empty one is not an absent
// one. A value handed in is not kept
// or changed after the call returns; a value handed out belongs to the caller.
//
// Any error other than ErrNotFound means that the store could not do its work,
// never that a key is absent: the gateway refuses to guess.
type Store interface {
	// Get returns the value of key, or ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)

	// Lookup returns the value of key and when it expires, or ErrNotFound. Where
	// another node writes the key at this moment, the value may be the one before
	// and the expiry that of the one after.
	Lookup(ctx context.Context, key string) (Entry, error)

	// Put sets the value of key. When it returns nil, the value survives
	// whatever the store promises to survive (for a file: kill -9 and loss of
	// power). With a ttl above zero the key is gone after that time, otherwise
	// it stays until deleted.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error

	// Update changes the value of key as one atomic step with respect to every
	// other write of that key, by any node. It calls change with the present
	// value, or nil where there is none; what change returns becomes the value,
	// with a ttl as in Put. A nil value deletes the key. An error from change
	// leaves the key as it is and is returned by Update so that errors.Is
	// finds it.
	//
	// change may be called more than once, but not after Update has returned.
	// It must not call the store, and must not keep old.
	Update(ctx context.Context, key string, change Change) error

	// Delete removes key. That it has no value is not an error.
	Delete(ctx context.Context, key string) error

	// Scan calls visit for each key that begins with prefix, in any order,
	// until visit returns an error, which Scan returns. Keys written or deleted
	// meanwhile may be missed or seen; no key is visited twice. visit may call
	// the store. What it is given is as if from Lookup.
	Scan(ctx context.Context, prefix string, visit func(Entry) error) error

	// Watch reports the writes that other nodes make under prefix. It blocks
	// until ctx is done, and then returns ctx.Err(), or until it can no longer
	// tell whether it misses something, and then says why. The functions of
	// observer are called one at a time and must not block.
	//
	// A store that only one process can open has nothing to report. One that
	// cannot tell its own writes from those of others without missing one of the
	// latter reports them all.
	Watch(ctx context.Context, prefix string, observer Observer) error

	// Lock waits until this caller alone, of all nodes, holds the lock called
	// name. It is held until unlock is called; a node that dies loses it after
	// a while. Unlock may be called once, also after ctx is done.
	Lock(ctx context.Context, name string) (unlock func(), err error)

	// Close releases the store. Calls after Close return an error, and so do
	// those that wait in Watch or Lock. Closing it again does nothing.
	Close() error
}

// Entry is what a store has under a key.
type Entry struct {
	Key   string
	Value []byte
	// Expires is when the key will be gone, to the millisecond or better; zero
	// where it stays until it is deleted.
	Expires time.Time
}

// Change is the function that Store.Update applies to a value.
type Change func(old []byte) (value []byte, ttl time.Duration, err error)

// Observer receives what Store.Watch sees.
type Observer struct {
	// Started is called once, when every write from now on will be reported.
	Started func()
	// Changed is called with each key that another node wrote or deleted.
	Changed func(key string)
}
