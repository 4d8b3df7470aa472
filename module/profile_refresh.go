// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/profile"
	"github.com/minigate/minigate/module/provider"
)

// serveProfileRefresh answers POST /profile/refresh: it has the platform tell
// about the user, by a code or by data of the platform's, and keeps that.
func (h *Handler) serveProfileRefresh(w http.ResponseWriter, r *http.Request, user *userRequest) error {
	code, d, failure := readData(r)
	if failure != nil {
		return writeError(w, r, failure)
	}
	o := h.opener(user)
	var info identity.UserInfo
	switch {
	case code != "" && d.isFor(o.p.abilities()):
		failure = errInvalidRequest
	case code != "":
		info, failure = o.userInfoByCode(r.Context(), code, clientAddress(r))
	default:
		var data *opened
		if data, failure = o.open(r.Context(), d); failure == nil {
			info, failure = data.userInfo()
		}
	}
	if failure != nil {
		return writeError(w, r, failure)
	}
	kept, failure := user.runtime.changeProfile(r.Context(), o.p, author(user.session), func(p *profile.Profile) error {
		setVerified(p, info)
		return nil
	})
	if failure != nil {
		return writeError(w, r, failure)
	}
	return writeProfile(w, user, kept)
}

// setVerified puts what the platform tells now into a profile. What it does not
// tell any more stays as it told it last: since 2022 it tells less and less.
func setVerified(p *profile.Profile, info identity.UserInfo) {
	info = profile.Sane(info)
	for _, name := range identity.UserInfoFields {
		if value := *info.Field(name); value != "" {
			*p.Verified.Field(name) = value
		}
	}
	p.VerifiedAt = time.Now()
	if info.PhoneNumber != "" {
		p.PhoneVerifiedAt = p.VerifiedAt
	}
}

// toldInfo is what a platform told for a code.
type toldInfo struct {
	Grant provider.Grant
	Info  identity.UserInfo
}

// userInfoByCode exchanges a code for user information, which must be that of
// the user who is signed in.
func (o *opener) userInfoByCode(ctx context.Context, code, client string) (identity.UserInfo, *Error) {
	if _, ok := o.p.abilities().(provider.UserInfoCodes); !ok {
		return identity.UserInfo{}, errInvalidRequest
	}
	told, err := once(ctx, o.rt, forProfile, o.of(), code, o.client(client), func(ctx context.Context) (toldInfo, error) {
		return withProvider(o.p, func(from provider.Provider) (toldInfo, error) {
			platform, ok := from.(provider.UserInfoCodes)
			if !ok {
				return toldInfo{}, errInvalidRequest
			}
			return call(ctx, o.p, func(ctx context.Context) (told toldInfo, err error) {
				told.Grant, told.Info, err = platform.UserInfoByCode(ctx, code)
				return told, err
			})
		})
	})
	if err != nil {
		return identity.UserInfo{}, o.p.callFailure(err)
	}
	same, err := o.rt.directory.isUser(ctx, o.user, told.Grant)
	switch {
	case err != nil:
		return identity.UserInfo{}, o.p.storeFailure(err)
	case !same:
		o.p.logger.Warn("user information of another user was refused", zap.String("user", o.rt.keys.Digest(o.user.Subject())))
		return identity.UserInfo{}, errDataInvalid
	}
	return told.Info, nil
}
