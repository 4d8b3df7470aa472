// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
)

// recordFormat is the version of the format that this code writes.
const recordFormat = 1

const (
	// tombstoneLife is for how long the sessions are remembered that an erasure
	// ended: longer than any request takes that was let in before.
	tombstoneLife = time.Hour
	// tombstoneSessions is how many of them are remembered, the newest ones.
	tombstoneSessions = 100

	// longest is the longest ttl asked of a store, in seconds: a century.
	longest = 100 * 365 * 24 * 60 * 60
)

// errNewer says that a record was written by a later version of the gateway.
var errNewer = errors.New("profile was written by a newer version")

// record is all that the store holds of one profile. Times are unix seconds; a
// zero stands for never.
type record struct {
	Format int `json:"v"`
	// Key is the store key with the subject in it, so that no other sealed
	// record can take its place.
	Key string `json:"key"`
	// Version is the one of Profile.
	Version int64 `json:"version"`
	// Known is nil in a tombstone.
	Known *known `json:"known,omitempty"`
	// Ended is what is left of an erasure. It outlives the first changes after
	// it: the user may be back before his last request of the old days is.
	Ended *ended `json:"ended,omitempty"`

	// stale says that the store holds something else than would be written now:
	// sealed with an older key, or with parts that are past their end.
	stale bool
}

// known is the profile in a record.
type known struct {
	Identity        identity.Identity `json:"identity"`
	Verified        identity.UserInfo `json:"verified"`
	Stated          identity.UserInfo `json:"stated"`
	VerifiedAt      int64             `json:"verified_at,omitempty"`
	PhoneVerifiedAt int64             `json:"phone_verified_at,omitempty"`
	UpdatedAt       int64             `json:"updated_at"`
	CreatedAt       int64             `json:"created_at"`
	Avatar          string            `json:"avatar,omitempty"`
	End             int64             `json:"end,omitempty"`
}

// ended names the sessions that erasures ended, the newest last.
type ended struct {
	Sessions []string `json:"sessions,omitempty"`
	Until    int64    `json:"until"`
}

// openRecord returns the record of subject that was sealed, without what is
// past its end.
func openRecord(ring *keyring.Ring, subject string, sealed []byte, now int64) (*record, error) {
	plain, err := ring.Open(sealed)
	if errors.Is(err, keyring.ErrElsewhere) {
		return nil, fmt.Errorf("opening a profile: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	rec := new(record)
	if json.Unmarshal(plain, rec) != nil { // its error could show what it stumbled over
		return nil, fmt.Errorf("%w: it is another kind of record", ErrDamaged)
	}
	switch {
	case rec.Format > recordFormat:
		return nil, fmt.Errorf("%w (%d, this one reads %d)", errNewer, rec.Format, recordFormat)
	case rec.Key != Key(subject):
		return nil, fmt.Errorf("%w: it is another record", ErrDamaged)
	case rec.Version < 1:
		return nil, fmt.Errorf("%w: it has no version", ErrDamaged)
	}
	rec.stale = !ring.SealedByActive(sealed)
	rec.expire(now)
	return rec, nil
}

// expire takes away what is past its end. A record of which nothing is left is
// as good as none.
func (rec *record) expire(now int64) {
	if rec.Known != nil && rec.Known.End != 0 && now >= rec.Known.End {
		rec.Known, rec.stale = nil, true
	}
	if rec.Ended != nil && now >= rec.Ended.Until {
		rec.Ended, rec.stale = nil, true
	}
	if rec.empty() {
		rec.Version = 0
	}
}

// empty reports whether there is nothing to keep.
func (rec *record) empty() bool { return rec.Known == nil && rec.Ended == nil }

// seal returns the bytes to store and for how long, as store.Change does: nil
// for a record that is empty.
func (rec *record) seal(ring *keyring.Ring, subject string, now int64) ([]byte, time.Duration, error) {
	if rec.empty() {
		return nil, 0, nil
	}
	rec.Format, rec.Key = recordFormat, Key(subject)
	plain, err := json.Marshal(rec)
	if err != nil {
		return nil, 0, fmt.Errorf("encoding a profile: %w", err)
	}
	sealed, err := ring.Seal(plain)
	if err != nil {
		return nil, 0, err
	}
	var until int64
	if rec.Ended != nil {
		until = rec.Ended.Until
	}
	if rec.Known != nil {
		if rec.Known.End == 0 {
			return sealed, 0, nil
		}
		until = max(until, rec.Known.End)
	}
	return sealed, time.Duration(min(max(until-now, 1), longest)) * time.Second, nil
}

// profile returns the profile in a record.
func (rec *record) profile() *Profile {
	k := rec.Known
	if k == nil {
		return &Profile{Version: rec.Version}
	}
	return &Profile{
		Identity: k.Identity, Verified: k.Verified, Stated: k.Stated,
		VerifiedAt: fromUnix(k.VerifiedAt), PhoneVerifiedAt: fromUnix(k.PhoneVerifiedAt),
		UpdatedAt: fromUnix(k.UpdatedAt), CreatedAt: fromUnix(k.CreatedAt),
		Avatar: k.Avatar, Version: rec.Version, end: k.End,
	}
}

// change makes p, which was changed by user at the time now, the profile in a
// record, until end. It reports whether that makes a difference.
func (rec *record) change(p *Profile, user identity.Identity, now, end int64) bool {
	next := known{
		Identity: user, Verified: p.Verified, Stated: p.Stated,
		VerifiedAt: toUnix(p.VerifiedAt), PhoneVerifiedAt: toUnix(p.PhoneVerifiedAt),
		UpdatedAt: now, CreatedAt: now, Avatar: p.Avatar, End: end,
	}
	var old known
	if rec.Known != nil {
		old = *rec.Known
		next.CreatedAt = old.CreatedAt
	}
	same := next
	same.Identity, same.UpdatedAt, same.CreatedAt, same.End = old.Identity, old.UpdatedAt, old.CreatedAt, old.End
	if same == old {
		return false
	}
	rec.Known = &next
	rec.Version++
	return true
}

// erase makes a tombstone of a record.
func (rec *record) erase(sessions []string, now int64) {
	var all []string
	if rec.Ended != nil {
		all = rec.Ended.Sessions
	}
	for _, id := range sessions {
		if id != "" && !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	all = all[max(0, len(all)-tombstoneSessions):]
	rec.Known = nil
	rec.Ended = &ended{Sessions: all, Until: now + int64(tombstoneLife/time.Second)}
	rec.Version++
}

// endedSession reports whether the session called id was ended by an erasure.
func (rec *record) endedSession(id string) bool {
	return rec.Ended != nil && slices.Contains(rec.Ended.Sessions, id)
}

// toUnix and fromUnix keep the zero time.
func toUnix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromUnix(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}
