// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"time"
)

// AppTokens is an ability of providers with calls that need a token of the
// program itself, which the platform hands out for a time.
//
// The gateway keeps the token, for all its nodes, and hands it to the calls that
// need it. If one of them fails with TokenRejected, the gateway gets another
// token and repeats the call once: with that reason the platform has done
// nothing else.
type AppTokens interface {
	// AppToken asks the platform for a token, and returns how long it is good
	// from now.
	AppToken(ctx context.Context) (token string, lifetime time.Duration, err error)
}

// SessionKeys is an ability of providers whose platform can be asked about a
// session key. The errors are of type *Error.
type SessionKeys interface {
	AppTokens

	// CheckSessionKey returns nil if the holder's session key is the one in
	// force, and an *Error of reason KeyStale if it is not.
	CheckSessionKey(ctx context.Context, appToken string, holder Holder) error

	// ResetSessionKey has the platform replace the holder's session key, which
	// must be the one in force, and returns the new one. KeyStale says that it
	// was not in force.
	ResetSessionKey(ctx context.Context, appToken string, holder Holder) (string, error)
}
