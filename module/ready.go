// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/store"
)

const (
	// probeKey is a store key that nobody ever writes.
	probeKey = "ready"
	// probePause is the time between two probes of a store.
	probePause = time.Second
	// probeTimeout is for how long a store may think about a probe.
	probeTimeout = time.Second
	// probeAge is how old an answer may be that is given while the store is being
	// asked for a newer one.
	probeAge = 3 * time.Second
)

// probe knows whether a store answers. However many ask, it looks once a second,
// and no request that goes away can spoil what the others are told.
type probe struct {
	gate chan struct{} // held by the one who looks
	last atomic.Pointer[probeResult]
}

type probeResult struct {
	at  time.Time
	err error
}

func newProbe() *probe { return &probe{gate: make(chan struct{}, 1)} }

// check returns why the store is of no use right now, or nil. ctx bounds the
// wait, life the look.
func (p *probe) check(ctx, life context.Context, s store.Store) error {
	last := p.last.Load()
	if last != nil && time.Since(last.at) < probePause {
		return last.err
	}
	select {
	case p.gate <- struct{}{}:
	default:
		if last != nil && time.Since(last.at) < probeAge {
			return last.err
		}
		select {
		case p.gate <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() { <-p.gate }()
	if newest := p.last.Load(); newest != last {
		return newest.err // somebody has looked meanwhile
	}
	life, cancel := context.WithTimeout(life, probeTimeout)
	defer cancel()
	_, err := s.Get(life, probeKey)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	p.last.Store(&probeResult{time.Now(), err})
	if before := last != nil && last.err != nil; before != (err != nil) {
		// The logger of the configuration in use, which this outlives.
		logger := caddy.Log().Named("miniprogram")
		if err != nil {
			logger.Error("store does not answer; not ready", zap.Error(err))
		} else {
			logger.Info("store answers again; ready")
		}
	}
	return err
}

// The words of readyAnswer.
const (
	wordOK          = "ok"
	wordUnavailable = "unavailable"
	wordDegraded    = "degraded"
)

// readyAnswer tells a load balancer whether to send requests. It tells nothing
// about anything that is configured.
type readyAnswer struct {
	Ready bool `json:"ready"`
	// ShuttingDown says that the server is about to stop.
	ShuttingDown bool   `json:"shutting_down,omitempty"`
	Store        string `json:"store"`
	Keys         string `json:"keys"`
	// Programs is degraded while users of a program cannot sign in. That is no
	// reason to send them elsewhere: who is signed in goes on, and all nodes have
	// the same platform.
	Programs string `json:"programs"`
}

// serveReady answers GET /ready.
func (h *Handler) serveReady(w http.ResponseWriter, r *http.Request, _ *credential) error {
	answer := readyAnswer{ShuttingDown: shuttingDown(r), Store: wordUnavailable, Keys: wordUnavailable, Programs: wordOK}
	// Not App.runtime, which would open the store.
	if rt := h.app.running.Load(); rt != nil {
		answer.Keys = wordOK
		if rt.state.probe.check(r.Context(), rt.state.ctx, rt.state.store) == nil {
			answer.Store = wordOK
		}
	}
	for _, p := range h.allowed {
		if p.degraded() {
			answer.Programs = wordDegraded
		}
	}
	answer.Ready = !answer.ShuttingDown && answer.Store == wordOK && answer.Keys == wordOK
	if answer.Ready {
		return writeJSON(w, http.StatusOK, answer)
	}
	w.Header().Set("Retry-After", "1")
	return writeJSON(w, http.StatusServiceUnavailable, answer)
}

// shuttingDown reports whether the server stops, or will when its delay is over.
func shuttingDown(r *http.Request) bool {
	if caddy.Exiting() {
		return true
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false
	}
	value, _ := repl.Get("http.shutting_down")
	down, _ := value.(bool)
	return down
}
