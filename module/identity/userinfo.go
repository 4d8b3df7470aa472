// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package identity

// UserInfo is what is known of a user beyond his ids. Any field may be empty,
// which means unknown. Where it comes from, and so what it is worth, is for its
// owner to say.
type UserInfo struct {
	// Nickname is how the user wants to be called.
	Nickname string `json:"nickname,omitempty"`
	// AvatarURL is the https address of his picture.
	AvatarURL string `json:"avatar_url,omitempty"`
	// Gender is "male" or "female".
	Gender string `json:"gender,omitempty"`
	// Country, Province and City are names or codes, as the source has them.
	Country  string `json:"country,omitempty"`
	Province string `json:"province,omitempty"`
	City     string `json:"city,omitempty"`
	// Language is a tag such as zh_CN.
	Language string `json:"language,omitempty"`
	// Email is an e-mail address.
	Email string `json:"email,omitempty"`
	// PhoneNumber is a telephone number without its country code: digits.
	PhoneNumber string `json:"phone_number,omitempty"`
	// CountryCode is the country code of PhoneNumber: digits, without a plus.
	CountryCode string `json:"country_code,omitempty"`
}

// UserInfoFields are the names of the fields of UserInfo, as in its JSON.
var UserInfoFields = []string{
	"nickname", "avatar_url", "gender", "country", "province", "city", "language", "email", "phone_number", "country_code",
}

// Field returns the field called name in UserInfo's JSON, nil if there is none.
func (u *UserInfo) Field(name string) *string {
	switch name {
	case "nickname":
		return &u.Nickname
	case "avatar_url":
		return &u.AvatarURL
	case "gender":
		return &u.Gender
	case "country":
		return &u.Country
	case "province":
		return &u.Province
	case "city":
		return &u.City
	case "language":
		return &u.Language
	case "email":
		return &u.Email
	case "phone_number":
		return &u.PhoneNumber
	case "country_code":
		return &u.CountryCode
	default:
		return nil
	}
}

// orEmpty returns u, or user information of which nothing is known for nil.
func (u *UserInfo) orEmpty() *UserInfo {
	if u == nil {
		return new(UserInfo)
	}
	return u
}

// E164 returns the telephone number in the international form of ITU-T E.164,
// such as +8613580006666; empty if it is not known.
func (u *UserInfo) E164() string {
	if u.PhoneNumber == "" || u.CountryCode == "" {
		return ""
	}
	return "+" + u.CountryCode + u.PhoneNumber
}

// homeCountry is the country code of mainland China, whose numbers are written
// without it.
const homeCountry = "86"

// Phone returns the telephone number as the platforms write it: a number of
// mainland China by itself, any other in its international form, so that no two
// countries' numbers look the same.
func (u *UserInfo) Phone() string {
	if u.CountryCode == homeCountry {
		return u.PhoneNumber
	}
	return u.E164()
}
