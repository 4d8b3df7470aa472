// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/store"
)

// directory knows by which id each user was first known, on platforms that give
// their users new ids: the same user may come with the old id, with both, or
// with the new one only, and he is to stay one user with one id all the time.
//
// It keeps one small sealed record for each id that was ever seen, for good.
type directory struct {
	store store.Store
	keys  *keyring.Ring
	now   func() time.Time
	warn  func(error)
}

// directoryPrefix begins the store keys of the directory.
const directoryPrefix = "known/"

// knownRecord says what is known of one id.
type knownRecord struct {
	// Key is the store key, so that no other sealed record can take its place.
	Key string `json:"key"`
	// FirstID is the id by which the user was first known.
	FirstID string `json:"first_id"`
	// Since is when that was, in unix nanoseconds.
	Since int64 `json:"since"`
	// Others are the keys of the user's other ids, for the day when he is to be
	// forgotten.
	Others []string `json:"others,omitempty"`
}

// identify returns the identity of the user whom a grant names.
//
// Where both ids come together and neither is known, the older one is taken for
// the first: a platform gives both only while it moves the users of a program
// from one to the other, and the program's own records have the older one.
func (d *directory) identify(ctx context.Context, platform, program string, grant provider.Grant) (identity.Identity, error) {
	user := identity.Identity{Platform: platform, Program: program, OpenID: grant.OpenID, UnionID: grant.UnionID}
	if !grant.Renames {
		return user, nil
	}
	var keys []string
	if grant.OpenID != "" {
		keys = append(keys, directoryKey(platform, program, "openid", grant.OpenID))
	}
	if grant.UserID != "" {
		keys = append(keys, directoryKey(platform, program, "userid", grant.UserID))
	}
	if len(keys) == 0 {
		return user, errors.New("the platform named no user")
	}
	first := knownRecord{FirstID: grant.UserID, Since: d.now().UnixNano()}
	if first.FirstID == "" {
		first.FirstID = grant.OpenID
	}
	// What is known wins over what would be, and the earlier over the later.
	for _, key := range keys {
		known, err := d.get(ctx, key)
		if err != nil {
			return user, err
		}
		if known != nil && known.Since <= first.Since {
			first = *known
		}
	}
	for i, key := range keys {
		if err := d.remember(ctx, key, slices.Delete(slices.Clone(keys), i, i+1), &first); err != nil {
			return user, err
		}
	}
	if first.FirstID != grant.OpenID {
		user.KnownAs = first.FirstID
	}
	return user, nil
}

// get returns the record under key, or nil.
func (d *directory) get(ctx context.Context, key string) (*knownRecord, error) {
	sealed, err := d.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the directory of users: %w", err)
	}
	return d.open(key, sealed)
}

// remember writes first under key, unless an earlier record has come there
// meanwhile; then that becomes first.
func (d *directory) remember(ctx context.Context, key string, others []string, first *knownRecord) error {
	known, err := d.get(ctx, key)
	if err != nil || (known != nil && known.FirstID == first.FirstID && containsAll(known.Others, others)) {
		return err
	}
	err = d.store.Update(ctx, key, func(old []byte) ([]byte, time.Duration, error) {
		record := knownRecord{Key: key, FirstID: first.FirstID, Since: first.Since, Others: others}
		if old != nil {
			known, err := d.open(key, old)
			if err != nil {
				return nil, 0, err
			}
			if known != nil {
				if known.Since < record.Since {
					record.FirstID, record.Since = known.FirstID, known.Since
					first.FirstID, first.Since = known.FirstID, known.Since
				}
				record.Others = union(known.Others, others)
			}
		}
		plain, err := json.Marshal(record)
		if err != nil {
			return nil, 0, err
		}
		sealed, err := d.keys.Seal(plain)
		return sealed, 0, err
	})
	if err != nil {
		return fmt.Errorf("writing the directory of users: %w", err)
	}
	return nil
}

func containsAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(s string) bool { return !slices.Contains(have, s) })
}

func union(a, b []string) []string {
	all := slices.Sorted(slices.Values(slices.Concat(a, b)))
	return slices.Compact(all)
}

// idKeys returns the store keys of an id of which it is not known what kind it
// is.
func idKeys(platform, program, id string) []string {
	if id == "" {
		return nil
	}
	return []string{directoryKey(platform, program, "openid", id), directoryKey(platform, program, "userid", id)}
}

// resolve returns the user who has, or had, this id. If the directory does not
// have it, it is an openid that never changed.
func (d *directory) resolve(ctx context.Context, platform, program, id string) (identity.Identity, error) {
	user := identity.Identity{Platform: platform, Program: program, OpenID: id}
	for _, key := range idKeys(platform, program, id) {
		known, err := d.get(ctx, key)
		if err != nil {
			return user, err
		}
		if known != nil && known.FirstID != id {
			user.KnownAs = known.FirstID
			return user, nil
		}
	}
	return user, nil
}

// isUser reports whether a grant names user.
func (d *directory) isUser(ctx context.Context, user identity.Identity, grant provider.Grant) (bool, error) {
	for _, id := range []string{grant.OpenID, grant.UserID} {
		if id != "" && (id == user.OpenID || id == user.FirstID()) {
			return true, nil
		}
	}
	if !grant.Renames {
		return false, nil
	}
	for _, id := range []string{grant.OpenID, grant.UserID} {
		if id == "" {
			continue
		}
		known, err := d.resolve(ctx, user.Platform, user.Program, id)
		if err != nil || known.FirstID() == user.FirstID() {
			return err == nil, err
		}
	}
	return false, nil
}

// forget removes everything that the directory has of a user.
func (d *directory) forget(ctx context.Context, user identity.Identity) error {
	keys := append(idKeys(user.Platform, user.Program, user.OpenID), idKeys(user.Platform, user.Program, user.KnownAs)...)
	for i := 0; i < len(keys); i++ { // keys grows on the way
		known, err := d.get(ctx, keys[i])
		if err != nil {
			return err
		}
		if known == nil {
			continue
		}
		for _, other := range append(known.Others, idKeys(user.Platform, user.Program, known.FirstID)...) {
			if !slices.Contains(keys, other) {
				keys = append(keys, other)
			}
		}
	}
	for _, key := range keys {
		if err := d.store.Delete(ctx, key); err != nil {
			return fmt.Errorf("deleting from the directory of users: %w", err)
		}
	}
	return nil
}

// open returns the record that was sealed for key, or nil and a warning if nobody
// can read it: then its user is taken for new, because the alternative is that he
// can never sign in again.
func (d *directory) open(key string, sealed []byte) (*knownRecord, error) {
	record := new(knownRecord)
	plain, err := d.keys.Open(sealed)
	if errors.Is(err, keyring.ErrElsewhere) {
		return nil, fmt.Errorf("reading the directory of users: %w", err)
	}
	if err == nil {
		err = json.Unmarshal(plain, record)
	}
	if err == nil && (record.Key != key || record.FirstID == "") {
		err = errors.New("it is another record")
	}
	if err != nil {
		d.warn(fmt.Errorf("a record of the directory of users is passed over: %w", err))
		return nil, nil
	}
	return record, nil
}

// directoryKey returns the store key of an id: a digest of parts that cannot run
// into each other.
func directoryKey(platform, program, kind, id string) string {
	text, err := json.Marshal([]string{platform, program, kind, id})
	if err != nil {
		return "" // strings can always be encoded
	}
	sum := sha256.Sum256(text)
	return directoryPrefix + base64.RawURLEncoding.EncodeToString(sum[:])
}
