// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
)

// RecordPrefix begins the store keys of everything that is kept of a user. The
// key of his record goes on with the subject; those of what else is kept of him,
// with the subject, a slash and a name.
const RecordPrefix = "user/"

// SubjectOf returns the subject in a store key that begins with RecordPrefix.
func SubjectOf(key string) string {
	subject, _, _ := strings.Cut(strings.TrimPrefix(key, RecordPrefix), "/")
	return subject
}

// recordVersion is the version of the format that this code writes.
const recordVersion = 1

const (
	// keptKeys is how many platform session keys of a user are kept.
	keptKeys = 3
	// keyGrace is for how long a platform session key is kept after a newer one
	// came: data that a phone encrypted with it may still be on its way.
	keyGrace = 5 * time.Minute
)

// errDamaged says that what the store holds is not a record of this user.
var errDamaged = errors.New("session record is damaged")

// errNewer says that a record was written by a later version of the gateway.
var errNewer = errors.New("session record was written by a newer version")

// record is all that is kept of one user, so that signing out everywhere is one
// write and needs no search.
type record struct {
	Version  int               `json:"v"`
	Subject  string            `json:"sub"`
	Identity identity.Identity `json:"identity"`
	Keys     []platformKey     `json:"keys,omitempty"`     // newest first
	Sessions []recordSession   `json:"sessions,omitempty"` // oldest first
}

// platformKey is a session key of the platform. Since is when it came, Checked
// when the platform last said that it is in force; unix seconds.
type platformKey struct {
	Key     string `json:"key"`
	Since   int64  `json:"since"`
	Checked int64  `json:"checked,omitempty"`
}

// recordSession is one session of a user. Times are unix seconds.
type recordSession struct {
	ID        string `json:"id"`
	IssuedAt  int64  `json:"iat"`
	ExpiresAt int64  `json:"exp"`
	LastUsed  int64  `json:"used"`
	Cutoff    int64  `json:"cutoff,omitempty"` // the latest that there was when it began
}

// openRecord returns the record of subject that was sealed.
func openRecord(ring *keyring.Ring, subject string, sealed []byte) (*record, error) {
	plain, err := ring.Open(sealed)
	if errors.Is(err, keyring.ErrElsewhere) {
		return nil, fmt.Errorf("opening a session record: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	rec := new(record)
	if err := json.Unmarshal(plain, rec); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	switch {
	case rec.Version > recordVersion:
		return nil, fmt.Errorf("%w (%d, this one reads %d)", errNewer, rec.Version, recordVersion)
	case rec.Subject != subject:
		return nil, fmt.Errorf("%w: it belongs to another user", errDamaged)
	}
	return rec, nil
}

// seal returns the bytes to store.
func (rec *record) seal(ring *keyring.Ring) ([]byte, error) {
	rec.Version = recordVersion
	plain, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encoding session record: %w", err)
	}
	return ring.Seal(plain)
}

// find returns the session called id, or nil.
func (rec *record) find(id string) *recordSession {
	for i := range rec.Sessions {
		if rec.Sessions[i].ID == id {
			return &rec.Sessions[i]
		}
	}
	return nil
}

// remove removes the session called id and reports whether it was there.
func (rec *record) remove(id string) bool {
	before := len(rec.Sessions)
	rec.Sessions = slices.DeleteFunc(rec.Sessions, func(s recordSession) bool { return s.ID == id })
	return len(rec.Sessions) < before
}

// end removes the session called id, and the platform's session keys with the
// last one: nobody is left who could use them.
func (rec *record) end(id string) {
	if rec.remove(id); len(rec.Sessions) == 0 {
		rec.Keys = nil
	}
}

// clear removes all sessions, and the platform's session keys.
func (rec *record) clear() { rec.Sessions, rec.Keys = nil, nil }
