// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"net/mail"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of fields, in characters for names and in bytes for what is ASCII.
const (
	maxName     = 64
	maxURL      = 1024
	maxLanguage = 35 // RFC 5646 §4.4.1
	maxEmail    = 254
	maxLocal    = 64
	maxLabel    = 63
)

// Rules of fields.
const (
	ruleText     = "must be valid Unicode text"
	ruleControl  = "must not have control characters or marks that change the direction of text"
	ruleEdges    = "must not begin or end with white space"
	ruleVisible  = "must have a character that can be seen"
	ruleName     = "must have 1 to 64 characters"
	ruleURL      = "must be an https address of 1024 characters at most"
	ruleGender   = `must be "male" or "female"`
	ruleLanguage = "must be a language tag such as zh_CN"
	ruleEmail    = "must be an e-mail address"
	rulePhone    = "must be 4 to 15 digits without the country code"
	ruleCode     = "must be a country code of 1 to 4 digits without a plus"
)

var (
	languageTag  = regexp.MustCompile(`^[A-Za-z]{2,8}([_-][A-Za-z0-9]{1,8})*$`)
	phoneNumber  = regexp.MustCompile(`^[0-9]{4,15}$`)
	countryCode  = regexp.MustCompile(`^[1-9][0-9]{0,3}$`)
	urlHost      = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?(:[0-9]{1,5})?$`)
	urlForbidden = "\"<>\\^`{|}" // not allowed by RFC 3986, and a way out of an HTML attribute
)

// broken returns the rule that value, which is not empty, breaks as the field
// called name; empty if it breaks none.
func broken(name, value string) string {
	var length, form string // checked first and last, so that the message helps most
	switch name {
	case "nickname", "country", "province", "city":
		if utf8.RuneCountInString(value) > maxName {
			length = ruleName
		}
	case "avatar_url":
		form = ifNot(isHTTPS(value), ruleURL)
	case "gender":
		form = ifNot(value == "male" || value == "female", ruleGender)
	case "language":
		form = ifNot(len(value) <= maxLanguage && languageTag.MatchString(value), ruleLanguage)
	case "email":
		form = ifNot(isEmail(value), ruleEmail)
	case "phone_number":
		form = ifNot(phoneNumber.MatchString(value), rulePhone)
	case "country_code":
		form = ifNot(countryCode.MatchString(value), ruleCode)
	default:
		return ruleUnknown
	}
	if length != "" {
		return length
	}
	if rule := brokenText(value); rule != "" {
		return rule
	}
	return form
}

// ifNot returns rule unless ok.
func ifNot(ok bool, rule string) string {
	if ok {
		return ""
	}
	return rule
}

// brokenText returns the rule of all fields that value breaks; empty if none.
func brokenText(value string) string {
	if !utf8.ValidString(value) {
		return ruleText
	}
	visible := false
	for _, r := range value {
		switch {
		case r == utf8.RuneError, unicode.Is(unicode.Noncharacter_Code_Point, r):
			return ruleText
		case unicode.IsControl(r), r == '\u2028', r == '\u2029',
			'\u202a' <= r && r <= '\u202e', '\u2066' <= r && r <= '\u2069':
			return ruleControl
		}
		visible = visible || !unicode.IsSpace(r) && !unicode.Is(unicode.Cf, r)
	}
	begin, _ := utf8.DecodeRuneInString(value)
	end, _ := utf8.DecodeLastRuneInString(value)
	switch {
	case unicode.IsSpace(begin) || unicode.IsSpace(end):
		return ruleEdges
	case !visible:
		return ruleVisible
	default:
		return ""
	}
}

// isHTTPS reports whether value is an absolute https address that every reader
// understands in the same way.
func isHTTPS(value string) bool {
	if len(value) > maxURL || strings.ContainsAny(value, urlForbidden) {
		return false
	}
	for i := range len(value) {
		if value[i] <= ' ' || value[i] > '~' {
			return false
		}
	}
	u, err := url.Parse(value)
	return err == nil && u.Scheme == "https" && u.Opaque == "" && u.User == nil &&
		urlHost.MatchString(u.Host) && u.String() == value
}

// isEmail reports whether value is an e-mail address and nothing else: no
// display name, no comment, no quotes, and a domain with a dot.
func isEmail(value string) bool {
	if len(value) > maxEmail {
		return false
	}
	address, err := mail.ParseAddress(value)
	if err != nil || address.Name != "" || address.Address != value {
		return false
	}
	at := strings.LastIndexByte(value, '@')
	local, domain := value[:at], value[at+1:]
	if len(local) > maxLocal || !strings.Contains(domain, ".") {
		return false
	}
	for _, r := range value {
		if unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) {
			return false
		}
	}
	for label := range strings.SplitSeq(domain, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}

// isLabel reports whether s is one part of a domain, in any script.
func isLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, r := range s {
		if r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) {
			return false
		}
	}
	return true
}
