// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package provider is the contract between the gateway and the platforms whose
// users it signs in: one provider is one program (mini-program) on its platform.
package provider

import "context"

// Provider is the guest module of namespace miniprogram.providers. The last
// part of its module ID is the name of the platform.
//
// The gateway resolves the placeholders ({env.*}, {file.*}) in a guest's
// configuration before it decodes it, so that a guest never sees one; when a
// file behind such a placeholder changes, the gateway loads a new instance of
// the guest in the place of the old one.
//
// Provision must make no network call. All methods may be called concurrently.
type Provider interface {
	// AppID returns the id that the platform gave the program. It is the same
	// for the life of the provider.
	AppID() string

	// Exchange trades a login code for a grant by calling the platform.
	//
	// The code comes from the network and may hold anything: a provider checks
	// its form before it uses it, and answers one that cannot be a code with
	// CodeMalformed, without a call.
	//
	// A code is spent once the platform may have seen it. Exchange therefore
	// sends a code again (to another base URL) only when it knows that not one
	// byte of the request was written. The gateway calls Exchange once a code.
	//
	// Every error is, or wraps, an *Error. It holds no secret, no code and no
	// user's identifier.
	Exchange(ctx context.Context, code string) (Grant, error)
}

// Grant is what a platform says about the user who obtained a code.
type Grant struct {
	// OpenID names the user within this program. At most 128 bytes. It is empty
	// only where the platform names the user by UserID alone.
	OpenID string
	// UserID is the id by which the platform named users before it had openids,
	// where there is such a thing. At most 128 bytes.
	UserID string
	// Renames says that the platform may name this same user otherwise another
	// time: by UserID, by both, or by OpenID. The gateway then remembers by which
	// id each user was first known.
	Renames bool
	// UnionID names the user across the programs of one owner. Empty where the
	// platform does not tell.
	UnionID string
	// SessionKey is the platform's session key in the form the platform uses,
	// empty on platforms that have none. It never leaves the gateway.
	SessionKey string
}
