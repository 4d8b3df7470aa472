// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"testing"
	"time"
)

// movedLimiter returns a limiter and its time.
func movedLimiter(events int, window time.Duration) (*limiter, *time.Time) {
	now := time.Unix(1_700_000_000, 0)
	l := newLimiter(events, window)
	l.now = func() time.Time { return now }
	return l, &now
}

func allowed(l *limiter, client string, tries int) (n int) {
	for range tries {
		if _, ok := l.allow(client); ok {
			n++
		}
	}
	return n
}

func TestLimiter(t *testing.T) {
	l, now := movedLimiter(10, time.Minute)
	if n := allowed(l, "192.0.2.1", 20); n != 10 {
		t.Errorf("%d of 20 allowed", n)
	}
	if n := allowed(l, "192.0.2.2", 20); n != 10 {
		t.Errorf("another address: %d of 20 allowed", n)
	}
	*now = now.Add(time.Minute)
	if n := allowed(l, "192.0.2.1", 20); n != 0 {
		t.Errorf("a minute later, at once: %d allowed", n)
	}
	*now = now.Add(30 * time.Second)
	if n := allowed(l, "192.0.2.1", 20); n != 5 {
		t.Errorf("half a window later: %d allowed, want 5", n)
	}
	*now = now.Add(3 * time.Minute)
	if n := allowed(l, "192.0.2.1", 20); n != 10 {
		t.Errorf("after a rest: %d allowed", n)
	}
	*now = now.Add(-time.Hour) // the clock is set back
	if n := allowed(l, "192.0.2.1", 20); n != 10 {
		t.Errorf("after the clock was set back: %d allowed", n)
	}
	if wait, ok := l.allow("192.0.2.1"); ok || wait <= 0 || wait > time.Minute {
		t.Errorf("wait is %v", wait)
	}
	if _, ok := (*limiter)(nil).allow(""); !ok {
		t.Error("no limiter, no limit")
	}
}

// T35: one subscriber is one client, whatever address he takes.
func TestAddressKey(t *testing.T) {
	same := [][2]string{
		{"2001:db8::1", "2001:db8::ffff:1"}, {"192.0.2.1", "::ffff:192.0.2.1"}, {"fe80::1%eth0", "fe80::2"}, {"", "rubbish"},
	}
	for _, pair := range same {
		if addressKey(pair[0]) != addressKey(pair[1]) {
			t.Errorf("%s and %s are two clients", pair[0], pair[1])
		}
	}
	apart := [][2]string{{"2001:db8::1", "2001:db8:0:1::1"}, {"192.0.2.1", "192.0.2.2"}, {"192.0.2.1", ""}}
	for _, pair := range apart {
		if addressKey(pair[0]) == addressKey(pair[1]) {
			t.Errorf("%s and %s are one client", pair[0], pair[1])
		}
	}
}

// A flood from endless addresses neither fills the memory nor switches the
// limit off.
func TestLimiterIsBounded(t *testing.T) {
	l, _ := movedLimiter(3, time.Minute)
	n := 0
	for i := range maxAddresses + 1000 {
		n += allowed(l, fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), 1)
	}
	if len(l.present) > maxAddresses+sharedCounts || n > maxAddresses+3*sharedCounts {
		t.Errorf("%d addresses are kept, %d events allowed", len(l.present), n)
	}
	if n := allowed(l, "192.0.2.1", 1); n != 1 && allowed(l, "192.0.2.2", 1)+allowed(l, "192.0.2.3", 1)+allowed(l, "192.0.2.4", 1) == 0 {
		t.Error("nobody else gets through")
	}
}

// Whoever has the IPv6 network of a site has 65,536 times a subscriber's.
func TestLimiterCountsSites(t *testing.T) {
	l, _ := movedLimiter(2, time.Minute)
	n := 0
	for i := range 1000 {
		n += allowed(l, fmt.Sprintf("2001:db8:1:%x::1", i), 5)
	}
	if n != 2*siteFactor {
		t.Errorf("%d events allowed, want %d", n, 2*siteFactor)
	}
	if n := allowed(l, "2001:db8:2::1", 5); n != 2 {
		t.Errorf("another site: %d events allowed", n)
	}
}
