// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"cmp"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/session"
)

// Error is a failure that a client is told about: a word for programs, a
// sentence for people. Neither depends on anything but the kind of failure.
type Error struct {
	// Word is the error code of the answer, such as "session_expired".
	Word string
	// Status is the HTTP status of the answer.
	Status int
	// Description says in one sentence what the client can do.
	Description string
	// RetryAfter is how long the client should wait; zero if it need not.
	RetryAfter time.Duration
}

// Error implements error.
func (e *Error) Error() string { return e.Word + ": " + e.Description }

func newError(status int, word, description string) *Error {
	return &Error{Word: word, Status: status, Description: description}
}

// The failures that a client is told about.
var (
	errInvalidRequest   = newError(http.StatusBadRequest, "invalid_request", "the request is not what this endpoint takes")
	errAmbiguous        = newError(http.StatusBadRequest, "ambiguous_credentials", "the request carries more than one credential")
	errAmbiguousPath    = newError(http.StatusBadRequest, "ambiguous_path", "the path can be read in more than one way; send it without dot segments, empty segments, backslashes, semicolons or encoded delimiters")
	errUnknownProgram   = newError(http.StatusBadRequest, "unknown_program", "the program is not configured here, or was not named and cannot be told from the request")
	errSessionMissing   = newError(http.StatusUnauthorized, "session_missing", "sign in: the request carries no session")
	errSessionInvalid   = newError(http.StatusUnauthorized, "session_invalid", "sign in again: the session token is not valid")
	errSessionExpired   = newError(http.StatusUnauthorized, "session_expired", "sign in again: the session has expired")
	errSessionRevoked   = newError(http.StatusUnauthorized, "session_revoked", "sign in again: the session was ended")
	errCodeInvalid      = newError(http.StatusUnauthorized, "code_invalid", "get a new login code: this one is unknown, expired or of another program")
	errCodeUsed         = newError(http.StatusUnauthorized, "code_used", "get a new login code: this one was used before")
	errProgramForbidden = newError(http.StatusForbidden, "program_not_allowed", "users of this program are not served here")
	errUserBlocked      = newError(http.StatusForbidden, "user_blocked", "the platform refuses this user")
	errUnionIDMissing   = newError(http.StatusForbidden, "unionid_missing", "the platform did not tell the unionid that this site needs")
	errNotFound         = newError(http.StatusNotFound, "not_found", "there is no such endpoint")
	errMethod           = newError(http.StatusMethodNotAllowed, "method_not_allowed", "the method is not allowed here")
	errKeyStale         = newError(http.StatusConflict, "session_key_stale", "sign in again, then obtain the data again: what you have cannot be opened any more")
	errConsentRequired  = newError(http.StatusConflict, "consent_required", "the user did not agree to this, or took it back; ask again")
	errVersionConflict  = newError(http.StatusConflict, "version_conflict", "the profile has changed since; read it again")
	errTooLarge         = newError(http.StatusRequestEntityTooLarge, "request_too_large", "the request body is larger than 64 KiB")
	errMediaType        = newError(http.StatusUnsupportedMediaType, "unsupported_media_type", "the request body must be application/json")
	errDataInvalid      = newError(http.StatusUnprocessableEntity, "data_invalid", "the data is not what the platform gave to this user")
	errRateLimited      = newError(http.StatusTooManyRequests, "rate_limited", "too many requests, try again later")
	errMisconfigured    = newError(http.StatusInternalServerError, "program_misconfigured", "the program is not set up rightly; its operator has been told")
	errPlatform         = newError(http.StatusBadGateway, "platform_error", "the platform gave an answer that cannot be used")
	errPlatformDown     = newError(http.StatusServiceUnavailable, "platform_unavailable", "the platform cannot be reached or is busy; get a new login code and try again")
	errStore            = newError(http.StatusServiceUnavailable, "store_unavailable", "sessions cannot be read or stored right now, try again")
)

// defaultRetryAfter is what a client is told to wait where nothing better is
// known.
const defaultRetryAfter = time.Second

// retryAfter returns a copy of e that tells the client to wait.
func (e *Error) retryAfter(wait time.Duration) *Error {
	c := *e
	c.RetryAfter = cmp.Or(wait, defaultRetryAfter)
	return &c
}

// sessionError translates an error of session.Manager. operational reports
// whether it is one the operator should hear of.
func sessionError(err error) (failure *Error, operational bool) {
	switch {
	case errors.Is(err, session.ErrInvalid):
		return errSessionInvalid, false
	case errors.Is(err, session.ErrExpired):
		return errSessionExpired, false
	case errors.Is(err, session.ErrRevoked):
		return errSessionRevoked, false
	default:
		return errStore.retryAfter(0), true
	}
}

// platformError translates an error of a provider.
func platformError(err error) *Error {
	var e *provider.Error
	if !errors.As(err, &e) {
		return errPlatform
	}
	switch e.Reason {
	case provider.CodeMalformed:
		return errInvalidRequest
	case provider.CodeInvalid:
		return errCodeInvalid
	case provider.CodeUsed:
		return errCodeUsed
	case provider.UserBlocked:
		return errUserBlocked
	case provider.RateLimited:
		return errRateLimited.retryAfter(e.RetryAfter)
	case provider.Misconfigured:
		return errMisconfigured
	case provider.KeyStale:
		return errKeyStale
	case provider.ConsentMissing:
		return errConsentRequired
	case provider.Unavailable, provider.TokenRejected:
		return errPlatformDown.retryAfter(e.RetryAfter)
	default:
		return errPlatform
	}
}

// errorBody is the JSON of an error answer.
type errorBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
	RequestID   string `json:"request_id"`
}

// writeError writes the JSON answer for e.
func writeError(w http.ResponseWriter, r *http.Request, e *Error) error {
	setErrorHeader(w.Header(), e)
	return writeJSON(w, e.Status, errorBody{e.Word, e.Description, requestID(r)})
}

// setErrorHeader sets the header fields that belong to e, whoever writes the
// body.
func setErrorHeader(h http.Header, e *Error) {
	h.Set("Cache-Control", "no-store")
	if e.Status == http.StatusUnauthorized {
		h.Set("Www-Authenticate", `Bearer error="`+e.Word+`"`)
	}
	if e.RetryAfter > 0 {
		seconds := int((e.RetryAfter + time.Second - 1) / time.Second)
		h.Set("Retry-After", strconv.Itoa(seconds))
	}
}

// requestID returns the id by which the operator finds the request in the log.
func requestID(r *http.Request) string {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		id, _ := repl.GetString("http.request.uuid")
		return id
	}
	return ""
}
