// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// A lock takes up memory only while somebody holds it or waits for it.
func TestLocksAreForgotten(t *testing.T) {
	var locks Locks
	var users sync.WaitGroup
	for i := range 100 {
		users.Go(func() {
			unlock, err := locks.Lock(context.Background(), fmt.Sprint("lock/", i%7), nil)
			if err != nil {
				t.Errorf("Lock: %v", err)
				return
			}
			unlock()
			unlock() // the second time does nothing
		})
	}
	users.Wait()

	unlock, err := locks.Lock(t.Context(), "held", nil)
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := locks.Lock(gone, "held", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("while ctx is done: %v", err)
	}
	closing := make(chan struct{})
	close(closing)
	if _, err := locks.Lock(t.Context(), "held", closing); !errors.Is(err, ErrClosed) {
		t.Errorf("while the store closes: %v", err)
	}
	unlock()
	if n := len(locks.named); n != 0 {
		t.Errorf("%d locks are left", n)
	}
}

func TestChecks(t *testing.T) {
	for key, good := range map[string]bool{
		"a": true, "user/oAbC_-~": true, strings.Repeat("k", MaxKey): true,
		"": false, " ": false, "a b": false, "a\x00": false, "小": false, "\x7f": false, strings.Repeat("k", MaxKey+1): false,
	} {
		if err := CheckKey(key); (err == nil) != good {
			t.Errorf("key %q: %v", key, err)
		}
	}
	if CheckValue(make([]byte, MaxValue)) != nil || CheckValue(nil) != nil || CheckValue(make([]byte, MaxValue+1)) == nil {
		t.Error("values are 0 bytes to 1 MiB")
	}
}
