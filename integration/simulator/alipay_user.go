// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"math/big"
	"slices"
)

const alipayUserMethod = "alipay.user.info.share"

// alipayUser is what differs for one user.
type alipayUser struct {
	migration Migration
	profile   map[string]string
}

// alipayIDs are the ids of a user, as many as his stage of the migration has.
type alipayIDs struct {
	OpenID  string `json:"open_id,omitempty"`
	UserID  string `json:"user_id,omitempty"`
	UnionID string `json:"union_id,omitempty"`
}

// identityOf derives who a user is to this program: an open id of 47
// characters, as seen, by user and program; a user id of 16 digits and a union
// id, by user alone (https://opendocs.alipay.com/mini/0ai2i6).
func (p *alipayProgram) identityOf(user string) Identity {
	identity := Identity{
		OpenID: "0" + digestDigits(2, "alipay program", p.AppID) +
			digestText(22, "alipay open_id", p.AppID, user) + digestText(22, "alipay open_id 2", p.AppID, user),
		UserID: "2088" + digestDigits(12, "alipay user_id", user),
	}
	if !p.NoUnionID {
		identity.UnionID = digestText(43, "alipay union_id", user)
	}
	return identity
}

// digestDigits returns n decimal digits that depend on parts alone.
func digestDigits(n int, parts ...string) string {
	sum := sha256.Sum256([]byte(fmt.Sprintf("%q", parts)))
	digits := fmt.Sprintf("%077s", new(big.Int).SetBytes(sum[:]))
	return digits[len(digits)-n:]
}

// idsOf returns what the program is told of a user at his stage of the
// migration. The caller holds the lock.
func (p *alipayProgram) idsOf(user string) alipayIDs {
	identity := p.identityOf(user)
	ids := alipayIDs{OpenID: identity.OpenID, UserID: identity.UserID, UnionID: identity.UnionID}
	switch orDefault(p.users[user].migration, p.migration) {
	case MigrationUserID:
		ids.OpenID, ids.UnionID = "", ""
	case MigrationOpenID:
		ids.UserID = ""
	}
	return ids
}

// alipayProfile is the answer of alipay.user.info.share.
type alipayProfile map[string]string

// userInfo is alipay.user.info.share (https://opendocs.alipay.com/open/02aild).
// The token must be of the scope auth_user.
func (a *alipay) userInfo(r *alipayRequest) (any, error) {
	p, now := r.owner, a.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	consent, state := p.access.find(now, r.params["auth_token"])
	switch {
	case state == codeUsed:
		return nil, alipayError{subCode: "aop.auth-token-time-out"}
	case state == codeUnknown:
		return nil, alipayError{subCode: "aop.invalid-auth-token"}
	case !slices.Contains(consent.scopes, alipayScopeUser):
		return nil, alipayError{subCode: "isv.insufficient-user-permissions"}
	}
	profile := alipayProfile{"code": "10000", "msg": alipayMessages["10000"]}
	ids := p.idsOf(consent.user)
	for name, id := range map[string]string{"open_id": ids.OpenID, "user_id": ids.UserID, "union_id": ids.UnionID} {
		if id != "" {
			profile[name] = id
		}
	}
	fields := p.users[consent.user].profile
	if fields == nil {
		fields = defaultAlipayProfile(consent.user)
	}
	maps.Copy(profile, fields)
	return profile, nil
}

// defaultAlipayProfile is the profile of a user who was given no other.
func defaultAlipayProfile(user string) map[string]string {
	return map[string]string{
		"avatar":    "https://tfs.alipayobjects.com/images/partner/" + digestText(16, "alipay avatar", user),
		"nick_name": user,
		"province":  "浙江省",
		"city":      "杭州市",
		"gender":    "F",
	}
}

// SetMigration puts a program of Alipay, or one of its users, into a stage of
// the migration from user ids to open ids. Without a stage, a user goes with the
// program again. It applies to what is asked from now on. The error wraps
// ErrInvalid or ErrUnknownProgram.
func (s *Simulator) SetMigration(program, user string, stage Migration) error {
	_, p, err := s.alipayOf(program)
	if err != nil {
		return err
	}
	if err := stage.check(); err != nil && (user == "" || stage != "") {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if user == "" {
		p.migration = stage
		return nil
	}
	return p.change(user, func(u *alipayUser) { u.migration = stage })
}

// alipayReserved are the members of a profile that are not the user's.
var alipayReserved = []string{"code", "msg", "sub_code", "sub_msg", "open_id", "user_id", "union_id"}

// SetProfile says what alipay.user.info.share tells of a user. An empty profile
// is that of a user who never set his name; nil restores the usual one. The
// error wraps ErrInvalid or ErrUnknownProgram.
func (s *Simulator) SetProfile(program, user string, profile map[string]string) error {
	if _, err := s.phoneOf(program, user); err != nil {
		return err
	}
	_, p, err := s.alipayOf(program)
	if err != nil {
		return err
	}
	for _, name := range alipayReserved {
		if _, found := profile[name]; found {
			return fmt.Errorf("%w: a profile has no %s of its own", ErrInvalid, name)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.change(user, func(u *alipayUser) { u.profile = maps.Clone(profile) })
}

// change enters what differs for a user. The caller holds the lock.
func (p *alipayProgram) change(user string, change func(*alipayUser)) error {
	entry, found := p.users[user]
	change(&entry)
	switch {
	case entry.migration == "" && entry.profile == nil:
		delete(p.users, user)
	case !found && len(p.users) >= p.limit:
		return fmt.Errorf("%w: %d users differ already", ErrInvalid, p.limit)
	default:
		p.users[user] = entry
	}
	return nil
}
