// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"slices"
	"sync"
)

// running are the apps that have been started and not stopped, in the order of
// their start. The admin endpoint asks it which one is in use: Caddy replaces
// that endpoint before a new configuration runs, and keeps the new one when it
// does not, so that the app of the endpoint's own configuration may be one that
// never was.
var running apps

type apps struct {
	mu      sync.Mutex
	started []*App
}

func (s *apps) add(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = append(s.started, a)
}

func (s *apps) remove(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = slices.DeleteFunc(s.started, func(other *App) bool { return other == a })
}

// last returns the app that was started last, or nil.
func (s *apps) last() *App {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.started) == 0 {
		return nil
	}
	return s.started[len(s.started)-1]
}
