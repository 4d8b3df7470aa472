// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"time"
)

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

// WriteUse writes that a session is in use, as touch does in the background.
func (m *Manager) WriteUse(ctx context.Context, token string, s *Session) error {
	return m.writeUse(ctx, token, s)
}

// CutoffKey is the store key of the cutoffs.
const CutoffKey = cutoffKey
