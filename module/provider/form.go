// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// longestID is the most bytes of an id by which a platform names a user.
	longestID = 128

	// longestLine is the most characters of what a platform tells of a user.
	longestLine = 128
)

// IsWord reports whether s has 1 to longest letters, digits, _ and - of ASCII, as
// codes, tokens and app ids have.
func IsWord(s string, longest int) bool {
	if s == "" || len(s) > longest {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// IsID reports whether s can name a user.
func IsID(s string) bool {
	return s != "" && len(s) <= longestID && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Line returns a field that is a line of text fit to be shown, of at most 128
// characters, and nothing in the place of one that plays tricks on those who read
// it: with control characters, or such as make a text run in another direction
// than it is written in (Unicode Standard Annex #9, section 2).
func (f Fields) Line(name string) string {
	text, err := f.Text(name)
	if err != nil || utf8.RuneCountInString(text) > longestLine || strings.ContainsFunc(text, isTrick) {
		return ""
	}
	return text
}

func isTrick(r rune) bool {
	return unicode.IsControl(r) || '\u202a' <= r && r <= '\u202e' || '\u2066' <= r && r <= '\u2069'
}
