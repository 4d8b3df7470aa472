// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/profile"
	"github.com/minigate/minigate/module/session"
)

// visitor is who a request comes from, as far as one site is concerned. It is
// made once a session and shared by its requests; nil is nobody.
type visitor struct {
	claims  *identity.Claims
	session *session.Session
	profile *profile.Profile // nil where it cannot be read
	// connections are where what the session opens is kept.
	connections *connections
	// headers are the values of the headers that depend on the user only.
	headers []string
	// placeholders is the user's part of the replacer.
	placeholders caddy.ReplacerFunc
	assertion    atomic.Pointer[signedAssertion]
	// failure says why this site does not serve the user, if it does not.
	failure *Error
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	h.clean(r)
	if r.Method == http.MethodConnect && !isWebSocket(r) {
		return h.refuse(w, r, new(credential), errMethod)
	}
	cred, failure := h.readCredential(r)
	switch name, isEndpoint := strings.CutPrefix(r.URL.Path, h.prefix); {
	case failure == nil && cred.wafer != nil && cred.wafer.login:
		return h.waferLogin(w, r, &cred)
	case isEndpoint:
		return h.serveEndpoint(w, r, name, &cred, failure)
	case failure != nil:
		return h.refuse(w, r, &cred, failure)
	}
	if cred.isCode() {
		return h.serveInline(w, r, next, &cred)
	}
	v, failure := h.authenticate(r, &cred)
	if failure == nil {
		cred.removeFrom(r)
		return h.forward(w, r, next, v, cred.token)
	}
	return h.serveAnonymous(w, r, next, &cred, failure)
}

// clean runs the guard, and counts and logs what it found.
func (h *Handler) clean(r *http.Request) {
	attempts := h.app.guard.Load().Clean(r)
	if attempts == 0 {
		return
	}
	h.metrics.spoofAttempts.Add(float64(attempts))
	if c := h.logger.Check(zapcore.DebugLevel, "identity headers of a client removed"); c != nil {
		c.Write(zap.Int("headers", attempts), zap.String("client_ip", clientAddress(r)))
	}
}

// authenticate returns the visitor whose session cred shows.
func (h *Handler) authenticate(r *http.Request, cred *credential) (*visitor, *Error) {
	if cred.token == "" {
		return nil, errSessionMissing
	}
	rt, err := h.app.runtime()
	if err != nil {
		return nil, h.storeFailure(r, err)
	}
	s, failure := h.validate(r, rt, cred)
	if failure != nil {
		return nil, failure
	}
	return h.visitor(r, rt, s)
}

// validate returns the session that cred shows.
func (h *Handler) validate(r *http.Request, rt *runtime, cred *credential) (*session.Session, *Error) {
	s, warm, err := rt.sessions.Validate(r.Context(), cred.token)
	if err == nil && cred.wafer != nil && !cred.wafer.matches(s) {
		err = session.ErrInvalid
	}
	if err == nil {
		h.metrics.session("ok", warm)
		return s, nil
	}
	failure, operational := sessionError(err)
	h.metrics.session(failure.Word, warm)
	if operational {
		return nil, h.storeFailure(r, err)
	}
	return nil, failure
}

// storeFailure tells the operator that the store is of no use right now, unless
// it is only that the client went away.
func (h *Handler) storeFailure(r *http.Request, err error) *Error {
	level := zapcore.ErrorLevel
	if r.Context().Err() != nil {
		level = zapcore.DebugLevel
	}
	if c := h.logger.Check(level, "store cannot be used"); c != nil {
		c.Write(zap.Error(err))
	}
	return errStore.retryAfter(0)
}

// visitor returns what the site makes of a session, or why it does not serve
// its user.
func (h *Handler) visitor(r *http.Request, rt *runtime, s *session.Session) (*visitor, *Error) {
	if v, ok := s.Prepared(h.owner).(*visitor); ok {
		return v, v.failure
	}
	v, err := h.newVisitor(r, rt, s)
	if err != nil {
		return nil, h.storeFailure(r, err)
	}
	s.Keep(h.owner, v)
	return v, v.failure
}

func (h *Handler) newVisitor(r *http.Request, rt *runtime, s *session.Session) (*visitor, error) {
	if _, ok := h.allowed[s.Identity.Program]; !ok {
		return &visitor{failure: errProgramForbidden}, nil
	}
	id, failure, err := h.userID(r.Context(), rt, s.Identity)
	if err != nil {
		return nil, err
	}
	if failure != nil {
		return &visitor{failure: failure}, nil
	}
	p, err := h.loadProfile(r.Context(), rt, s.Subject)
	if err != nil {
		return nil, err
	}
	claims := &identity.Claims{Identity: &s.Identity, ID: id, SessionID: s.ID, AuthTime: s.IssuedAt()}
	if p != nil && p.Version > 0 {
		claims.Verified, claims.Stated = &p.Verified, &p.Stated
	}
	return &visitor{
		claims:       claims,
		session:      s,
		profile:      p,
		connections:  rt.state.connections,
		headers:      h.headers.values(claims),
		placeholders: placeholders(claims),
	}, nil
}

// placeholders returns the replacer's function for {http.auth.user.*} and for
// the claims as a whole.
func placeholders(claims *identity.Claims) caddy.ReplacerFunc {
	return func(key string) (any, bool) {
		name, ok := strings.CutPrefix(key, userPlaceholder)
		if !ok {
			return claims, key == claimsVariable
		}
		return claims.Lookup(name)
	}
}

var anonymousPlaceholders = placeholders(nil)

// forward hands the request to next, with the visitor's identity. token is that
// of his session.
func (h *Handler) forward(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, v *visitor, token string) error {
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if v == nil {
		repl.Map(anonymousPlaceholders)
	} else {
		repl.Map(v.placeholders)
	}
	if len(h.Decrypt) > 0 { // by matchers that may ask who the user is
		if err := h.openBody(r, v); err != nil {
			return h.refuseBody(w, r, err)
		}
	}
	if v != nil {
		h.headers.apply(r, repl, v.claims, v.headers)
		if h.Assertion != nil {
			text, failure := h.assert(r, v)
			if failure != nil {
				return h.refuse(w, r, new(credential), failure)
			}
			r.Header[h.Assertion.Header] = []string{text}
		}
	}
	// What a cache keeps for one user it must not give to another.
	header := w.Header()
	header["Vary"] = append(header["Vary"], h.vary...)
	if v == nil {
		return next.ServeHTTP(w, r)
	}
	stream, r := newStreamWriter(w, r, v, token)
	defer stream.finish()
	return next.ServeHTTP(stream, r)
}

// refuseBody answers a request whose body could not be opened.
func (h *Handler) refuseBody(w http.ResponseWriter, r *http.Request, err error) error {
	if failure, ok := errors.AsType[*Error](err); ok {
		return h.refuse(w, r, new(credential), failure)
	}
	return err
}

// serveAnonymous serves a request that shows no session, or a bad one, if the
// site serves it at all. failure is why it has no visitor.
func (h *Handler) serveAnonymous(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, cred *credential, failure *Error) error {
	public, err := h.public.AnyMatchWithError(r)
	switch {
	case len(h.public) > 0 && err != nil:
		cred.removeFrom(r)
		return err
	case len(h.public) > 0 && public && ambiguousPath(r.URL):
		return h.refuse(w, r, cred, errAmbiguousPath)
	case len(h.public) > 0 && public:
		h.removeOwn(r, cred)
		removeOverrides(r.Header)
		return h.forward(w, r, next, nil, "")
	case h.Optional && failure == errSessionMissing:
		removeOverrides(r.Header)
		return h.forward(w, r, next, nil, "")
	default:
		return h.refuse(w, r, cred, failure)
	}
}

// removeOverrides takes off the headers by which some upstreams let a client
// replace the path or the method of its request: it is let through because of
// those that it shows.
func removeOverrides(header http.Header) {
	for _, name := range [...]string{
		"X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override",
	} {
		delete(header, name)
	}
}

// removeOwn takes the gateway's credentials off a request that is served
// without them. A bearer token of somebody else's making is the upstream's
// business.
func (h *Handler) removeOwn(r *http.Request, cred *credential) {
	foreign := cred.scheme == schemeBearer && !keyring.IsToken(cred.token)
	if foreign {
		cred.scheme = ""
	}
	cred.removeFrom(r)
}

// serveInline signs the user in whose login code the request carries, and hands
// the request on.
func (h *Handler) serveInline(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, cred *credential) error {
	result, rt, failure := h.signIn(r, cred.program, signIn{code: cred.code})
	if failure != nil {
		return h.serveAnonymous(w, r, next, cred, failure)
	}
	v, failure := h.visitor(r, rt, result.session)
	if failure != nil {
		return h.serveAnonymous(w, r, next, cred, failure)
	}
	cred.removeFrom(r)
	return h.forward(newTokenWriter(w, result.token), r, next, v, result.token)
}

// isWebSocket reports whether a CONNECT request opens a WebSocket over HTTP/2
// or HTTP/3 (RFC 8441, RFC 9220).
func isWebSocket(r *http.Request) bool {
	return r.ProtoMajor >= 2 && (r.Header.Get(":protocol") == "websocket" || r.Proto == "websocket")
}
