// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"net/http"
	"strings"
)

// credential is what a request shows to say who sent it. At most one of token
// and code is set.
type credential struct {
	// token is a session token.
	token string
	// code is a login code, of the program called program if that is known.
	code, program string
	// scheme is the Authorization scheme, in lower case, if there is one.
	scheme string
	// wafer is the legacy protocol's form, if the request has that.
	wafer *waferCredential
}

// Authorization schemes of the gateway.
const (
	schemeBearer      = "bearer"
	schemeMiniProgram = "miniprogram"
)

// isCode reports whether the request asks to be signed in.
func (c *credential) isCode() bool {
	return c.scheme == schemeMiniProgram || (c.wafer != nil && c.wafer.login)
}

// readCredential returns the credential of r, which it leaves in place. Two
// different ones are refused: an upstream, a log or a cache might go by the
// other.
func (h *Handler) readCredential(r *http.Request) (credential, *Error) {
	var c credential
	if lines := r.Header["Authorization"]; len(lines) > 1 {
		return c, errAmbiguous
	} else if len(lines) == 1 {
		if failure := c.readAuthorization(lines[0]); failure != nil {
			return c, failure
		}
	}
	if h.wafer {
		if failure := c.readWafer(r.Header); failure != nil {
			return c, failure
		}
	}
	return c, nil
}

// readAuthorization reads the value of an Authorization header. Schemes that
// are not the gateway's concern only the upstream.
func (c *credential) readAuthorization(value string) *Error {
	scheme, rest, _ := strings.Cut(value, " ")
	switch {
	case strings.EqualFold(scheme, schemeBearer):
		c.scheme = schemeBearer
		c.token = strings.TrimSpace(rest)
	case strings.EqualFold(scheme, schemeMiniProgram):
		c.scheme = schemeMiniProgram
		params, ok := parseAuthParams(rest)
		if !ok || params["code"] == "" {
			return errInvalidRequest
		}
		c.code, c.program = params["code"], params["program"]
	}
	return nil
}

// removeFrom takes the gateway's credentials off r, so that no upstream sees
// them.
func (c *credential) removeFrom(r *http.Request) {
	if c.scheme != "" {
		delete(r.Header, "Authorization")
	}
	if c.wafer != nil {
		removeWafer(r.Header)
	}
}

// parseAuthParams parses the parameters of a credential: name=value pairs
// divided by commas, where a value is a token or a quoted string (RFC 9110,
// sections 11.2 and 5.6.4). Names are returned in lower case; one that stands
// twice is refused.
func parseAuthParams(s string) (params map[string]string, ok bool) {
	params = make(map[string]string)
	for s = trimSpace(s); s != ""; s = trimSpace(s) {
		if s[0] == ',' {
			s = s[1:]
			continue
		}
		name, rest := cutToken(s)
		rest = trimSpace(rest)
		if name == "" || !strings.HasPrefix(rest, "=") {
			return nil, false
		}
		value, rest, ok := cutValue(trimSpace(rest[1:]))
		if !ok {
			return nil, false
		}
		name = strings.ToLower(name)
		if _, twice := params[name]; twice {
			return nil, false
		}
		params[name] = value
		if s = trimSpace(rest); s != "" && s[0] != ',' {
			return nil, false
		}
	}
	return params, true
}

func trimSpace(s string) string { return strings.Trim(s, " \t") }

// cutToken splits s after the token that it begins with.
func cutToken(s string) (token, rest string) {
	n := 0
	for n < len(s) && isTokenByte(s[n]) {
		n++
	}
	return s[:n], s[n:]
}

// cutValue splits s after the token or quoted string that it begins with.
func cutValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		value, rest = cutToken(s)
		return value, rest, value != ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

func isTokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	default:
		return c < 0x7f && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
	}
}
