// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"hash/maphash"
	"strconv"
	"sync"
	"time"
)

// maxBudgets is how many users a budget counts at once. Beyond them, those that
// are not known yet share counts, so that the memory is bounded.
const maxBudgets = 1 << 16

// budget allows each user a number of events in a window of time. It is safe for
// concurrent use.
type budget struct {
	most   int
	window time.Duration
	now    func() time.Time
	seed   maphash.Seed

	mu     sync.Mutex
	start  time.Time
	counts map[string]int
}

func newBudget(most int, window time.Duration) *budget {
	return &budget{most: most, window: window, now: time.Now, seed: maphash.MakeSeed()}
}

// take counts an event of the user before it happens, so that those that happen at
// once are counted, too. If he has none left, wait says when to try again.
func (b *budget) take(user string) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait = b.turn()
	key := b.counted(user)
	if b.counts[key] >= b.most {
		return wait, false
	}
	b.counts[key]++
	return 0, true
}

// giveBack takes back an event that turned out not to be one.
func (b *budget) giveBack(user string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn()
	if key := b.counted(user); b.counts[key] > 1 {
		b.counts[key]--
	} else {
		delete(b.counts, key)
	}
}

// turn begins a new window if it is time, and returns how long the present one
// lasts.
func (b *budget) turn() time.Duration {
	now := b.now()
	if b.counts == nil || now.Before(b.start) || now.Sub(b.start) >= b.window {
		b.start, b.counts = now, make(map[string]int)
	}
	return b.window - now.Sub(b.start)
}

func (b *budget) counted(user string) string {
	if _, known := b.counts[user]; known || len(b.counts) < maxBudgets {
		return user
	}
	return strconv.FormatUint(maphash.String(b.seed, user)%sharedCounts, 10)
}
