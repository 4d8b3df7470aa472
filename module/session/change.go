// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/minigate/minigate/module/store"
)

// Revoke ends one session. That it has ended before is not an error.
func (m *Manager) Revoke(ctx context.Context, s *Session) error {
	return m.revoke(ctx, s.Subject, func(rec *record) { rec.end(s.ID) })
}

// RevokeAll ends all sessions of a user and forgets the platform's session
// keys.
func (m *Manager) RevokeAll(ctx context.Context, subject string) error {
	return m.revoke(ctx, subject, (*record).clear)
}

func (m *Manager) revoke(ctx context.Context, subject string, change func(*record)) error {
	// Whoever asked for it may go away: what he asked for is done all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	err := m.update(ctx, subject, func(rec *record) error {
		if len(rec.Sessions) == 0 && len(rec.Keys) == 0 {
			return errUnchanged
		}
		change(rec)
		return nil
	})
	m.settle(subject, err)
	if err != nil {
		return fmt.Errorf("revoking sessions: %w", err)
	}
	return nil
}

// settle sees to it that the store is asked about a user's sessions after a
// write. If nobody knows what became of the write, it may yet take effect, so
// the store is asked once more when it has had its time.
func (m *Manager) settle(subject string, err error) {
	m.Cache.Invalidate(subject)
	if err != nil {
		time.AfterFunc(writeTimeout, func() { m.Cache.Invalidate(subject) })
	}
}

// Erase ends all sessions of a user and forgets everything that is kept with
// them, except that there were sessions: their tokens are revoked. It returns
// the names of the sessions that it ended.
func (m *Manager) Erase(ctx context.Context, subject string) (ended []string, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	err = m.update(ctx, subject, func(rec *record) error {
		ended = nil
		for _, s := range rec.Sessions {
			ended = append(ended, s.ID)
		}
		*rec = record{Subject: subject}
		return nil
	})
	m.settle(subject, err)
	if err != nil {
		return nil, fmt.Errorf("erasing sessions: %w", err)
	}
	return ended, nil
}

// touch writes that a session is in use, in the background. At most one write
// of a session is under way.
func (m *Manager) touch(token string, s *Session) {
	if !s.touching.CompareAndSwap(false, true) {
		return
	}
	select {
	case m.touches <- struct{}{}:
	default:
		s.touching.Store(false)
		return
	}
	m.pending.Go(func() {
		defer func() { <-m.touches }()
		ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
		defer cancel()
		if err := m.writeUse(ctx, token, s); err != nil {
			m.Warn(m.Keys.Digest(s.Subject), fmt.Errorf("writing the last use of a session: %w", err))
			// It stays warm, or a store that takes no writes would in the end
			// sign out those who are busiest.
			m.Cache.put(token, s, m.warmFor(s, m.Now().Unix()))
			s.touching.Store(false)
		}
	})
}

// writeUse sets the last use of a session to now, in store and cache.
func (m *Manager) writeUse(ctx context.Context, token string, s *Session) error {
	now := m.Now().Unix()
	used := &Session{
		ID: s.ID, Subject: s.Subject, Identity: s.Identity, keyID: s.keyID,
		issuedAt: s.issuedAt, expiresAt: s.expiresAt, lastUsed: now,
	}
	used.seen.Store(now)
	m.Cache.stamp(used)
	cut, err := m.cutoffs(ctx, used.epoch)
	if err != nil {
		return err
	}
	alive := false
	err = m.update(ctx, s.Subject, func(rec *record) error {
		found := rec.find(s.ID)
		if alive = found != nil && !cut.ended(found, rec.Identity); !alive {
			return errUnchanged
		}
		found.LastUsed = max(found.LastUsed, now)
		used.Identity = rec.Identity
		return nil
	})
	switch {
	case err != nil:
		return err
	case alive:
		m.Cache.put(token, used, m.warmFor(used, now))
	default:
		m.Cache.drop(token)
	}
	return nil
}

// read returns the record of a user, nil where there is none.
func (m *Manager) read(ctx context.Context, subject string) (*record, error) {
	sealed, err := m.stored(ctx, subject)
	if sealed == nil || err != nil {
		return nil, err
	}
	rec, err := openRecord(m.Keys, subject, sealed)
	if err != nil {
		return nil, fmt.Errorf("reading a session record: %w", err)
	}
	return rec, nil
}

// stored returns the sealed record of a user, nil where there is none.
func (m *Manager) stored(ctx context.Context, subject string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	sealed, err := m.Store.Get(ctx, RecordPrefix+subject)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading a session record: %w", err)
	case sealed == nil:
		return []byte{}, nil // there is one, and nothing in it
	}
	return sealed, nil
}

// errUnchanged is returned by the function given to update when there is
// nothing to write.
var errUnchanged = errors.New("unchanged")

// update changes the record of subject in one atomic step. The record is empty
// where there is none, or none that can be read.
func (m *Manager) update(ctx context.Context, subject string, change func(*record) error) error {
	var unusable error
	err := m.Store.Update(ctx, RecordPrefix+subject, func(old []byte) ([]byte, time.Duration, error) {
		unusable = nil
		rec := &record{Subject: subject}
		if old != nil {
			opened, err := openRecord(m.Keys, subject, old)
			switch {
			case err == nil:
				rec = opened
			case errors.Is(err, errDamaged):
				unusable = err // nothing in it can be used: the token of each of its sessions is void, too
			default:
				return nil, 0, err
			}
		}
		last := lastEnd(rec)
		if err := change(rec); err != nil {
			return nil, 0, err
		}
		sealed, err := rec.seal(m.Keys)
		if err != nil {
			return nil, 0, err
		}
		// A record lives as long as a token may be shown that it can answer
		// for, also that of a session which has just been removed. It is not
		// cut to the idle time, which another configuration may lengthen.
		seconds := max(last, lastEnd(rec)) - m.Now().Unix()
		return sealed, time.Duration(max(seconds, 1)) * time.Second, nil
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	if err == nil && unusable != nil {
		m.Warn(m.Keys.Digest(subject), fmt.Errorf("replacing a record: %w", unusable))
	}
	return err
}

// lastEnd returns when the last session of a record ends at the latest, as a
// unix time.
func lastEnd(rec *record) int64 {
	var last int64
	for _, s := range rec.Sessions {
		last = max(last, s.ExpiresAt)
	}
	return last
}
