// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/provider"
)

// handoverGrace is for how long a provider is tried, too, whose secrets were
// replaced. The platform's console and a file are not changed in the same moment,
// and not always in the same order.
const handoverGrace = time.Hour

// handover is a program's provider, and for a while the one before it, which has
// the secrets that were replaced. Secrets that belong together stay together.
type handover struct {
	current  provider.Provider
	previous provider.Provider // nil if there was none
	until    time.Time         // when previous is not tried any more
	// moved says that the platform has refused previous.
	moved atomic.Bool
}

// next is the handover to another provider. The one before it is the last that
// the platform is known to have taken.
func (h *handover) next(p provider.Provider, now time.Time) *handover {
	before := h.current
	if h.previous != nil && now.Before(h.until) && !h.moved.Load() {
		before = h.previous
	}
	return &handover{current: p, previous: before, until: now.Add(handoverGrace)}
}

// order returns the providers to try, one after the other: the old one first,
// until the platform refuses it.
func (h *handover) order(now time.Time) []provider.Provider {
	switch {
	case h.previous == nil || !now.Before(h.until):
		return []provider.Provider{h.current}
	case h.moved.Load():
		return []provider.Provider{h.current, h.previous}
	default:
		return []provider.Provider{h.previous, h.current}
	}
}

// isRefused reports whether the platform refused a program because of its secrets,
// before it did anything else.
func isRefused(err error) bool {
	var e *provider.Error
	return errors.As(err, &e) && e.Reason == provider.Misconfigured && !e.Spent
}

// withProvider runs a call that needs the program's secrets. Where the platform
// refuses the program because of them, it has not looked at anything else, a code
// for instance, and the call is run once more with the other ones, if they were
// replaced lately.
func withProvider[T any](p *program, run func(provider.Provider) (T, error)) (result T, err error) {
	h := p.provider.Load()
	for i, candidate := range h.order(time.Now()) {
		again, failure := run(candidate)
		if i > 0 && isRefused(failure) {
			if candidate == h.current {
				err = failure // the operator is to hear of the new ones
			}
			return result, err
		}
		result, err = again, failure
		if isRefused(err) {
			continue
		}
		switch moved := candidate == h.current; {
		case errors.As(err, new(notSentError)): // it was not asked
		case i > 0 && h.moved.CompareAndSwap(!moved, moved):
			p.logger.Info("platform takes other secrets of the program", zap.Bool("new", moved))
		case !moved && isReason(err, provider.PlatformFault) && h.moved.CompareAndSwap(false, true):
			// What the old secrets verify the platform by may be what was wrong.
			p.logger.Info("replaced secrets of the program are not tried first any more", zap.NamedError("cause", err))
		}
		return result, err
	}
	return result, err
}
