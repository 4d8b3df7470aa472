// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/profile"
	"github.com/minigate/minigate/module/session"
)

// profileAnswer is what a user is told of his profile.
type profileAnswer struct {
	User userAnswer `json:"user"`
	// Verified came from the platform, Stated from the user himself.
	Verified identity.UserInfo `json:"verified"`
	Stated   identity.UserInfo `json:"stated"`
	Version  int64             `json:"version"`
}

// writeProfile answers with a profile of the user.
func writeProfile(w http.ResponseWriter, user *userRequest, p *profile.Profile) error {
	return writeJSON(w, http.StatusOK, profileAnswer{
		User: newUserAnswer(user.visitor.claims), Verified: p.Verified, Stated: p.Stated, Version: p.Version,
	})
}

// serveProfile answers requests for the profile as a whole.
func (h *Handler) serveProfile(w http.ResponseWriter, r *http.Request, user *userRequest) error {
	switch r.Method {
	case http.MethodPut, http.MethodPost:
		return h.changeProfile(w, r, user)
	case http.MethodDelete:
		return h.deleteProfile(w, r, user)
	}
	if user.visitor.profile == nil {
		return writeError(w, r, errStore.retryAfter(0))
	}
	return writeProfile(w, user, user.visitor.profile)
}

// changeProfile answers PUT /profile: the user states something about himself.
// The last one who does so wins, unless he names the version that he has seen.
func (h *Handler) changeProfile(w http.ResponseWriter, r *http.Request, user *userRequest) error {
	seen, failure := readIfMatch(r.Header)
	if failure != nil {
		return writeError(w, r, failure)
	}
	body, failure := readObject(r, false)
	if failure != nil {
		return writeError(w, r, failure)
	}
	statement, failure := parseStatement(body, user.visitor.profile)
	if failure != nil {
		return writeError(w, r, failure)
	}
	p := h.allowed[user.session.Identity.Program]
	replaced := ""
	kept, failure := user.runtime.changeProfile(r.Context(), p, author(user.session), func(p *profile.Profile) error {
		replaced = ""
		if !seen.matches(p.Version) {
			return errVersionConflict
		}
		before := p.Stated.AvatarURL
		statement.Apply(&p.Stated)
		if p.Stated.AvatarURL != before {
			replaced, p.Avatar = p.Avatar, ""
		}
		return nil
	})
	if failure != nil {
		return writeError(w, r, failure)
	}
	user.runtime.dropAvatar(r.Context(), p, replaced)
	return writeProfile(w, user, kept)
}

// parseStatement reads what a user states about himself. The address of the
// picture that he uploaded may come back, whatever its form.
func parseStatement(body []byte, known *profile.Profile) (profile.Statement, *Error) {
	if known != nil && known.Avatar != "" {
		var members map[string]json.RawMessage
		var address string
		if json.Unmarshal(body, &members) == nil && json.Unmarshal(members["avatar_url"], &address) == nil && address == known.Stated.AvatarURL {
			delete(members, "avatar_url")
			if without, err := json.Marshal(members); err == nil {
				body = without
			}
		}
	}
	statement, err := profile.ParseStatement(body)
	if err == nil {
		return statement, nil
	}
	failure := *errInvalidRequest
	if field, ok := errors.AsType[*profile.FieldError](err); ok {
		failure.Description = field.Error()
	}
	return nil, &failure
}

// condition is an If-Match header.
type condition struct {
	given, any bool
	version    int64
}

// matches reports whether a profile of this version may be changed.
func (c condition) matches(version int64) bool {
	return !c.given || (c.any && version > 0) || (!c.any && c.version == version)
}

// readIfMatch reads the header If-Match (RFC 9110, section 13.1.1), of which a
// version in quotes and "*" are understood.
func readIfMatch(header http.Header) (condition, *Error) {
	lines := header.Values("If-Match")
	switch {
	case len(lines) == 0:
		return condition{}, nil
	case len(lines) > 1:
		return condition{}, errInvalidRequest
	case lines[0] == "*":
		return condition{given: true, any: true}, nil
	}
	text, opened := strings.CutPrefix(lines[0], `"`)
	text, closed := strings.CutSuffix(text, `"`)
	version, err := strconv.ParseUint(text, 10, 63)
	if err != nil || !opened || !closed {
		return condition{}, errInvalidRequest
	}
	return condition{given: true, version: int64(version)}, nil
}

// author is the user of a session, who changes his profile.
func author(s *session.Session) profile.Author {
	return profile.Author{Subject: s.Subject, Identity: s.Identity, SessionID: s.ID}
}

// changeProfile changes the profile of a user. change may be called more than
// once; an *Error that it returns is what the client is told.
func (rt *runtime) changeProfile(ctx context.Context, p *program, a profile.Author, change func(*profile.Profile) error) (*profile.Profile, *Error) {
	kept, err := rt.profiles.Change(ctx, a, change)
	var refused *Error
	switch {
	case errors.As(err, &refused):
		return nil, refused
	case errors.Is(err, profile.ErrErased):
		return nil, errSessionRevoked
	case err != nil:
		return nil, p.storeFailure(err)
	}
	if kept.Avatar != "" { // it is kept as long as the profile
		if err := rt.avatars.Refresh(ctx, kept.Avatar); err != nil {
			p.logger.Warn("picture is not refreshed", zap.Error(err))
		}
	}
	return kept, nil
}

// remember keeps what data of the platform's says of a user, if it is of a kind
// that is kept.
func (rt *runtime) remember(ctx context.Context, p *program, a profile.Author, data *opened) *Error {
	number, failure := data.phone()
	if failure == nil {
		_, failure = rt.changeProfile(ctx, p, a, func(p *profile.Profile) error {
			setPhone(p, number)
			return nil
		})
		return failure
	}
	info, failure := data.userInfo()
	if failure != nil {
		return nil // steps, groups and the like
	}
	_, failure = rt.changeProfile(ctx, p, a, func(p *profile.Profile) error {
		setVerified(p, info)
		return nil
	})
	return failure
}

// noProfile is the profile of all users of whom nothing is known: there may be
// millions of them in memory.
var noProfile = new(profile.Profile)

// loadProfile returns the profile of a user. It is nil where it cannot be read
// because it is damaged: then the user is served without.
func (h *Handler) loadProfile(ctx context.Context, rt *runtime, subject string) (*profile.Profile, error) {
	p, err := rt.profiles.Get(ctx, subject)
	if errors.Is(err, profile.ErrDamaged) {
		return nil, nil // the manager has told the operator
	}
	if err != nil {
		return nil, err
	}
	if p.Version == 0 {
		return noProfile, nil
	}
	if rt.profiles.Due(p) {
		rt.refreshProfile(h.logger, subject, p)
	}
	return p, nil
}
