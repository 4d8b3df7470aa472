// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"sync"
	"time"
)

const (
	// maxUploads is how many pictures are received and decoded at once.
	maxUploads = 16

	// uploadTime is how long a picture may wait for others to be decoded.
	uploadTime = 10 * time.Second

	// uploadRetryAfter is what clients are told to wait that find no place.
	uploadRetryAfter = 5 * time.Second
)

// uploads bounds the pictures that are under way, one a user and a few in all,
// before their bodies are read. It is safe for concurrent use.
type uploads struct {
	mu    sync.Mutex
	users map[string]struct{}
}

func newUploads() *uploads { return &uploads{users: make(map[string]struct{})} }

// begin reports whether a picture of the user may be received; if so, end is to
// be called when that is done.
func (u *uploads) begin(user string) (end func(), ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, busy := u.users[user]; busy || len(u.users) >= maxUploads {
		return nil, false
	}
	u.users[user] = struct{}{}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.users, user)
	}, true
}
