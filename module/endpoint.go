// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/minigate/minigate/module/session"
)

// endpoint is one of the gateway's own resources.
type endpoint struct {
	methods []string
	// serve answers a request. Exactly one of serve and serveUser is set.
	serve func(*Handler, http.ResponseWriter, *http.Request, *credential) error
	// serveUser answers a request of a signed-in user.
	serveUser func(*Handler, http.ResponseWriter, *http.Request, *userRequest) error
	// open says that it does not matter what credential a request has.
	open bool
}

// userRequest is what an endpoint knows of a signed-in user.
type userRequest struct {
	runtime *runtime
	session *session.Session
	visitor *visitor
}

// endpoints by their path below Handler.Endpoints. Pictures are below avatarPath.
//
// PUT and DELETE have a POST of their own, because not every mini-program can
// send them.
var endpoints = map[string]endpoint{
	"login":           {methods: []string{http.MethodPost}, serve: (*Handler).serveLogin},
	"jwks.json":       {methods: []string{http.MethodGet, http.MethodHead}, serve: (*Handler).serveKeys},
	"session":         {methods: []string{http.MethodGet, http.MethodHead}, serveUser: (*Handler).serveSession},
	"logout":          {methods: []string{http.MethodPost}, serveUser: (*Handler).serveLogout},
	"decrypt":         {methods: []string{http.MethodPost}, serveUser: (*Handler).serveDecrypt},
	"phone":           {methods: []string{http.MethodPost}, serveUser: (*Handler).servePhone},
	"profile":         {methods: []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete}, serveUser: (*Handler).serveProfile},
	"profile/avatar":  {methods: []string{http.MethodPost}, serveUser: (*Handler).serveAvatarUpload},
	"profile/delete":  {methods: []string{http.MethodPost}, serveUser: (*Handler).deleteProfile},
	"ready":           {methods: []string{http.MethodGet, http.MethodHead}, serve: (*Handler).serveReady, open: true},
	"profile/refresh": {methods: []string{http.MethodPost}, serveUser: (*Handler).serveProfileRefresh},
}

// isPrefix reports whether requests can have paths that begin with prefix,
// which must end in a slash and be more than that. It is taken literally: a
// wildcard or placeholder in it is a mistake.
func isPrefix(prefix string) bool {
	clean := path.Clean(prefix)
	return strings.HasPrefix(prefix, "/") && clean != "/" && clean+"/" == prefix && !strings.ContainsAny(prefix, "*{}?#%;\\ ")
}

// serveEndpoint answers a request below Handler.Endpoints. Such requests never
// reach an upstream. failure says what is wrong with the credential, if
// anything is.
func (h *Handler) serveEndpoint(w http.ResponseWriter, r *http.Request, name string, cred *credential, failure *Error) error {
	if picture, ok := isAvatar(name); ok {
		return h.serveAvatar(w, r, picture)
	}
	e, ok := endpoints[name]
	switch {
	case !ok:
		return writeError(w, r, errNotFound)
	case !slices.Contains(e.methods, r.Method):
		w.Header().Set("Allow", strings.Join(e.methods, ", "))
		return writeError(w, r, errMethod)
	case failure != nil && !e.open:
		return writeError(w, r, failure)
	case e.serve != nil:
		return e.serve(h, w, r, cred)
	}
	user, token, failure := h.userRequest(r, cred)
	switch {
	case failure != nil && cred.wafer != nil && failure.Status == http.StatusUnauthorized:
		return h.waferRefuse(w, r, cred, failure)
	case failure != nil:
		return writeError(w, r, failure)
	}
	if token != "" {
		w = newTokenWriter(w, token)
	}
	return e.serveUser(h, w, r, user)
}

// userRequest returns the signed-in user whom cred shows. If cred is a login
// code, the user is signed in, and token is the new session's.
func (h *Handler) userRequest(r *http.Request, cred *credential) (user *userRequest, token string, failure *Error) {
	user = new(userRequest)
	switch {
	case cred.isCode():
		var result signedIn
		if result, user.runtime, failure = h.signIn(r, cred.program, signIn{code: cred.code}); failure != nil {
			return nil, "", failure
		}
		user.session, token = result.session, result.token
	case cred.token == "":
		return nil, "", errSessionMissing
	default:
		var err error
		if user.runtime, err = h.app.runtime(); err != nil {
			return nil, "", h.storeFailure(r, err)
		}
		if user.session, failure = h.validate(r, user.runtime, cred); failure != nil {
			return nil, "", failure
		}
	}
	user.visitor, failure = h.visitor(r, user.runtime, user.session)
	return user, token, failure
}
