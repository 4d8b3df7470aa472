// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/avatar"
	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/profile"
)

// deleteProfile answers DELETE /profile: everything that is kept of the user is
// gone, and with it his sessions.
func (h *Handler) deleteProfile(w http.ResponseWriter, r *http.Request, user *userRequest) error {
	if err := user.runtime.erase(r.Context(), user.session.Identity); err != nil {
		return writeError(w, r, h.storeFailure(r, err))
	}
	h.logger.Info("user erased himself", zap.String("user", user.runtime.keys.Digest(user.session.Subject)))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// erase removes everything that is kept of a user. What is left is that there
// were sessions, under a digest of his id, until they would have ended; and who
// brought data that a platform signed, under the same digest, so that nobody
// else can bring it.
//
// Sessions end first, so that nobody can begin to write; who has begun finds out
// when he is done. If it fails on the way, it can be done again.
func (rt *runtime) erase(ctx context.Context, user identity.Identity) error {
	ctx = context.WithoutCancel(ctx)
	subject := user.Subject()
	ended, err := rt.sessions.Erase(ctx, subject)
	if err != nil {
		return err
	}
	// The picture goes before the profile, which is all that leads to it. One
	// that is uploaded in between is told by Erase.
	known, err := rt.profiles.Get(ctx, subject)
	if err != nil && !errors.Is(err, profile.ErrDamaged) {
		return err
	}
	if known != nil && known.Avatar != "" {
		if err := rt.avatars.Delete(ctx, known.Avatar); err != nil {
			return err
		}
	}
	name, err := rt.profiles.Erase(ctx, subject, ended)
	if err != nil {
		return err
	}
	if name != "" {
		if err := rt.avatars.Delete(ctx, name); err != nil {
			return err
		}
	}
	return rt.directory.forget(ctx, user)
}

// export is everything that is kept of a user.
type export struct {
	User         exportedUser      `json:"user"`
	Sessions     []exportedSession `json:"sessions"`
	PlatformKeys int               `json:"platform_session_keys"`
	Profile      *exportedProfile  `json:"profile,omitempty"`
	Avatar       *exportedAvatar   `json:"avatar,omitempty"`
}

type exportedUser struct {
	Platform string `json:"platform"`
	Program  string `json:"program"`
	OpenID   string `json:"openid,omitempty"`
	KnownAs  string `json:"known_as,omitempty"`
	UnionID  string `json:"unionid,omitempty"`
}

// exportedSession is a session; it has no credential. Times are in RFC 3339.
type exportedSession struct {
	ID       string    `json:"id"`
	AuthTime time.Time `json:"auth_time"`
	LastUsed time.Time `json:"last_used"`
	Expires  time.Time `json:"expires"`
}

type exportedProfile struct {
	Verified        identity.UserInfo `json:"verified"`
	Stated          identity.UserInfo `json:"stated"`
	VerifiedAt      time.Time         `json:"verified_at,omitzero"`
	PhoneVerifiedAt time.Time         `json:"phone_verified_at,omitzero"`
	CreatedAt       time.Time         `json:"created_at,omitzero"`
	UpdatedAt       time.Time         `json:"updated_at,omitzero"`
	Version         int64             `json:"version"`
}

// exportedAvatar is the picture that the user uploaded; Data is in base64.
type exportedAvatar struct {
	Type string `json:"type"`
	Data []byte `json:"data"`
}

// errNobody says that nothing is kept of a user.
var errNobody = errors.New("nothing is kept of this user")

// export returns everything that is kept of a user.
func (rt *runtime) export(ctx context.Context, user identity.Identity) (*export, error) {
	subject := user.Subject()
	description, err := rt.sessions.Describe(ctx, subject)
	if err != nil {
		return nil, err
	}
	known, err := rt.profiles.Get(ctx, subject)
	if err != nil {
		return nil, err
	}
	kept := known.CreatedAt != (time.Time{})
	if !kept && (description == nil || description.Identity == (identity.Identity{})) {
		return nil, errNobody
	}
	e := &export{Sessions: []exportedSession{}}
	if kept {
		user = known.Identity
		e.Profile = &exportedProfile{
			Verified: known.Verified, Stated: known.Stated, VerifiedAt: known.VerifiedAt, PhoneVerifiedAt: known.PhoneVerifiedAt,
			CreatedAt: known.CreatedAt, UpdatedAt: known.UpdatedAt, Version: known.Version,
		}
	}
	if description != nil && description.Identity != (identity.Identity{}) {
		user, e.PlatformKeys = description.Identity, description.PlatformKeys
		for _, s := range description.Sessions {
			e.Sessions = append(e.Sessions, exportedSession{ID: s.ID, AuthTime: s.IssuedAt.UTC(), LastUsed: s.LastUsed.UTC(), Expires: s.ExpiresAt.UTC()})
		}
	}
	e.User = exportedUser{Platform: user.Platform, Program: user.Program, OpenID: user.OpenID, KnownAs: user.KnownAs, UnionID: user.UnionID}
	if known.Avatar == "" {
		return e, nil
	}
	picture, err := rt.avatars.Get(ctx, known.Avatar)
	switch {
	case errors.Is(err, avatar.ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("reading a picture: %w", err)
	default:
		e.Avatar = &exportedAvatar{picture.Type, picture.Data}
	}
	return e, nil
}
