// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/store"
)

// Defaults of Options.
const (
	DefaultLifetime = 30 * 24 * time.Hour
	DefaultIdle     = 7 * 24 * time.Hour
	DefaultPerUser  = 10
)

// touchParts is into how many parts the idle time is divided; the last use of a
// session is written at most once in each.
const touchParts = 10

// maxTouches is how many writes of last use may be under way at once. A session
// that finds no place tries again with its next request.
const maxTouches = 64

// Bounds of one call to the store.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
)

// warmSlack is for how long a session stays in the warm cache beyond the time
// after which its next use is written anyway.
const warmSlack = time.Minute

// Options say how long sessions last and where they are kept.
type Options struct {
	// Store keeps the records. Required.
	Store store.Store
	// Keys signs tokens and seals records. Required.
	Keys *keyring.Ring
	// Cache is the warm cache of Store. Required.
	Cache *Cache
	// Lifetime is how long a session lasts from login. It is never extended.
	Lifetime time.Duration
	// Idle is how long a session lasts from its last use.
	Idle time.Duration
	// PerUser is how many sessions of one user are kept, the newest ones.
	PerUser int
	// Warn is called when a record cannot be used and the work goes on without
	// it. digest names the user in the log. Optional.
	Warn func(digest string, err error)
	// Now returns the time. Optional.
	Now func() time.Time
}

// Manager makes, validates and ends sessions. It is safe for concurrent use.
type Manager struct {
	Options
	known   atomic.Pointer[knownCutoffs]
	touches chan struct{}
	pending sync.WaitGroup
}

// NewManager returns a manager. Zero durations and counts become the defaults.
func NewManager(options Options) *Manager {
	m := &Manager{Options: options, touches: make(chan struct{}, maxTouches)}
	if m.Lifetime <= 0 {
		m.Lifetime = DefaultLifetime
	}
	if m.Idle <= 0 {
		m.Idle = DefaultIdle
	}
	if m.PerUser <= 0 {
		m.PerUser = DefaultPerUser
	}
	if m.Warn == nil {
		m.Warn = func(string, error) {}
	}
	if m.Now == nil {
		m.Now = time.Now
	}
	return m
}

// Wait returns when the writes of last use that are under way have ended.
func (m *Manager) Wait() { m.pending.Wait() }

// claims is the payload of a token.
type claims struct {
	Subject   string `json:"sub"`
	SessionID string `json:"sid"`
	IssuedAt  int64  `json:"iat"`
	ExpiresAt int64  `json:"exp"`
}

// Login is what Create makes a session of.
type Login struct {
	// User is who signs in.
	User identity.Identity
	// PlatformKey is the platform's session key; empty where there is none.
	PlatformKey string
	// Replaces is the session that the client showed, or nil: if it is the same
	// user's, the new session takes its place.
	Replaces *Session
	// Join is for how long a session of this user that has just begun is used
	// again instead of a new one. It is for clients that cannot show the session
	// they have, and sign in as often as they have requests waiting.
	Join time.Duration
}

// Create signs in a user and returns the session and its token. When it
// returns, the session is stored durably.
func (m *Manager) Create(ctx context.Context, login Login) (*Session, string, error) {
	now := m.Now().Unix()
	s := &Session{Subject: login.User.Subject()}
	started := recordSession{ID: newID(), IssuedAt: now, ExpiresAt: now + int64(m.Lifetime/time.Second), LastUsed: now}

	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var changed bool
	m.Cache.stamp(s)
	// From the store, because what another node has just ended must not be joined,
	// and who signs in after that must not be taken for one who did before.
	cut, err := m.readCutoffs(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("storing a session: %w", err)
	}
	started.Cutoff = cut.Latest
	err = m.update(ctx, s.Subject, func(rec *record) error {
		var admitted recordSession
		admitted, changed = m.admit(rec, login, started, cut)
		s.ID, s.Identity = admitted.ID, rec.Identity
		s.issuedAt, s.expiresAt, s.lastUsed = admitted.IssuedAt, admitted.ExpiresAt, admitted.LastUsed
		return nil
	})
	if err != nil {
		m.settle(s.Subject, err)
		return nil, "", fmt.Errorf("storing a session: %w", err)
	}
	token, err := m.token(s)
	if err != nil {
		return nil, "", err
	}
	if changed {
		// The user's other sessions are to be validated again. This one is good
		// unless somebody else changed the record at the same time.
		if m.Cache.Invalidate(s.Subject) == s.generation+1 {
			s.generation++
		}
	}
	s.seen.Store(now)
	m.Cache.put(token, s, m.warmFor(s, now))
	return s, token, nil
}

// token returns the token of a session. It is the same each time, as long as
// the active key is.
func (m *Manager) token(s *Session) (string, error) {
	payload, err := json.Marshal(claims{s.Subject, s.ID, s.issuedAt, s.expiresAt})
	if err != nil {
		return "", fmt.Errorf("encoding session claims: %w", err)
	}
	s.keyID = m.Keys.ActiveID()
	return m.Keys.SignToken(payload)
}

// admit writes a new session into a record, or finds one to join, and returns
// it. It reports whether what is known of the user's other sessions is outdated
// by that.
func (m *Manager) admit(rec *record, login Login, started recordSession, cut *cutoffs) (admitted recordSession, changed bool) {
	user, now := login.User, started.IssuedAt
	if user.UnionID == "" {
		user.UnionID = rec.Identity.UnionID // a platform that once told may not tell each time
	}
	newKey := rec.addKey(login.PlatformKey, now)
	changed = (newKey || rec.Identity != user) && len(rec.Sessions) > 0
	rec.Identity = user

	if login.Replaces != nil && login.Replaces.Subject == rec.Subject {
		changed = rec.remove(login.Replaces.ID) || changed
	}
	kept := rec.Sessions[:0]
	for _, old := range rec.Sessions {
		if m.end(old.IssuedAt, old.ExpiresAt, old.LastUsed) > now && !cut.ended(&old, user) {
			kept = append(kept, old)
		}
	}
	if n := len(kept); n > 0 && login.Join > 0 && now-kept[n-1].IssuedAt < int64(login.Join/time.Second) {
		rec.Sessions = kept
		return kept[n-1], changed
	}
	if surplus := len(kept) + 1 - m.PerUser; surplus > 0 {
		kept = kept[surplus:]
		changed = true
	}
	rec.Sessions = append(kept, started)
	return started, changed
}

// Validate returns the session that token names. The error is ErrInvalid,
// ErrExpired or ErrRevoked, or another one if the store could not answer. warm
// reports whether the answer came from memory.
func (m *Manager) Validate(ctx context.Context, token string) (s *Session, warm bool, err error) {
	now := m.Now()
	s = m.Cache.get(token, now)
	if s == nil || !m.Keys.Accepts(s.keyID) {
		s, err = m.validate(ctx, token, now.Unix())
		return s, false, err
	}
	unix := now.Unix()
	if unix >= m.end(s.issuedAt, s.expiresAt, max(s.lastUsed, s.seen.Load())) {
		// Another node may have seen it used.
		m.Cache.drop(token)
		s, err = m.validate(ctx, token, unix)
		return s, false, err
	}
	if s.seen.Load() < unix {
		s.seen.Store(unix)
	}
	if m.untouched(s, unix) {
		m.touch(token, s)
	}
	return s, true, nil
}

// validate checks a token against its signature and the store.
func (m *Manager) validate(ctx context.Context, token string, now int64) (*Session, error) {
	payload, keyID, err := m.Keys.VerifyToken(token)
	if errors.Is(err, keyring.ErrElsewhere) {
		return nil, fmt.Errorf("verifying a session token: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if now >= min(c.ExpiresAt, c.IssuedAt+int64(m.Lifetime/time.Second)) {
		return nil, ErrExpired
	}
	s := &Session{ID: c.SessionID, Subject: c.Subject, keyID: keyID}
	m.Cache.stamp(s)
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	sealed, err := m.Store.Get(ctx, RecordPrefix+c.Subject)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrExpired // the record of a revoked session outlives it
	}
	if err != nil {
		return nil, fmt.Errorf("reading a session: %w", err)
	}
	rec, err := openRecord(m.Keys, c.Subject, sealed)
	switch {
	case errors.Is(err, errDamaged):
		// The user can help himself by signing in again, the operator is told.
		m.Warn(m.Keys.Digest(c.Subject), err)
		return nil, ErrInvalid
	case err != nil:
		return nil, fmt.Errorf("reading a session: %w", err)
	}
	found := rec.find(c.SessionID)
	if found == nil {
		return nil, ErrRevoked
	}
	cut, err := m.cutoffs(ctx, s.epoch)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading a session: %w", err)
	case cut.ended(found, rec.Identity):
		return nil, ErrRevoked
	}
	s.Identity = rec.Identity
	s.issuedAt, s.expiresAt, s.lastUsed = found.IssuedAt, found.ExpiresAt, found.LastUsed
	if now >= m.end(s.issuedAt, s.expiresAt, s.lastUsed) {
		return nil, ErrExpired
	}
	s.seen.Store(now)
	m.Cache.put(token, s, m.warmFor(s, now))
	if m.untouched(s, now) {
		m.touch(token, s)
	}
	return s, nil
}

// untouched reports whether the last use of a session is to be written again.
func (m *Manager) untouched(s *Session, now int64) bool {
	return now-s.lastUsed >= max(1, int64(m.Idle/time.Second)/touchParts)
}

// Expiry returns when a session ends at the latest, and when it ends unless it
// is used before.
func (m *Manager) Expiry(s *Session) (end, idleEnd time.Time) {
	latest := min(s.expiresAt, s.issuedAt+int64(m.Lifetime/time.Second))
	return time.Unix(latest, 0), time.Unix(m.end(s.issuedAt, s.expiresAt, max(s.lastUsed, s.seen.Load())), 0)
}

// GoodUntil returns until when a session that is in use goes on unless it is
// revoked, and its use need not be written: whoever goes on using it validates it
// again then.
func (m *Manager) GoodUntil(s *Session) time.Time {
	end, _ := m.Expiry(s)
	if use := m.Now().Add(m.Idle / touchParts); use.Before(end) {
		return use
	}
	return end
}

// end returns when a session with these times ends, as a unix time.
func (m *Manager) end(issuedAt, expiresAt, lastUsed int64) int64 {
	return min(expiresAt, issuedAt+int64(m.Lifetime/time.Second), lastUsed+int64(m.Idle/time.Second))
}

// warmFor returns for how long a session stays in the warm cache: until its end
// at most, and little longer than until its next use is written, which puts it
// there again. What nobody uses does not take up memory for days.
func (m *Manager) warmFor(s *Session, now int64) time.Duration {
	left := min(s.expiresAt, s.issuedAt+int64(m.Lifetime/time.Second)) - now
	return min(time.Duration(left)*time.Second, m.Idle/touchParts+warmSlack)
}

// IsID reports whether text has the form of Session.ID.
func IsID(text string) bool {
	id, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(id) == idSize && len(text) == base64.RawURLEncoding.EncodedLen(idSize)
}

// idSize is the size of what names a session, in bytes.
const idSize = 16

// newID returns a name for a session: 128 random bits.
func newID() string {
	var id [idSize]byte
	rand.Read(id[:]) // never fails, see crypto/rand
	return base64.RawURLEncoding.EncodeToString(id[:])
}
