// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"

	"github.com/minigate/minigate/module/identity"
)

// UserInfo is what a platform tells of a user beyond his ids, in the gateway's
// own terms. A provider leaves out what the platform gives in the place of the
// truth, such as the one nickname and grey picture that all users have.
type UserInfo = identity.UserInfo

// PhoneNumber is a telephone number.
type PhoneNumber struct {
	// Number has no country code: 4 to 15 digits.
	Number string
	// CountryCode is 1 to 4 digits without a plus.
	CountryCode string
}

// UserInfoCodes is an ability of providers whose platform tells user
// information for a code that the user's consent gave to the mini-program.
type UserInfoCodes interface {
	// UserInfoByCode trades such a code for a grant, as Exchange does, and for
	// what the user consented to be told. The same rules hold: a code is sent
	// once. A missing consent is an *Error of reason ConsentMissing.
	//
	// The caller compares the grant with the user who brought the code: the code
	// may be another user's.
	UserInfoByCode(ctx context.Context, code string) (Grant, UserInfo, error)
}

// PhoneCodes is an ability of providers whose platform tells a telephone number
// for a code that the user's consent gave to the mini-program.
type PhoneCodes interface {
	AppTokens

	// PhoneByCode trades such a code for the number, by one call with the app
	// token. The platform is told the openid of the user who brought the code,
	// and refuses the code of another one. A code is sent once.
	PhoneByCode(ctx context.Context, appToken, code, openID string) (PhoneNumber, error)
}
