// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"strings"
	"time"
)

// Reason says why a platform call gave no result, in terms of what the client
// or the operator can do about it.
type Reason int

const (
	// PlatformFault: the platform answered something that cannot be used. It is
	// the zero value, because it is what an unknown failure is.
	PlatformFault Reason = iota
	// Unavailable: no answer, or the platform says it is busy.
	Unavailable
	// CodeMalformed: what the client sent cannot be a login code.
	CodeMalformed
	// CodeInvalid: the code is unknown, expired or of another program.
	CodeInvalid
	// CodeUsed: the code was exchanged before.
	CodeUsed
	// UserBlocked: the platform refuses this user.
	UserBlocked
	// RateLimited: too many calls; RetryAfter says when to try again.
	RateLimited
	// Misconfigured: the operator must act (secret, IP list, permissions).
	Misconfigured
	// TokenRejected: the app token that the call was made with is not good any
	// more, and the platform has done nothing else.
	TokenRejected
	// KeyStale: the session key is not, or no longer, the user's.
	KeyStale
	// ConsentMissing: the user did not agree to what was asked, or took it back.
	ConsentMissing
)

// String returns the reason as a word for logs.
func (r Reason) String() string {
	switch r {
	case PlatformFault:
		return "platform_fault"
	case Unavailable:
		return "unavailable"
	case CodeMalformed:
		return "code_malformed"
	case CodeInvalid:
		return "code_invalid"
	case CodeUsed:
		return "code_used"
	case UserBlocked:
		return "user_blocked"
	case RateLimited:
		return "rate_limited"
	case Misconfigured:
		return "misconfigured"
	case TokenRejected:
		return "token_rejected"
	case KeyStale:
		return "key_stale"
	case ConsentMissing:
		return "consent_missing"
	default:
		return "unknown"
	}
}

// Error is the failure of a platform call. It is written to the operator's log
// and is never shown to a client.
type Error struct {
	// Reason decides the answer to the client.
	Reason Reason
	// PlatformCode is the platform's own error code, such as "40029".
	PlatformCode string
	// PlatformMessage is the platform's own explanation, cut to a sane length.
	PlatformMessage string
	// TraceID is the platform's name for the call, for its support desk.
	TraceID string
	// Spent says that the code of the call was spent all the same, in a step before
	// the one that failed. It must be set where Reason does not say so.
	Spent bool
	// RetryAfter is how long to wait before trying again; zero if not known.
	RetryAfter time.Duration
	// Err is the cause, where there is one.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(strings.ReplaceAll(e.Reason.String(), "_", " "))
	if e.PlatformCode != "" {
		b.WriteString(": platform code ")
		b.WriteString(e.PlatformCode)
	}
	if e.PlatformMessage != "" {
		b.WriteString(": ")
		b.WriteString(e.PlatformMessage)
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Interface guard
var _ error = (*Error)(nil)
