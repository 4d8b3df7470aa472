// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package identity holds who a user is and how an upstream is told: the
// proven identity, the headers that carry it, and the guard that makes those
// headers impossible to forge.
package identity

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"time"
)

// Identity is who a user is, as a platform has proven it.
type Identity struct {
	// Platform is the name of the provider that signed the user in.
	Platform string `json:"platform"`
	// Program is the app id of the mini-program.
	Program string `json:"program"`
	// OpenID names the user within the program; empty where the platform tells
	// an older id only.
	OpenID string `json:"openid,omitempty"`
	// KnownAs is the id by which the gateway first knew the user, if that is not
	// OpenID: some platforms give their users new ids.
	KnownAs string `json:"known_as,omitempty"`
	// UnionID names the user across programs of one owner; empty if unknown.
	UnionID string `json:"unionid,omitempty"`
}

// subjectSize is how many bytes of the digest name a subject: enough that no
// two users ever share one.
const subjectSize = 18

// FirstID returns the id of the user that never changes: the one by which the
// gateway first knew him.
func (i Identity) FirstID() string {
	if i.KnownAs != "" {
		return i.KnownAs
	}
	return i.OpenID
}

// Subject returns the name under which everything about this user is kept: a
// digest of platform, program and FirstID in which no part can run into the next. It says nothing about the user to someone who does not know the
// openid, is safe in a key or a file name, and keeps openids apart that differ
// in letter case only.
func (i Identity) Subject() string {
	digest := sha256.New()
	for _, part := range [...]string{i.Platform, i.Program, i.FirstID()} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		digest.Write(length[:])
		digest.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(digest.Sum(nil)[:subjectSize])
}

// Claims is what one site tells about a signed-in user. It is immutable once
// made.
type Claims struct {
	*Identity
	// ID is the id of the user by the site's choice (option user_id).
	ID string
	// Verified is what the platform told of the user, Stated what he said himself.
	// Nil where nothing is known.
	Verified, Stated *UserInfo
	// SessionID names the session. It is no credential.
	SessionID string
	// AuthTime is when the user signed in.
	AuthTime time.Time
}

// Lookup returns the claim that a placeholder {http.auth.user.<name>} stands
// for. known is true for every name that exists, also where the value is empty.
// A nil receiver is the anonymous user, all of whose claims are empty.
func (c *Claims) Lookup(name string) (value string, known bool) {
	if c == nil {
		c = &anonymous
	}
	switch name {
	case "id":
		return c.ID, true
	case "platform":
		return c.Platform, true
	case "program":
		return c.Program, true
	case "openid":
		return c.OpenID, true
	case "unionid":
		return c.UnionID, true
	case "phone":
		return c.Phone(), true
	case "phone_e164":
		return c.Verified.orEmpty().E164(), true
	case "nickname":
		return c.Nickname(), true
	case "avatar_url":
		return cmp.Or(c.Stated.orEmpty().AvatarURL, c.Verified.orEmpty().AvatarURL), true
	case "session":
		return c.SessionID, true
	case "auth_time":
		if c.AuthTime.IsZero() {
			return "", true
		}
		return strconv.FormatInt(c.AuthTime.Unix(), 10), true
	default:
		return c.lookupInfo(name)
	}
}

// lookupInfo returns a field of user information: verified.<field> or
// stated.<field>.
func (c *Claims) lookupInfo(name string) (value string, known bool) {
	source, field, _ := strings.Cut(name, ".")
	var info *UserInfo
	switch source {
	case "verified":
		info = c.Verified
	case "stated":
		info = c.Stated
	default:
		return "", false
	}
	if p := info.orEmpty().Field(field); p != nil {
		return *p, true
	}
	return "", false
}

// Phone returns the verified telephone number, see UserInfo.Phone; empty if
// unknown.
func (c *Claims) Phone() string { return c.Verified.orEmpty().Phone() }

// Nickname returns how the user wants to be called: by what he says himself, or
// else by what the platform told. It proves nothing.
func (c *Claims) Nickname() string {
	return cmp.Or(c.Stated.orEmpty().Nickname, c.Verified.orEmpty().Nickname)
}

var anonymous = Claims{Identity: new(Identity)}
