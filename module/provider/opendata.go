// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package provider

import "errors"

// ErrData says that data which a client handed over is not what the platform
// gave it: it cannot be decrypted, was changed, belongs to another program, or
// is too old. There is one error for all of these, for a client that could tell
// them apart could use the gateway to decrypt.
var ErrData = errors.New("the data is not what the platform gave")

// OpenData is an ability of providers whose platform gives user data to the
// mini-program in a form that only the holder of the session key can read, or
// check. Its methods make no network call, and may be called concurrently.
//
// What such data says about a user is true at most for the user whose session
// key opened it. Who that is the caller knows already: an id in the data proves
// nothing.
type OpenData interface {
	// Decrypt returns the plain JSON object of encrypted data, after checking
	// that the platform made it for this program not long ago. data and iv are
	// as the mini-program received them. The error is ErrData.
	Decrypt(sessionKey, data, iv string) ([]byte, error)

	// Verify checks the platform's signature of plain data, exactly as the
	// mini-program received it. The error is ErrData.
	Verify(sessionKey, rawData, signature string) error
}
