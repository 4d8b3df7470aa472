// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// longestText is the most bytes of a platform's text that go into an error.
	longestText = 256

	// shortestSecret is the fewest bytes of a value that Clean looks for. A
	// shorter one is found in any text, and is no secret.
	shortestSecret = 6

	redacted = "[redacted]"
)

// NoAnswerError is the cause of an Error of reason Unavailable that Client returns.
type NoAnswerError struct {
	// Sent says whether the platform may have seen the request. It is false
	// only if not one byte of it was written.
	Sent bool
	// Err says what happened, for each base URL that was tried.
	Err error
}

// Error implements error.
func (e *NoAnswerError) Error() string { return "no answer from " + e.Err.Error() }

// Unwrap returns what happened.
func (e *NoAnswerError) Unwrap() error { return e.Err }

// MayHaveSeen reports whether the platform may have seen the request of a call
// that returned err, so that a code in it must be taken as spent. An error that
// does not come from Client is taken to mean yes.
func MayHaveSeen(err error) bool {
	var none *NoAnswerError
	return !errors.As(err, &none) || none.Sent
}

// Clean makes a text that a platform chose fit for an error: characters that do
// not print are removed, secrets that it echoes are blacked out, whether plain or
// encoded for a URL, and the rest is cut to 256 bytes. Secrets shorter than
// 6 bytes are not looked for.
func Clean(text string, secrets ...string) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	for _, secret := range secrets {
		if len(secret) < shortestSecret {
			continue
		}
		text = strings.ReplaceAll(text, secret, redacted)
		for _, encode := range []func(string) string{url.QueryEscape, url.PathEscape} {
			if encoded := encode(secret); encoded != secret {
				text = strings.ReplaceAll(text, encoded, redacted)
			}
		}
	}
	if len(text) <= longestText {
		return text
	}
	end := longestText - len("…")
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// fault makes an Error of reason PlatformFault.
func fault(err error) *Error { return &Error{Reason: PlatformFault, Err: err} }

// noAnswer makes an Error of reason Unavailable.
func noAnswer(sent bool, err error) *Error {
	return &Error{Reason: Unavailable, Err: &NoAnswerError{Sent: sent, Err: err}}
}

// join adds what happened at a host to what happened at those before it.
func join(earlier error, host string, err error) error {
	if earlier == nil {
		return fmt.Errorf("%s: %w", host, err)
	}
	return fmt.Errorf("%w; %s: %w", earlier, host, err)
}

// Interface guard
var _ error = (*NoAnswerError)(nil)
