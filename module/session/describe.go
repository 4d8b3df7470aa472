// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
)

// State says what has become of a session or a token.
type State string

// The states of a session, and of a token.
const (
	StateValid   State = "valid"
	StateExpired State = "expired"
	StateRevoked State = "revoked"

	// StateInvalid is that of a token which the gateway has not made.
	StateInvalid State = "invalid"
	// StateForeignKey is that of a token which was signed with a key that is not
	// among the seal keys, if it was signed at all.
	StateForeignKey State = "foreign_key"
)

// Description tells what is kept of a user and his sessions. It holds no
// credential and no key.
type Description struct {
	Identity identity.Identity
	Sessions []DescribedSession
	// PlatformKeys is how many session keys of the platform are kept.
	PlatformKeys int
}

// DescribedSession is one session of a Description.
type DescribedSession struct {
	ID                            string
	IssuedAt, ExpiresAt, LastUsed time.Time
	// IdleEnd is when it ends unless it is used before.
	IdleEnd time.Time
	State   State
}

// Describe tells what is kept of a user; nil if that is nothing.
func (m *Manager) Describe(ctx context.Context, subject string) (*Description, error) {
	cut, err := m.cutoffs(ctx, m.Cache.epoch.Load())
	if err != nil {
		return nil, err
	}
	rec, err := m.read(ctx, subject)
	if rec == nil || err != nil {
		return nil, err
	}
	d := &Description{Identity: rec.Identity, PlatformKeys: len(rec.Keys)}
	for i := range rec.Sessions {
		d.Sessions = append(d.Sessions, m.describe(rec, &rec.Sessions[i], cut))
	}
	return d, nil
}

func (m *Manager) describe(rec *record, s *recordSession, cut *cutoffs) DescribedSession {
	end := m.end(s.IssuedAt, s.ExpiresAt, s.LastUsed)
	d := DescribedSession{
		ID: s.ID, IssuedAt: time.Unix(s.IssuedAt, 0), LastUsed: time.Unix(s.LastUsed, 0),
		ExpiresAt: time.Unix(min(s.ExpiresAt, s.IssuedAt+int64(m.Lifetime/time.Second)), 0),
		IdleEnd:   time.Unix(end, 0), State: StateValid,
	}
	switch {
	case cut.ended(s, rec.Identity):
		d.State = StateRevoked
	case end <= m.Now().Unix():
		d.State = StateExpired
	}
	return d
}

// TokenDescription tells what a token is.
type TokenDescription struct {
	State State
	// KeyID names the key that signed it; for StateForeignKey the one that it
	// claims to be signed with.
	KeyID string
	// Subject and SessionID are the user and the session that it names; empty
	// unless its signature is good.
	Subject, SessionID  string
	IssuedAt, ExpiresAt time.Time
}

// DescribeToken tells what a token is, and of whom. It is no use of the session.
// user is nil if nothing is kept of him, or nobody can tell who it is.
func (m *Manager) DescribeToken(ctx context.Context, token string) (t *TokenDescription, user *Description, err error) {
	payload, keyID, err := m.Keys.VerifyToken(token)
	if (errors.Is(err, keyring.ErrUnknownKey) || errors.Is(err, keyring.ErrElsewhere)) && keyring.IsToken(token) {
		return &TokenDescription{State: StateForeignKey, KeyID: claimedKey(token)}, nil, nil
	}
	var c claims
	if err == nil {
		err = json.Unmarshal(payload, &c)
	}
	if err != nil {
		return &TokenDescription{State: StateInvalid}, nil, nil
	}
	if user, err = m.Describe(ctx, c.Subject); err != nil {
		return nil, nil, err
	}
	t = &TokenDescription{
		State: StateRevoked, KeyID: keyID, Subject: c.Subject, SessionID: c.SessionID,
		IssuedAt: time.Unix(c.IssuedAt, 0), ExpiresAt: time.Unix(c.ExpiresAt, 0),
	}
	if user == nil || m.Now().Unix() >= min(c.ExpiresAt, c.IssuedAt+int64(m.Lifetime/time.Second)) {
		t.State = StateExpired
		return t, user, nil
	}
	for _, s := range user.Sessions {
		if s.ID == c.SessionID {
			t.State = s.State
		}
	}
	return t, user, nil
}

// maxKeyID is the length of a key id that is repeated of a token which nobody can
// verify. Ours have eight bytes.
const maxKeyID = 32

// claimedKey returns the id of the key that a token says it is signed with.
func claimedKey(token string) string {
	segment, _, _ := strings.Cut(token, ".")
	header, err := base64.RawURLEncoding.DecodeString(segment)
	var claimed struct {
		KeyID string `json:"kid"`
	}
	if err != nil || json.Unmarshal(header, &claimed) != nil || len(claimed.KeyID) > maxKeyID {
		return ""
	}
	for i := range len(claimed.KeyID) {
		if claimed.KeyID[i] <= ' ' || claimed.KeyID[i] > '~' {
			return ""
		}
	}
	return claimed.KeyID
}

// End ends one session of a user and reports whether it was there, and good.
func (m *Manager) End(ctx context.Context, subject, id string) (ended bool, err error) {
	n, err := m.endCounted(ctx, subject, func(rec *record) { rec.end(id) })
	return n > 0, err
}

// EndAll does what RevokeAll does, and returns how many sessions were good until
// then.
func (m *Manager) EndAll(ctx context.Context, subject string) (int, error) {
	return m.endCounted(ctx, subject, (*record).clear)
}

// endCounted revokes what change removes from the record, and returns how many
// sessions less are good.
func (m *Manager) endCounted(ctx context.Context, subject string, change func(*record)) (n int, err error) {
	cut, err := m.cutoffs(ctx, m.Cache.epoch.Load())
	if err != nil {
		return 0, err
	}
	good := func(rec *record) (n int) {
		for i := range rec.Sessions {
			if m.describe(rec, &rec.Sessions[i], cut).State == StateValid {
				n++
			}
		}
		return n
	}
	err = m.revoke(ctx, subject, func(rec *record) {
		n = good(rec)
		change(rec)
		n -= good(rec)
	})
	return n, err
}
