// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/minigate/minigate/module/store"
)

const (
	// scanStep is how many keys the server looks at in one step of a scan.
	scanStep = 512
	// scanBatch is how many values are read at a time, and so are in memory.
	scanBatch = 32
)

// Scan implements store.Store. It visits all primaries of a cluster, one after
// the other.
func (c *client) Scan(ctx context.Context, prefix string, visit func(store.Entry) error) error {
	if err := c.usable(ctx); err != nil {
		return err
	}
	nodes, err := c.primaries(ctx)
	if err != nil {
		return c.failure(ctx, "scanning", err)
	}
	seen := make(map[string]struct{}) // Redis may show a key more than once
	for _, node := range nodes {
		if err := c.scanNode(ctx, node, prefix, seen, visit); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) scanNode(ctx context.Context, node rueidis.Client, prefix string, seen map[string]struct{}, visit func(store.Entry) error) error {
	pattern := c.keys.pattern(prefix)
	for cursor := uint64(0); ; {
		result := c.send(ctx, func() rueidis.RedisResult {
			return node.Do(ctx, node.B().Scan().Cursor(cursor).Match(pattern).Count(scanStep).Build())
		})
		entry, err := result.AsScanEntry()
		if err != nil {
			return c.failure(ctx, "scanning", err)
		}
		var keys []string
		for _, redisKey := range entry.Elements {
			key, ok := c.keys.decode(redisKey)
			if !ok || !strings.HasPrefix(key, prefix) {
				continue
			}
			if _, twice := seen[key]; twice {
				continue
			}
			seen[key] = struct{}{}
			keys = append(keys, key)
		}
		for batch := range slices.Chunk(keys, scanBatch) {
			if err := c.visitBatch(ctx, batch, visit); err != nil {
				return err
			}
		}
		if cursor = entry.Cursor; cursor == 0 {
			return nil
		}
	}
}

// visitBatch reads keys and visits those that are still there.
func (c *client) visitBatch(ctx context.Context, keys []string, visit func(store.Entry) error) error {
	found, err := c.entries(ctx, keys, true)
	if err != nil {
		return c.failure(ctx, "scanning", err)
	}
	for _, entry := range found {
		if err := c.usable(ctx); err != nil {
			return err
		}
		if err := visit(entry); err != nil {
			return err
		}
	}
	return nil
}

// Lookup implements store.Store.
func (c *client) Lookup(ctx context.Context, key string) (store.Entry, error) {
	if err := c.check(ctx, key); err != nil {
		return store.Entry{}, err
	}
	found, err := c.entries(ctx, []string{key}, false)
	switch {
	case err != nil:
		return store.Entry{}, c.failure(ctx, "reading", err)
	case len(found) == 0:
		return store.Entry{}, store.ErrNotFound
	}
	return found[0], nil
}

// entries reads values and expiries of keys at one go, and leaves out those that
// are not there, and when scanning those that are not of this store's kind. A key that somebody writes at this moment may have the value
// from before and the expiry from after.
func (c *client) entries(ctx context.Context, keys []string, scanning bool) ([]store.Entry, error) {
	begin := time.Now()
	results, err := c.read(ctx, keys)
	for c.unsent(ctx, begin, err) {
		results, err = c.read(ctx, keys)
	}
	if err != nil {
		return nil, err
	}
	now := time.Now()
	found := make([]store.Entry, 0, len(keys))
	for i, key := range keys {
		value, err := valueOf(results[2*i])
		if scanning && isForeign(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		left, err := results[2*i+1].AsInt64()
		if err != nil {
			return nil, err
		}
		if value == nil || left == gone {
			continue
		}
		entry := store.Entry{Key: key, Value: value}
		if left >= 0 {
			entry.Expires = now.Add(time.Duration(min(left, longest)) * time.Millisecond)
		}
		found = append(found, entry)
	}
	return found, nil
}

const (
	// gone is what PTTL answers for a key that is not there.
	gone = -2
	// longest is the longest ttl, in milliseconds, that fits into a duration.
	longest = math.MaxInt64 / int64(time.Millisecond)
)

// read asks for the value and the ttl of each key. Its error is that of the
// connection.
func (c *client) read(ctx context.Context, keys []string) ([]rueidis.RedisResult, error) {
	commands := make(rueidis.Commands, 0, 2*len(keys))
	for _, key := range keys {
		redisKey := c.keys.encode(key)
		commands = append(commands, c.redis.B().Get().Key(redisKey).Build(), c.redis.B().Pttl().Key(redisKey).Build())
	}
	results, err := await(ctx, func() []rueidis.RedisResult { return c.redis.DoMulti(ctx, commands...) })
	if err != nil {
		return nil, err
	}
	for _, result := range results {
		if err := result.NonRedisError(); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// isForeign reports whether err says that a key has another kind of value than
// this store writes: somebody else put it there. It must not keep the gateway from
// going through its own.
func isForeign(err error) bool {
	refusal, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(refusal.Error(), "WRONGTYPE")
}
