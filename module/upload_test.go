// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"testing"
)

// One user must not keep all others from uploading, nor fill the memory.
func TestUploadsAreBounded(t *testing.T) {
	u := newUploads()
	end, ok := u.begin("alice")
	if !ok {
		t.Fatal("the first one finds no place")
	}
	if _, ok := u.begin("alice"); ok {
		t.Error("two of one user at once")
	}
	for i := range maxUploads - 1 {
		if _, ok := u.begin(fmt.Sprint("user-", i)); !ok {
			t.Errorf("no place for user %d", i)
		}
	}
	if _, ok := u.begin("bob"); ok {
		t.Error("more at once than there is room for")
	}
	end()
	if _, ok := u.begin("bob"); !ok {
		t.Error("the place that became free is not given away")
	}
}
