// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package migrate copies one store into another one while it is in use, without
// losing a write: with a copier for all that is there, and a mirror or a watch
// for what is written meanwhile.
//
// What is copied is sealed and stays so. Whoever uses the copy needs the seal
// keys of whoever wrote the original.
package migrate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minigate/minigate/module/store"
)

// nodePrefix begins the keys under which gateways say that they use a store.
const nodePrefix = "node/"

// markPrefix begins the keys of marks that a migration leaves for a moment.
const markPrefix = "migrate/"

// passing begins the keys of what is not copied: who uses a store, the outcomes
// of codes, which are a few seconds old, and marks.
var passing = []string{nodePrefix, "code/", markPrefix}

func isPassing(key string) bool {
	return slices.ContainsFunc(passing, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
}

const (
	// workers is how many records are copied at once. A file flushes the disk
	// once for all of them.
	workers = 64

	// stepTimeout bounds the copying of one record.
	stepTimeout = 10 * time.Second
)

var (
	// ErrEnded says that a copier copies no more.
	ErrEnded = errors.New("the migration has ended")

	// ErrUnverified says that the copy is not what it should be.
	ErrUnverified = errors.New("not everything could be verified")
)

// Phase is what a copier is about.
type Phase int32

// The phases of Copy, in their order.
const (
	Copying Phase = iota
	Verifying
	Done
)

// Counts are what a copier has done so far.
type Counts struct {
	// Read is how many records of the source were looked at.
	Read int64 `json:"read"`
	// Written and Unchanged are how many of them were not and were at the
	// destination already.
	Written   int64 `json:"written"`
	Unchanged int64 `json:"unchanged"`
	// Removed is how many records of the destination are not at the source.
	Removed int64 `json:"removed"`
	// Verified is how many records of the source were found at the destination
	// afterwards, byte by byte, with the same end.
	Verified int64 `json:"verified"`
	// Late is how many records had to be copied once more when they were
	// verified, because they had changed.
	Late int64 `json:"late"`
	// Failed is how many records differ although they were copied.
	Failed int64 `json:"failed"`
	// Followed is how many writes were repeated at the destination.
	Followed int64 `json:"followed"`
}

type counters struct {
	read, written, unchanged, removed, verified, late, failed, followed atomic.Int64
}

// Copier makes a destination equal to its source, record by record. It is safe
// for concurrent use.
//
// It copies a record by reading it at the source and writing it at the
// destination while it holds a lock for the key. So whichever of two copies of a
// record comes last writes what the source has then, or something newer: a write
// that is copied after it was done cannot be undone by one before it.
type Copier struct {
	from, to store.Store
	locks    store.Locks // by key
	phase    atomic.Int32
	counts   counters

	// gate is held for reading while a record is copied, and for writing to
	// change what follows.
	gate  sync.RWMutex
	ended bool

	broken atomic.Pointer[error] // why it follows no more
	// onBroken is told once when that is set.
	onBroken func(error)
}

// New returns a copier. broken is called at most once, if a write cannot be
// followed any more; it must not wait for the copier. It may be nil.
func New(from, to store.Store, broken func(error)) *Copier {
	return &Copier{from: from, to: to, onBroken: broken}
}

// Counts returns what has been done so far.
func (c *Copier) Counts() Counts {
	return Counts{
		Read: c.counts.read.Load(), Written: c.counts.written.Load(), Unchanged: c.counts.unchanged.Load(),
		Removed: c.counts.removed.Load(), Verified: c.counts.verified.Load(), Late: c.counts.late.Load(),
		Failed: c.counts.failed.Load(), Followed: c.counts.followed.Load(),
	}
}

// Phase returns what Copy is about.
func (c *Copier) Phase() Phase { return Phase(c.phase.Load()) }

// Broken returns why writes are not followed any more; nil as long as they are.
func (c *Copier) Broken() error {
	if err := c.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// breakOff notes that a write could not be followed.
func (c *Copier) breakOff(err error) {
	err = fmt.Errorf("following a write: %w", err)
	if c.broken.CompareAndSwap(nil, &err) && c.onBroken != nil {
		c.onBroken(err)
	}
}

// end makes the copier copy no more, and waits for what it is about.
func (c *Copier) end() {
	c.gate.Lock()
	defer c.gate.Unlock()
	c.ended = true
}
