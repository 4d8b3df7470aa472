// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"hash/maphash"
	"math"
	"sync/atomic"
	"time"

	gocache "github.com/patrickmn/go-cache"
)

const (
	// shardCount is how many go-caches share the tokens. go-cache sweeps with
	// its write lock held, which stops every reader for as long as the sweep
	// takes; with a million sessions in 256 shards that is below a millisecond.
	shardCount = 256
	// sweepPause is the time between the sweeps of two shards.
	sweepPause = 250 * time.Millisecond
	// slotCount is how many generation counters all users share. Two users with
	// one counter cost each other a look into the store, nothing else.
	slotCount = 1 << 18
	// StoreGrace is for how long sessions go on that were known to be valid
	// when the store stopped telling about changes.
	StoreGrace = 30 * time.Second
)

// Cache is the warm cache: tokens that were validated, with their sessions. It
// is safe for concurrent use and outlives the managers that share it.
//
// An entry is believed until the session's end, unless the record of its user
// changed meanwhile (Invalidate) or nobody can tell whether it did (Distrust).
type Cache struct {
	seed        maphash.Seed
	shards      [shardCount]*gocache.Cache
	generations []atomic.Uint32
	epoch       atomic.Uint32
	born        time.Time
	trusted     atomic.Int64 // nanoseconds since born until which entries are believed
	listener    Listener
}

// Listener is told when those should validate a session again who did so before
// and go by it still. Its functions are called after the fact, by any goroutine,
// and must not block.
type Listener struct {
	// Changed is called when the record of subject may have changed.
	Changed func(subject string)
	// AllChanged is called when records of any users may have changed.
	AllChanged func()
	// Trusted is called when changes of any record may have been missed, and none
	// will be from now on.
	Trusted func()
	// Distrusted is called when changes are not told any more, and until when
	// sessions go on that were valid before.
	Distrusted func(until time.Time)
}

// NewCache returns an empty cache. Run sweeps it.
func NewCache() *Cache {
	c := &Cache{seed: maphash.MakeSeed(), generations: make([]atomic.Uint32, slotCount), born: time.Now()}
	for i := range c.shards {
		c.shards[i] = gocache.New(gocache.NoExpiration, 0)
	}
	c.trusted.Store(math.MaxInt64)
	return c
}

// Listen sets who is told of what happens to the cache. It must be called before
// the cache is used.
func (c *Cache) Listen(l Listener) { c.listener = l }

// Run removes expired entries, one shard after the other, until ctx is done.
func (c *Cache) Run(ctx context.Context) {
	ticker := time.NewTicker(sweepPause)
	defer ticker.Stop()
	for next := 0; ; next = (next + 1) % shardCount {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.shards[next].DeleteExpired()
		}
	}
}

// Len returns the number of entries, expired ones included.
func (c *Cache) Len() int {
	n := 0
	for _, shard := range c.shards {
		n += shard.ItemCount()
	}
	return n
}

// Invalidate says that the record of subject changed: its sessions must be
// validated against the store again. It returns the new generation.
func (c *Cache) Invalidate(subject string) uint32 {
	generation := c.slot(subject).Add(1)
	if c.listener.Changed != nil {
		c.listener.Changed(subject)
	}
	return generation
}

// Trust says that from now on every change of a record will be told by
// Invalidate. What was cached before is forgotten, for changes may have been
// missed.
func (c *Cache) Trust() {
	c.epoch.Add(1)
	c.trusted.Store(math.MaxInt64)
	if c.listener.Trusted != nil {
		c.listener.Trusted()
	}
}

// InvalidateAll says that records of any users may have changed: all sessions must
// be validated against the store again.
func (c *Cache) InvalidateAll() {
	c.epoch.Add(1)
	if c.listener.AllChanged != nil {
		c.listener.AllChanged()
	}
}

// Changed says that another node wrote the store key, which begins with
// WatchPrefix.
func (c *Cache) Changed(key string) {
	if key == cutoffKey {
		c.InvalidateAll()
		return
	}
	c.Invalidate(SubjectOf(key))
}

// trusts reports whether what is known may be believed at this time.
func (c *Cache) trusts(now time.Time) bool { return int64(now.Sub(c.born)) <= c.trusted.Load() }

// Distrust says that changes of records are not told any more. What is cached
// is believed for 30 more seconds, counted from the first time that it is said,
// whatever becomes of the wall clock meanwhile.
func (c *Cache) Distrust(now time.Time) {
	until := now.Add(StoreGrace)
	if c.trusted.CompareAndSwap(math.MaxInt64, int64(until.Sub(c.born))) && c.listener.Distrusted != nil {
		c.listener.Distrusted(until)
	}
}

// BelievedUntil returns until when entries are believed: a time in the past, if
// every session is to be validated against the store; one that nobody lives to
// see, as long as the store tells about changes.
func (c *Cache) BelievedUntil() time.Time { return c.born.Add(time.Duration(c.trusted.Load())) }

// get returns the session that was validated for token, if it may be believed.
func (c *Cache) get(token string, now time.Time) *Session {
	value, ok := c.shard(token).Get(token)
	if !ok {
		return nil
	}
	s, ok := value.(*Session)
	switch {
	case !ok || !c.trusts(now):
		return nil
	case s.epoch != c.epoch.Load() || s.generation != c.slot(s.Subject).Load():
		c.drop(token) // it will never be believed again
		return nil
	default:
		return s
	}
}

// put caches a session until its end at most.
func (c *Cache) put(token string, s *Session, until time.Duration) {
	if until > 0 {
		c.shard(token).Set(token, s, until)
	}
}

func (c *Cache) drop(token string) { c.shard(token).Delete(token) }

// stamp marks a session as of now. What is read from the store after stamp and
// changes before get is not believed.
func (c *Cache) stamp(s *Session) {
	s.epoch = c.epoch.Load()
	s.generation = c.slot(s.Subject).Load()
}

func (c *Cache) slot(subject string) *atomic.Uint32 {
	return &c.generations[maphash.String(c.seed, subject)%slotCount]
}

// shard picks by the end of the token, which is as random as its signature. A
// forged ending leads to a shard that does not hold the token, like any other.
func (c *Cache) shard(token string) *gocache.Cache {
	var sum uint32
	for i := max(0, len(token)-6); i < len(token); i++ {
		sum = sum*33 + uint32(token[i])
	}
	return c.shards[sum%shardCount]
}
