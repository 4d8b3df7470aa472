// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/minigate/minigate/module/provider"
)

// health is what is known of a platform from the calls to it. The zero value has
// seen none.
type health struct {
	answered atomic.Int64 // when the platform last answered as it should, in unix nanoseconds
	failed   atomic.Pointer[platformFailure]
}

// platformFailure is a call in which platform or operator failed, not the client.
type platformFailure struct {
	word string
	at   time.Time
}

// note remembers how a call ended. What a client can bring about is no failure,
// and what was not sent, or nobody waits for, says nothing.
func (h *health) note(err error) {
	var e *provider.Error
	known := errors.As(err, &e)
	switch {
	case err == nil:
		h.answered.Store(time.Now().UnixNano())
		return
	case errors.Is(err, context.Canceled):
		return
	case !known:
		e = &provider.Error{}
	}
	switch e.Reason {
	case provider.PlatformFault, provider.Unavailable, provider.RateLimited, provider.Misconfigured:
		h.failed.Store(&platformFailure{platformError(e).Word, time.Now()})
	case provider.CodeMalformed, provider.TokenRejected:
	default:
		h.answered.Store(time.Now().UnixNano())
	}
}

// lastAnswer returns when the platform last answered as it should; zero if that is
// not known.
func (h *health) lastAnswer() time.Time {
	at := h.answered.Load()
	if at == 0 {
		return time.Time{}
	}
	return time.Unix(0, at)
}

// degraded reports whether users of the program cannot sign in right now, as far
// as anybody has tried: the platform is left alone, or it refuses the program.
func (p *program) degraded() bool {
	if p.breaker.State() != gobreaker.StateClosed {
		return true
	}
	failed := p.health.failed.Load()
	return failed != nil && failed.word == errMisconfigured.Word && failed.at.After(p.health.lastAnswer())
}

// abilityNames returns what the provider in use can do beyond signing in.
func (p *program) abilityNames() []string {
	abilities := p.abilities()
	names := []string{}
	add := func(name string, able bool) {
		if able {
			names = append(names, name)
		}
	}
	_, able := abilities.(provider.AppTokens)
	add("app_token", able)
	_, able = abilities.(provider.SessionKeys)
	add("session_keys", able)
	_, able = abilities.(provider.OpenData)
	add("open_data", able)
	_, able = abilities.(provider.SignedData)
	add("signed_data", able)
	_, able = abilities.(provider.PhoneCodes)
	add("phone_codes", able)
	_, able = abilities.(provider.UserInfoCodes)
	add("user_info_codes", able)
	return names
}
