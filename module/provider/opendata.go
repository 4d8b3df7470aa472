// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
)

// ErrData says that data which a client handed over is not what the platform
// gave it: it cannot be decrypted, was changed, belongs to another program or
// user, or is too old. There is one error for all of these, and as far as can be
// it takes the same time, for a client that could tell them apart could use the
// gateway to decrypt.
var ErrData = errors.New("the data is not what the platform gave")

// Holder is a signed-in user and a session key of his.
type Holder struct {
	// OpenID names the user within the program.
	OpenID string
	// SessionKey is the platform's, in the form the platform uses.
	SessionKey string
}

// OpenData is an ability of providers whose platform gives user data to the
// mini-program in a form that only the holder of the session key can read, or
// check. Its methods make no network call, and may be called concurrently.
//
// What such data says about a user is true at most for the user whose session
// key opened it. Who that is the caller knows already: an id in the data proves
// nothing, but one that is another user's is an ErrData.
type OpenData interface {
	// Decrypt returns the plain JSON object of encrypted data, after checking
	// that the platform made it for this program and user not long ago. data and
	// iv are as the mini-program received them. The error is ErrData.
	Decrypt(holder Holder, data, iv string) ([]byte, error)

	// Verify checks the platform's signature of plain data, exactly as the
	// mini-program received it, and that the data is a JSON object. The error is
	// ErrData.
	Verify(holder Holder, rawData, signature string) error

	// UserInfo reads user information from plain JSON that Decrypt returned or
	// Verify found good. What is missing in it, or has no sane form, is left
	// empty. The error is ErrData: it is no user information.
	UserInfo(plain []byte) (UserInfo, error)

	PhoneData
}

// PhoneData reads telephone numbers.
type PhoneData interface {
	// PhoneNumber reads a telephone number from plain JSON that the provider
	// opened. The error is ErrData: there is none in it.
	PhoneNumber(plain []byte) (PhoneNumber, error)
}

// Signed is data that the platform signed.
type Signed struct {
	// Plain is the JSON object inside.
	Plain []byte
	// Signed is what the platform signed, byte for byte: the same data in
	// another spelling has the same.
	Signed []byte
}

// SignedData is an ability of providers whose platform signs data, and encrypts
// it for the program, without telling of which user it is or when it was made.
// The gateway therefore takes it from users only who have just signed in, and
// remembers who brought it first.
type SignedData interface {
	// OpenSigned verifies and decrypts data, which is as the mini-program
	// received it: a JSON object in text form. The error is ErrData, or an
	// *Error if what the platform signed is a refusal: ConsentMissing where the
	// user has to agree (again), Misconfigured where the operator has to act.
	OpenSigned(ctx context.Context, data []byte) (Signed, error)

	PhoneData
}
