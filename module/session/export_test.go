// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session

import "time"

// SweepAll sweeps all shards without a pause, and returns the longest time for
// which it held a shard.
func (c *Cache) SweepAll() (longest time.Duration) {
	for _, shard := range c.shards {
		start := time.Now()
		shard.DeleteExpired()
		longest = max(longest, time.Since(start))
	}
	return longest
}
