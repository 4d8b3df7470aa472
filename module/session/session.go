// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package session keeps the gateway's own record that a user is signed in.
//
// A session is named by a token that the gateway signs and proven by a record
// in the store that the gateway seals: a token is worthless without the record,
// and the record without the token. Validated sessions stay in a warm cache, so
// that a request of a signed-in user costs a look-up in memory.
package session

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/minigate/minigate/module/identity"
)

// Errors of Validate. Any other error means that the store could not answer.
var (
	// ErrInvalid: the token is not one of ours.
	ErrInvalid = errors.New("session token is not valid")
	// ErrExpired: the session reached its end, or was not used for too long.
	ErrExpired = errors.New("session has expired")
	// ErrRevoked: the session was ended before its time.
	ErrRevoked = errors.New("session was revoked")
)

// Session is one validated session. It is immutable and shared by all requests
// that show its token.
type Session struct {
	// ID names the session. It is no credential.
	ID string
	// Subject names the user, see identity.Identity.Subject.
	Subject string
	// Identity is who the user is.
	Identity identity.Identity

	// Unix times in seconds. lastUsed is what the store says; seen is the last
	// use that this process knows of.
	issuedAt, expiresAt, lastUsed int64
	seen                          atomic.Int64

	keyID      string
	generation uint32
	epoch      uint32
	touching   atomic.Bool
	prepared   atomic.Pointer[prepared]
	keys       atomic.Pointer[[]platformKey] // nil until asked for
}

// IssuedAt returns when the user signed in.
func (s *Session) IssuedAt() time.Time { return time.Unix(s.issuedAt, 0) }

// Prepared returns what owner kept with the session, or nil. Owners are
// compared by ==; what the last one kept is remembered.
func (s *Session) Prepared(owner any) any {
	if p := s.prepared.Load(); p != nil && p.owner == owner {
		return p.value
	}
	return nil
}

// Keep keeps value, which owner made of the session, so that work which depends
// on nothing else is done once and not with every request.
func (s *Session) Keep(owner, value any) { s.prepared.Store(&prepared{owner, value}) }

type prepared struct{ owner, value any }
