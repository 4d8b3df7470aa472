// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/store"
)

// WatchPrefix begins the store keys of everything that decides whether a warm
// session is still good, see Cache.Changed.
const WatchPrefix = "user"

// cutoffKey is the store key of the cutoffs. They are one record, so that one
// write ends any number of sessions, and one read tells of all. It stays for
// good: sessions may have been made with a longer lifetime than the present one.
const cutoffKey = "user-cutoffs"

// errCutoffs says that nobody can tell which sessions were ended.
var errCutoffs = errors.New("the record of cutoffs is damaged; revoking everyone replaces it")

// cutoffs say which sessions were ended without being named: all of them, or
// all of a program.
//
// A cutoff is a number. Each session keeps the latest one that there was when it
// began, and is good while that is not less than the cutoffs which concern it.
// So clocks do not matter: not those of other nodes, and not that a login and a
// cutoff are in one second. Only so that numbers never come again, should the
// record be lost, is a new one the unix time or one more than the one before,
// whichever is greater.
type cutoffs struct {
	Key      string          `json:"key"` // the store key, so that no other sealed record can take its place
	Latest   int64           `json:"latest"`
	Everyone int64           `json:"everyone,omitempty"`
	Programs []programCutoff `json:"programs,omitempty"`
}

type programCutoff struct {
	Platform string `json:"platform"`
	Program  string `json:"program"`
	Cutoff   int64  `json:"cutoff"`
}

// noCutoffs is what there is before the first one.
var noCutoffs = new(cutoffs)

// ended reports whether a session of user was ended by a cutoff.
func (c *cutoffs) ended(s *recordSession, user identity.Identity) bool {
	if s.Cutoff < c.Everyone {
		return true
	}
	return slices.ContainsFunc(c.Programs, func(p programCutoff) bool {
		return p.Program == user.Program && p.Platform == user.Platform && s.Cutoff < p.Cutoff
	})
}

// seal returns the bytes to store: the latest cutoff in clear and all of it
// sealed.
func (c *cutoffs) seal(ring *keyring.Ring) ([]byte, error) {
	c.Key = cutoffKey
	plain, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encoding cutoffs: %w", err)
	}
	sealed, err := ring.Seal(plain)
	return append(strconv.AppendInt(nil, c.Latest, 10), append([]byte("."), sealed...)...), err
}

// openCutoffs returns the cutoffs that were sealed. If they cannot be opened,
// because their key was taken away or they were damaged, unreadable says why, and
// everyone who signed in before the latest one has to sign in again: keys are
// taken away in an emergency, and a gateway that refuses everyone for good would
// be another. Who can write to the store could as well delete all sessions.
func openCutoffs(ring *keyring.Ring, stored []byte) (c *cutoffs, unreadable, err error) {
	number, sealed, ok := bytes.Cut(stored, []byte{'.'})
	latest, err := strconv.ParseInt(string(number), 10, 64)
	if !ok || err != nil {
		return nil, nil, errCutoffs
	}
	c = new(cutoffs)
	plain, unreadable := ring.Open(sealed)
	if errors.Is(unreadable, keyring.ErrElsewhere) {
		return nil, nil, fmt.Errorf("reading cutoffs: %w", unreadable)
	}
	if unreadable == nil {
		unreadable = json.Unmarshal(plain, c)
	}
	if unreadable == nil && c.Key != cutoffKey {
		unreadable = errors.New("it is another record")
	}
	if unreadable != nil {
		c = &cutoffs{Latest: latest, Everyone: latest}
		unreadable = fmt.Errorf("the record of cutoffs cannot be read; everyone who signed in before the latest one has to sign in again: %w", unreadable)
	}
	return c, unreadable, nil
}

// knownCutoffs are the cutoffs as of an epoch of the cache, which ends when they
// change.
type knownCutoffs struct {
	*cutoffs
	epoch uint32
	// unreadable says that they stand for a record that cannot be read, and that
	// the operator has been told.
	unreadable bool
}

// cutoffs returns the cutoffs as of an epoch, or later: from memory, unless they
// may have changed.
func (m *Manager) cutoffs(ctx context.Context, epoch uint32) (*cutoffs, error) {
	if known := m.known.Load(); known != nil && known.epoch == epoch && m.Cache.trusts(m.Now()) {
		return known.cutoffs, nil
	}
	return m.readCutoffs(ctx)
}

// readCutoffs returns the cutoffs that are stored.
func (m *Manager) readCutoffs(ctx context.Context) (*cutoffs, error) {
	epoch := m.Cache.epoch.Load()
	c, known := noCutoffs, m.known.Load()
	var unreadable error
	stored, err := m.Store.Get(ctx, cutoffKey)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("reading cutoffs: %w", err)
	}
	if err == nil {
		if c, unreadable, err = openCutoffs(m.Keys, stored); err != nil {
			return nil, err
		}
	}
	if unreadable != nil && (known == nil || !known.unreadable) {
		m.Warn("", unreadable)
	}
	m.known.Store(&knownCutoffs{c, epoch, unreadable != nil})
	return c, nil
}

// RevokeEveryone ends all sessions that have begun. When it returns nil, who
// signs in from then on is signed in, on every node.
func (m *Manager) RevokeEveryone(ctx context.Context) error {
	return m.cut(ctx, true, func(c *cutoffs) { c.Everyone, c.Programs = c.Latest, nil })
}

// RevokeProgram does for the sessions of one program what RevokeEveryone does.
func (m *Manager) RevokeProgram(ctx context.Context, platform, program string) error {
	return m.cut(ctx, false, func(c *cutoffs) {
		c.Programs = slices.DeleteFunc(c.Programs, func(p programCutoff) bool { return p.Platform == platform && p.Program == program })
		c.Programs = append(c.Programs, programCutoff{platform, program, c.Latest})
	})
}

// cut makes a new cutoff. all says that it concerns everyone, so that what was
// before does not matter.
func (m *Manager) cut(ctx context.Context, all bool, change func(*cutoffs)) error {
	// Whoever asked for it may go away: what he asked for is done all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	err := m.Store.Update(ctx, cutoffKey, func(old []byte) ([]byte, time.Duration, error) {
		c := new(cutoffs)
		if old != nil {
			opened, _, err := openCutoffs(m.Keys, old)
			switch {
			case err == nil:
				c = opened
			case !all || errors.Is(err, keyring.ErrElsewhere):
				return nil, 0, err
			}
		}
		c.Latest = max(m.Now().Unix(), c.Latest+1)
		change(c)
		sealed, err := c.seal(m.Keys)
		return sealed, 0, err
	})
	m.Cache.InvalidateAll()
	if err != nil {
		// It may yet take effect, as in settle.
		time.AfterFunc(writeTimeout, m.Cache.InvalidateAll)
		return fmt.Errorf("revoking sessions: %w", err)
	}
	return nil
}

// ResealCutoffs seals the cutoffs with the active key, if they are sealed with
// another one, and returns how many records that were.
func (m *Manager) ResealCutoffs(ctx context.Context) (n int, err error) {
	stored, err := m.Store.Get(ctx, cutoffKey)
	if errors.Is(err, store.ErrNotFound) || err == nil && m.sealedByActive(stored) {
		return 0, nil
	}
	if err == nil {
		err = m.Store.Update(ctx, cutoffKey, func(old []byte) ([]byte, time.Duration, error) {
			c, unreadable, err := openCutoffs(m.Keys, old)
			if err != nil || unreadable != nil {
				return nil, 0, errors.Join(err, unreadable)
			}
			sealed, err := c.seal(m.Keys)
			return sealed, 0, err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("sealing cutoffs anew: %w", err)
	}
	return 1, nil
}

func (m *Manager) sealedByActive(stored []byte) bool {
	_, sealed, _ := bytes.Cut(stored, []byte{'.'})
	return m.Keys.SealedByActive(sealed)
}
