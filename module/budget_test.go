// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	b := newBudget(3, time.Minute)
	b.now = func() time.Time { return now }
	for i := range 5 {
		if _, ok := b.take("alice"); ok != (i < 3) {
			t.Errorf("event %d: %v", i, ok)
		}
		now = now.Add(time.Second)
	}
	if wait, ok := b.take("alice"); ok || wait != 55*time.Second {
		t.Errorf("wait %v, %v", wait, ok)
	}
	if _, ok := b.take("bob"); !ok {
		t.Error("another user has nothing left")
	}
	b.giveBack("alice")
	b.giveBack("nobody")
	if _, ok := b.take("alice"); !ok {
		t.Error("what was given back is not there")
	}
	if _, ok := b.take("alice"); ok {
		t.Error("more is there than was given back")
	}
	now = now.Add(55 * time.Second)
	if _, ok := b.take("alice"); !ok {
		t.Error("nothing is left in the next window")
	}
}

// A flood of users must neither fill the memory nor switch the budget off.
func TestBudgetIsBounded(t *testing.T) {
	b := newBudget(1, time.Hour)
	for i := range maxBudgets + 10_000 {
		b.take(fmt.Sprint("user-", i))
	}
	if n := len(b.counts); n > maxBudgets+sharedCounts {
		t.Errorf("%d users are counted", n)
	}
	if _, ok := b.take("one more"); ok {
		t.Error("there is a way past the budget")
	}
}
