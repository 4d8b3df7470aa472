// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/store"
)

// Bounds of one call to the store.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
)

// Options say where profiles are kept and for how long.
type Options struct {
	// Store keeps the records. Required.
	Store store.Store
	// Keys seals the records. Required.
	Keys *keyring.Ring
	// Keep is for how long a profile is kept after its last change or Refresh,
	// in whole seconds; 0 means until it is erased.
	Keep time.Duration
	// Changed is called after each write of a user's record, so that what was
	// remembered of it can be forgotten. Where nobody knows what became of a
	// write, it is called once more when the write has had its time; that is
	// from a goroutine of its own. Optional.
	Changed func(subject string)
	// Warn is called when a record cannot be read and the work goes on without
	// it. digest names the user in the log. Optional.
	Warn func(digest string, err error)
	// Now returns the time. Optional.
	Now func() time.Time
}

// Manager reads and changes profiles. It is safe for concurrent use, and so are
// several of them, on any number of nodes, with one store.
type Manager struct {
	Options
}

// NewManager returns a manager.
func NewManager(options Options) *Manager {
	m := &Manager{options}
	if m.Changed == nil {
		m.Changed = func(string) {}
	}
	if m.Warn == nil {
		m.Warn = func(string, error) {}
	}
	if m.Now == nil {
		m.Now = time.Now
	}
	return m
}

// Get returns the profile of a user, an empty one where nothing is kept. It
// takes 5 seconds at most. The error is ErrDamaged, or another one if the store
// could not answer or a newer version of the gateway wrote the profile; there is
// no profile then.
func (m *Manager) Get(ctx context.Context, subject string) (*Profile, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	sealed, err := m.Store.Get(ctx, Key(subject))
	if errors.Is(err, store.ErrNotFound) {
		return new(Profile), nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a profile: %w", err)
	}
	rec, err := openRecord(m.Keys, subject, sealed, m.Now().Unix())
	if err != nil {
		return nil, fmt.Errorf("reading a profile: %w", err)
	}
	return rec.profile(), nil
}

// Author is who changes a profile: always its user.
type Author struct {
	// Subject names the user, see identity.Identity.Subject.
	Subject string
	// Identity is who he is.
	Identity identity.Identity
	// SessionID names the session in which he asked for the change. An empty one
	// is never among those that an erasure ended.
	SessionID string
}

// Change applies change to the profile of a user, as one atomic step, and
// returns what it became. When it returns without an error, the change is
// stored durably, also where the client has gone away meanwhile. It takes 10
// seconds at most.
//
// change may be called more than once, each time with the profile of that
// moment, which it may alter; it must not call the store. It decides on
// Verified, Stated, VerifiedAt, PhoneVerifiedAt and Avatar; the other fields are
// not its own. An error of change is returned so that errors.Is finds it, and
// nothing is written. Where it leaves all as it was, nothing is written either,
// and the version stays.
//
// Other errors are ErrErased, ErrDamaged, and those of the store, after which
// nobody knows whether the change was made.
func (m *Manager) Change(ctx context.Context, a Author, change func(*Profile) error) (*Profile, error) {
	var result *Profile
	err := m.update(ctx, a.Subject, func(rec *record, unreadable error) error {
		switch {
		case unreadable != nil:
			return unreadable
		case rec.endedSession(a.SessionID):
			return ErrErased
		}
		draft := rec.profile()
		draft.Identity = a.Identity
		if err := change(draft); err != nil {
			return err
		}
		now := m.Now().Unix()
		changed := rec.change(draft, a.Identity, now, m.end(now))
		result = rec.profile()
		if !changed {
			return errUnchanged
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("changing a profile: %w", err)
	}
	return result, nil
}

// Erase removes the profile of a user, also one that is damaged, and returns
// the name of his uploaded picture, which is for the caller to delete. Changes
// that come with one of the sessions are refused for an hour: they were let in
// before the erasure. sessions are ids, the newest last, of which a hundred are
// remembered. Like Change, it is done though the client goes away.
//
// The name is returned with an error, too, as far as it is known: then nobody
// knows whether the profile is gone, but the user wants it to be.
func (m *Manager) Erase(ctx context.Context, subject string, sessions []string) (avatar string, err error) {
	var damage error
	err = m.update(ctx, subject, func(rec *record, unreadable error) error {
		avatar, damage = "", nil
		switch {
		case errors.Is(unreadable, ErrDamaged):
			damage = unreadable
		case unreadable != nil:
			return unreadable
		case rec.Known != nil:
			avatar = rec.Known.Avatar
		}
		rec.erase(sessions, m.Now().Unix())
		return nil
	})
	if err != nil {
		return avatar, fmt.Errorf("erasing a profile: %w", err)
	}
	if damage != nil {
		m.Warn(m.Keys.Digest(subject), fmt.Errorf("erasing a profile without knowing its picture: %w", damage))
	}
	return avatar, nil
}

// errUnchanged is returned by the function given to update when there is
// nothing to write.
var errUnchanged = errors.New("unchanged")

// update changes the record of a user in one atomic step. change gets an empty
// record where there is none; where there is one that cannot be read, it gets
// an empty record and the reason, and an error from it leaves all as it was.
func (m *Manager) update(ctx context.Context, subject string, change func(rec *record, unreadable error) error) error {
	// Whoever asked for it may go away: what he asked for is done all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	written := false
	err := m.Store.Update(ctx, Key(subject), func(old []byte) ([]byte, time.Duration, error) {
		written = false
		rec, now := new(record), m.Now().Unix()
		var unreadable error
		if old != nil {
			var opened *record
			if opened, unreadable = openRecord(m.Keys, subject, old, now); unreadable == nil {
				rec = opened
			}
		}
		if err := change(rec, unreadable); err != nil {
			return nil, 0, err
		}
		sealed, ttl, err := rec.seal(m.Keys, subject, now)
		written = err == nil
		return sealed, ttl, err
	})
	if written {
		m.Changed(subject)
		if err != nil {
			// It may yet take effect.
			time.AfterFunc(writeTimeout, func() { m.Changed(subject) })
		}
	}
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}
