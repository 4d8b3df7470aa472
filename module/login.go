// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/session"
)

// loginRequest is the body of POST /login, which may have open data, too.
// Members that are not known are for later versions, and are passed over.
type loginRequest struct {
	Program string `json:"program"`
	Code    string `json:"code"`
}

// loginAnswer is the body of the answer, after the token response of OAuth 2.0
// (RFC 6749, section 5.1).
type loginAnswer struct {
	AccessToken string     `json:"access_token"`
	TokenType   string     `json:"token_type"`
	ExpiresIn   int64      `json:"expires_in"`
	User        userAnswer `json:"user"`
	// Data is what was inside of the open data that came along.
	Data json.RawMessage `json:"data,omitempty"`
}

// userAnswer tells a client who it is.
type userAnswer struct {
	ID       string `json:"id"`
	Platform string `json:"platform"`
	Program  string `json:"program"`
	OpenID   string `json:"openid,omitempty"`
	UnionID  string `json:"unionid,omitempty"`
}

func newUserAnswer(c *identity.Claims) userAnswer {
	return userAnswer{ID: c.ID, Platform: c.Platform, Program: c.Program, OpenID: c.OpenID, UnionID: c.UnionID}
}

// serveLogin exchanges a login code for a session. A valid session that the
// request shows is replaced by the new one if it is the same user's; it is
// never carried over to another.
func (h *Handler) serveLogin(w http.ResponseWriter, r *http.Request, cred *credential) error {
	if cred.isCode() {
		return writeError(w, r, errAmbiguous)
	}
	raw, failure := readObject(r, false)
	if failure != nil {
		return writeError(w, r, failure)
	}
	var body loginRequest
	if json.Unmarshal(raw, &body) != nil || body.Code == "" {
		return writeError(w, r, errInvalidRequest)
	}
	data, failure := readOpenData(raw)
	if failure != nil {
		return writeError(w, r, failure)
	}
	in := signIn{code: body.Code, login: session.Login{Replaces: h.shownSession(r, cred)}, data: data}
	result, rt, failure := h.signIn(r, body.Program, in)
	if failure != nil {
		return writeError(w, r, failure)
	}
	v, failure := h.visitor(r, rt, result.session)
	if failure != nil {
		return writeError(w, r, failure)
	}
	end, _ := rt.sessions.Expiry(result.session)
	answer := loginAnswer{
		AccessToken: result.token,
		TokenType:   "Bearer",
		ExpiresIn:   secondsUntil(end),
		User:        newUserAnswer(v.claims),
	}
	if result.data != nil {
		answer.Data = result.data.plain
	}
	return writeJSON(w, http.StatusOK, answer)
}

// shownSession returns the session that cred shows, or nil if it shows none
// that is valid.
func (h *Handler) shownSession(r *http.Request, cred *credential) *session.Session {
	if cred.token == "" {
		return nil
	}
	rt, err := h.app.runtime()
	if err != nil {
		return nil
	}
	s, _, err := rt.sessions.Validate(r.Context(), cred.token)
	if err != nil {
		return nil
	}
	return s
}

// signIn signs in the user of the program with the given app id, within the
// site's limits. It completes in.
func (h *Handler) signIn(r *http.Request, appID string, in signIn) (signedIn, *runtime, *Error) {
	p, failure := h.program(r, appID)
	if failure != nil {
		return signedIn{}, nil, failure
	}
	in.client, in.serves = clientAddress(r), h.serves
	if wait, ok := h.limiter.allow(in.client); !ok {
		p.metrics.login(errRateLimited.Word)
		return signedIn{}, nil, errRateLimited.retryAfter(wait)
	}
	rt, err := h.app.runtime()
	if err != nil {
		return signedIn{}, nil, h.storeFailure(r, err)
	}
	result, failure := h.app.signIn(r.Context(), rt, p, in)
	return result, rt, failure
}

// serves says why the site does not serve a user who has a valid login code, or
// nil if it does: a session that would be of no use here must not take the place
// of one that is.
func (h *Handler) serves(user identity.Identity) *Error {
	if h.UserID == userIDUnionID && user.UnionID == "" {
		return errUnionIDMissing
	}
	return nil
}

// program returns the program with the given app id. Where the client does not
// name one, it is the only one of the site, or the one that the Referer hints
// at, which a client can forge: it only chooses among those that are allowed,
// and the platform refuses a code of another program.
func (h *Handler) program(r *http.Request, appID string) (*program, *Error) {
	if appID != "" {
		if p, ok := h.allowed[appID]; ok {
			return p, nil
		}
		if _, known := h.app.programs[appID]; known {
			return nil, errProgramForbidden
		}
		return nil, errUnknownProgram
	}
	if h.sole != nil {
		return h.sole, nil
	}
	for _, hint := range refererHints(r.Referer()) {
		if p, ok := h.allowed[hint]; ok {
			return p, nil
		}
	}
	return nil, errUnknownProgram
}

// refererHints returns what may be an app id in the Referer of a mini-program:
// a segment of the path, as in https://servicewechat.com/wx…/0/page-frame.html,
// or a label of the host.
func refererHints(referer string) []string {
	u, err := url.Parse(referer)
	if err != nil || u.Scheme != "https" {
		return nil
	}
	return slices.Concat(strings.Split(u.Path, "/"), strings.Split(u.Hostname(), "."))
}
