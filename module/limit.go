// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxAddresses is how many client addresses a limiter counts at once. When
	// more come in one window, those that are not known yet share counts: the
	// memory is bounded, and a flood from many addresses neither switches the
	// limit off nor shuts everybody else out.
	maxAddresses = 1 << 16
	// sharedCounts is how many counts they share.
	sharedCounts = 1 << 10
	// siteFactor is how many times the limit of one subscriber the IPv6 network
	// of a whole site (a /48) has: whoever has one has 65,536 times a /64.
	siteFactor = 16
)

// limiter allows each client address a number of events in a sliding window:
// those of the present window and, in proportion, of the one before. It is safe
// for concurrent use.
type limiter struct {
	events int
	window time.Duration
	now    func() time.Time

	seed maphash.Seed

	mu                sync.Mutex
	start             time.Time
	present, previous map[netip.Prefix]int
}

func newLimiter(events int, window time.Duration) *limiter {
	return &limiter{events: events, window: window, now: time.Now, seed: maphash.MakeSeed()}
}

// allow counts an event of client. If it is one too many, wait says when to try
// again. A nil limiter allows everything.
func (l *limiter) allow(client string) (wait time.Duration, ok bool) {
	if l == nil {
		return 0, true
	}
	key := addressKey(client)
	l.mu.Lock()
	defer l.mu.Unlock()
	elapsed := l.turn()
	weight := 1 - float64(elapsed)/float64(l.window)
	full := func(key netip.Prefix, limit int) bool {
		return float64(l.present[key])+float64(l.previous[key])*weight+1 > float64(limit)
	}
	counts := []netip.Prefix{l.counted(key)}
	if key.Addr().Is6() {
		site := netip.PrefixFrom(key.Addr(), 48).Masked()
		counts = append(counts, l.counted(site))
	}
	if full(counts[0], l.events) || (len(counts) > 1 && full(counts[1], l.events*siteFactor)) {
		return l.window - elapsed, false
	}
	for _, key := range counts {
		l.present[key]++
	}
	return 0, true
}

// counted returns the key under which an address is counted: its own, or a
// shared one where there is no room.
func (l *limiter) counted(key netip.Prefix) netip.Prefix {
	if _, known := l.present[key]; known || len(l.present) < maxAddresses {
		return key
	}
	n := maphash.Comparable(l.seed, key) % sharedCounts
	// An address that no client can have stands for the count.
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{0, 0, byte(n >> 8), byte(n)}), 32)
}

// turn begins a new window if it is time, and returns how much of the present
// one has passed.
func (l *limiter) turn() time.Duration {
	now := l.now()
	elapsed := now.Sub(l.start)
	switch {
	case elapsed < 0 || elapsed >= 2*l.window:
		l.previous, l.present = nil, make(map[netip.Prefix]int)
		l.start, elapsed = now, 0
	case elapsed >= l.window:
		l.previous, l.present = l.present, make(map[netip.Prefix]int)
		l.start = l.start.Add(l.window)
		elapsed -= l.window
	}
	return elapsed
}

// addressKey returns what counts as one client: an IPv4 address, or the /64
// that one IPv6 subscriber has to himself. What is no address is one client.
func addressKey(client string) netip.Prefix {
	address, err := netip.ParseAddr(client)
	if err != nil {
		return netip.Prefix{}
	}
	address = address.Unmap().WithZone("")
	bits := 32
	if address.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(address, bits).Masked()
}
