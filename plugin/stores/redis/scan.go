// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

const (
	// scanStep is how many keys the server looks at in one step of a scan.
	scanStep = 512
	// scanBatch is how many values are read at a time, and so are in memory.
	scanBatch = 32
)

// Scan implements store.Store. It visits all primaries of a cluster, one after
// the other.
func (c *client) Scan(ctx context.Context, prefix string, visit func(key string, value []byte) error) error {
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

func (c *client) scanNode(ctx context.Context, node rueidis.Client, prefix string, seen map[string]struct{}, visit func(string, []byte) error) error {
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

// visitBatch reads the values of keys and visits those that are still there.
func (c *client) visitBatch(ctx context.Context, keys []string, visit func(string, []byte) error) error {
	commands := make(rueidis.Commands, len(keys))
	for i, key := range keys {
		commands[i] = c.redis.B().Get().Key(c.keys.encode(key)).Build()
	}
	begin := time.Now()
	results, err := await(ctx, func() []rueidis.RedisResult { return c.redis.DoMulti(ctx, commands...) })
	if err != nil {
		return c.failure(ctx, "scanning", err)
	}
	for i, result := range results {
		value, err := valueOf(result)
		if c.unsent(ctx, begin, err) {
			value, err = c.get(ctx, keys[i])
		}
		if err != nil {
			return c.failure(ctx, "scanning", err)
		}
		if value == nil {
			continue
		}
		if err := c.usable(ctx); err != nil {
			return err
		}
		if err := visit(keys[i], value); err != nil {
			return err
		}
	}
	return nil
}
