// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	gocache "github.com/patrickmn/go-cache"

	"github.com/minigate/minigate/module/store"
)

const (
	// shards is a power of two. A sweep holds the lock of one shard: with a
	// million records that is 4,000 of them, a fraction of a millisecond.
	shards = 256
	// sweepTime is how long it takes the sweeper to get round all shards, and
	// so for how long an expired record takes up memory.
	sweepTime = time.Minute

	// longest is the longest ttl counted. go-cache adds it to the time in
	// nanoseconds, which overflows in the year 2262.
	longest = 100 * 365 * 24 * time.Hour
)

// cache is the store.Store in memory. Records are spread over many go-caches,
// because one has one lock, and holds it while it removes what has expired.
type cache struct {
	seed   maphash.Seed
	shards [shards]shard
	locks  store.Locks

	closing chan struct{} // closed by Close
	close   sync.Once
	sweeper sync.WaitGroup
}

// shard is the part of the records whose keys have one hash.
type shard struct {
	records *gocache.Cache // key to record
	// writing is the place of the one who writes to this shard, so that an
	// update is one step to all other writers. It is a channel because waiting
	// for it has to end with a context.
	writing chan struct{}
}

// record is an immutable value: readers get copies of it.
type record string

// newCache returns an empty store with its sweeper running.
func newCache() *cache {
	c := &cache{seed: maphash.MakeSeed(), closing: make(chan struct{})}
	for i := range c.shards {
		c.shards[i] = shard{
			records: gocache.New(gocache.NoExpiration, 0), // no janitor: sweep does its work
			writing: make(chan struct{}, 1),
		}
	}
	c.sweeper.Go(func() { c.sweep(sweepTime / shards) })
	return c
}

// Get implements store.Store.
func (c *cache) Get(ctx context.Context, key string) ([]byte, error) {
	if err := c.usable(ctx); err != nil {
		return nil, err
	}
	if err := store.CheckKey(key); err != nil {
		return nil, err
	}
	value := c.shard(key).get(key)
	if value == nil {
		return nil, store.ErrNotFound
	}
	return value, nil
}

// Lookup implements store.Store.
func (c *cache) Lookup(ctx context.Context, key string) (store.Entry, error) {
	if err := c.usable(ctx); err != nil {
		return store.Entry{}, err
	}
	if err := store.CheckKey(key); err != nil {
		return store.Entry{}, err
	}
	found, expires, ok := c.shard(key).records.GetWithExpiration(key)
	if !ok {
		return store.Entry{}, store.ErrNotFound
	}
	return store.Entry{Key: key, Value: []byte(found.(record)), Expires: expires}, nil
}

// Put implements store.Store.
func (c *cache) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	return c.write(ctx, key, func(s *shard) error { return s.put(key, value, ttl) })
}

// Update implements store.Store. change runs in the caller's goroutine, and
// other writers of the same shard wait for it; its panic is the caller's.
func (c *cache) Update(ctx context.Context, key string, change store.Change) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	return c.write(ctx, key, func(s *shard) error {
		value, ttl, err := change(s.get(key))
		if err != nil {
			return err
		}
		if value == nil {
			s.records.Delete(key)
			return nil
		}
		return s.put(key, value, ttl)
	})
}

// Delete implements store.Store.
func (c *cache) Delete(ctx context.Context, key string) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	return c.write(ctx, key, func(s *shard) error {
		s.records.Delete(key)
		return nil
	})
}

// Scan implements store.Store. It holds no lock while it visits, so that visit
// may call the store.
func (c *cache) Scan(ctx context.Context, prefix string, visit func(store.Entry) error) error {
	for i := range c.shards {
		if err := c.usable(ctx); err != nil {
			return err
		}
		for key, item := range c.shards[i].records.Items() {
			if !strings.HasPrefix(key, prefix) || item.Expired() {
				continue
			}
			if err := c.usable(ctx); err != nil {
				return err
			}
			found := store.Entry{Key: key, Value: []byte(item.Object.(record))}
			if item.Expiration > 0 {
				found.Expires = time.Unix(0, item.Expiration)
			}
			if err := visit(found); err != nil {
				return err
			}
		}
	}
	return c.usable(ctx)
}

// Watch implements store.Store. No other node writes to this memory, so there
// is nothing to report.
func (c *cache) Watch(ctx context.Context, _ string, observer store.Observer) error {
	if err := c.usable(ctx); err != nil {
		return err
	}
	if observer.Started != nil {
		observer.Started()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.closing:
		return store.ErrClosed
	}
}

// Lock implements store.Store.
func (c *cache) Lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := c.usable(ctx); err != nil {
		return nil, err
	}
	return c.locks.Lock(ctx, name, c.closing)
}

// Close implements store.Store. The records are gone.
func (c *cache) Close() error {
	c.close.Do(func() {
		close(c.closing)
		c.sweeper.Wait()
		for i := range c.shards {
			c.shards[i].records.Flush()
		}
	})
	return nil
}

// usable returns why no call can be made, if so.
func (c *cache) usable(ctx context.Context) error {
	select {
	case <-c.closing:
		return store.ErrClosed
	default:
		return ctx.Err()
	}
}

// write calls do when nobody else writes to the shard of key.
func (c *cache) write(ctx context.Context, key string, do func(*shard) error) error {
	if err := c.usable(ctx); err != nil {
		return err
	}
	s := c.shard(key)
	select {
	case s.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.writing }()
	if err := c.usable(ctx); err != nil {
		return err
	}
	return do(s)
}

func (c *cache) shard(key string) *shard {
	return &c.shards[maphash.String(c.seed, key)%shards]
}

// sweep removes what has expired, one shard each pause, until Close.
func (c *cache) sweep(pause time.Duration) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for i := 0; ; i = (i + 1) % shards {
		select {
		case <-c.closing:
			return
		case <-ticker.C:
			c.shards[i].records.DeleteExpired()
		}
	}
}

// get returns a copy of the value of key, or nil.
func (s *shard) get(key string) []byte {
	found, ok := s.records.Get(key)
	if !ok {
		return nil
	}
	return []byte(found.(record))
}

// put stores a copy of value.
func (s *shard) put(key string, value []byte, ttl time.Duration) error {
	if err := store.CheckValue(value); err != nil {
		return err
	}
	if ttl <= 0 || ttl > longest {
		ttl = gocache.NoExpiration
	}
	s.records.Set(key, record(value), ttl)
	return nil
}
