// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package profile remembers what is known of a user beyond his ids: his name,
// his picture, his telephone number, what the platform has verified and what he
// says himself.
//
// Each user has one record, which is sealed and bound to him: whoever copies
// the store reads nothing, and whoever writes to it cannot give one user the
// data of another. When a user has his data erased, a tombstone stays for an
// hour, so that a request that was on its way cannot bring them back.
package profile

import (
	"errors"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/session"
)

// ErrDamaged says that what the store holds is not a profile of this user that
// can be read: it was damaged, put there in the place of another one, or sealed
// with a key that is gone. It stays as it is until it is erased; whether the
// user is served without his profile is for the caller to decide.
var ErrDamaged = errors.New("profile is damaged")

// ErrErased says that a change came too late: the session it came with was
// ended when the user had his data erased.
var ErrErased = errors.New("profile was erased")

// keyEnd ends the store keys of profiles.
const keyEnd = "/profile"

// Key returns the store key of a user's profile. It begins with
// session.RecordPrefix, so that whoever watches the sessions of users hears of
// their profiles, too.
func Key(subject string) string { return session.RecordPrefix + subject + keyEnd }

// Profile is what is known of one user. It is immutable once returned; the
// function given to Manager.Change has one of its own to work on. The zero
// value is the profile of a user of whom nothing is kept.
//
// Times have whole seconds and are zero where something never happened.
type Profile struct {
	// Identity is whose profile it is, as of the last change.
	Identity identity.Identity
	// Verified is what the platform told.
	Verified identity.UserInfo
	// Stated is what the user says himself, of which nothing is proven.
	Stated identity.UserInfo
	// VerifiedAt is when Verified came, PhoneVerifiedAt when the telephone
	// number in it did.
	VerifiedAt, PhoneVerifiedAt time.Time
	// UpdatedAt is when the last change was made, CreatedAt when the first was.
	UpdatedAt, CreatedAt time.Time
	// Avatar is the name of the picture that the user uploaded, see package
	// avatar; empty if there is none.
	Avatar string
	// Version grows by one with each change, and with an erasure. It is 0 where
	// nothing is kept, and nothing was erased of late.
	Version int64

	// end is when the profile is forgotten, in unix seconds; 0 for never.
	end int64
}

// kept reports whether anything is kept of the user.
func (p *Profile) kept() bool { return !p.CreatedAt.IsZero() }
