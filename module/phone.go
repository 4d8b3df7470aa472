// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"net/http"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/profile"
	"github.com/minigate/minigate/module/provider"
)

// phoneAnswer is the body of the answer of POST /phone.
type phoneAnswer struct {
	PhoneNumber string `json:"phone_number"`
	CountryCode string `json:"country_code"`
	E164        string `json:"e164"`
}

// servePhone answers POST /phone: it has the platform prove the user's telephone
// number, by a code or by data of the platform's, and keeps it.
func (h *Handler) servePhone(w http.ResponseWriter, r *http.Request, user *userRequest) error {
	code, d, failure := readData(r)
	if failure != nil {
		return writeError(w, r, failure)
	}
	o := h.opener(user)
	var number provider.PhoneNumber
	switch {
	case code != "" && d.isFor(o.p.abilities()):
		failure = errInvalidRequest
	case code != "":
		number, failure = o.phoneByCode(r.Context(), code, clientAddress(r))
	default:
		var data *opened
		if data, failure = o.open(r.Context(), d); failure == nil {
			number, failure = data.phone()
		}
	}
	if failure != nil {
		return writeError(w, r, failure)
	}
	kept, failure := user.runtime.changeProfile(r.Context(), o.p, author(user.session), func(p *profile.Profile) error {
		setPhone(p, number)
		return nil
	})
	if failure != nil {
		return writeError(w, r, failure)
	}
	return writeJSON(w, http.StatusOK, newPhoneAnswer(&kept.Verified))
}

func newPhoneAnswer(info *identity.UserInfo) phoneAnswer {
	return phoneAnswer{info.PhoneNumber, info.CountryCode, info.E164()}
}

// setPhone makes number the verified telephone number of a profile.
func setPhone(p *profile.Profile, number provider.PhoneNumber) {
	p.Verified.PhoneNumber, p.Verified.CountryCode = number.Number, number.CountryCode
	p.PhoneVerifiedAt = time.Now()
}

// phoneByCode exchanges a code for the telephone number. Like any code it is
// spent by that, and mini-programs send requests twice.
func (o *opener) phoneByCode(ctx context.Context, code, client string) (provider.PhoneNumber, *Error) {
	platform, ok := o.p.abilities().(provider.PhoneCodes)
	if !ok {
		return provider.PhoneNumber{}, errInvalidRequest
	}
	number, err := once(ctx, o.rt, forPhone, o.of(), code, o.client(client), func(ctx context.Context) (provider.PhoneNumber, error) {
		return withAppToken(ctx, o.rt, o.p, func(ctx context.Context, token string) (provider.PhoneNumber, error) {
			return platform.PhoneByCode(ctx, token, code, o.user.OpenID)
		})
	})
	if err != nil {
		return provider.PhoneNumber{}, o.p.callFailure(err)
	}
	return number, nil
}

// of names the program and the user of a code that belongs to a signed-in user:
// whoever else got hold of it has no part in the outcome.
func (o *opener) of() string { return o.p.appID + " " + o.session.Subject }

// client names who brings a code that belongs to a signed-in user.
func (o *opener) client(address string) string { return o.session.ID + " " + address }
