// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"strings"

	"github.com/minigate/minigate/module/provider"
)

// homeCountry is the country code of numbers that are told without one: those of
// mainland China.
const homeCountry = "86"

// PhoneNumber implements provider.PhoneData. An account may have no telephone
// number: the platform then gives an empty one, which is provider.ErrData.
//
// https://opendocs.alipay.com/mini/api/getphonenumber
func (p *Provider) PhoneNumber(plain []byte) (provider.PhoneNumber, error) {
	fields, err := decodeObject(plain)
	if err != nil {
		return provider.PhoneNumber{}, provider.ErrData
	}
	mobile, err := fields.Text("mobile")
	if err != nil {
		return provider.PhoneNumber{}, provider.ErrData
	}
	number, ok := parsePhone(mobile)
	if !ok {
		return provider.PhoneNumber{}, provider.ErrData
	}
	return number, nil
}

// parsePhone reads a telephone number as the platform writes it: one of mainland
// China by itself, any other as 1-1234432112, the country code first. One that is
// told in part, as 138****8000, is none.
//
// https://opendocs.alipay.com/mini/api/getphonenumber
func parsePhone(text string) (number provider.PhoneNumber, ok bool) {
	number = provider.PhoneNumber{Number: text, CountryCode: homeCountry}
	if country, rest, found := strings.Cut(text, "-"); found {
		number = provider.PhoneNumber{Number: rest, CountryCode: country}
	}
	if !isDigits(number.Number, 4, 15) || !isDigits(number.CountryCode, 1, 4) || number.CountryCode[0] == '0' {
		return provider.PhoneNumber{}, false
	}
	return number, true
}

// isDigits reports whether s has fewest to most decimal digits of ASCII.
func isDigits(s string, fewest, most int) bool {
	if len(s) < fewest || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
