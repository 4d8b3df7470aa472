// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/minigate/minigate/module/identity"
)

// Assertion is the identity in a signed form, for upstreams that do not want to
// believe whoever reaches them.
type Assertion struct {
	// The header that carries it. Default: X-Identity-Assertion.
	Header string `json:"header,omitempty"`

	// For whom it is, the claim aud. An upstream must refuse what is for another.
	Audience string `json:"audience,omitempty"`

	// Who says so, the claim iss. Default: minigate.
	Issuer string `json:"issuer,omitempty"`

	// For how long it is good, 10 seconds to an hour. A revoked session is good
	// for that long at an upstream that keeps the assertion. Default: 2m.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`
}

// Defaults and bounds of Assertion.
const (
	assertionHeader   = "X-Identity-Assertion"
	assertionIssuer   = "minigate"
	assertionLifetime = 2 * time.Minute
	shortestAssertion = 10 * time.Second
	longestAssertion  = time.Hour
)

// provision sets defaults and checks the name of the header.
func (a *Assertion) provision(headers *headerSet) error {
	if a.Header == "" {
		a.Header = assertionHeader
	}
	if a.Issuer == "" {
		a.Issuer = assertionIssuer
	}
	if a.Lifetime == 0 {
		a.Lifetime = caddy.Duration(assertionLifetime)
	}
	if err := checkHeaderName(a.Header); err != nil {
		return fmt.Errorf("assertion: %w", err)
	}
	a.Header = textproto.CanonicalMIMEHeaderKey(a.Header)
	for _, name := range headers.names() {
		if identity.Fold(name) == identity.Fold(a.Header) {
			return fmt.Errorf("assertion: header %s is set twice", name)
		}
	}
	return nil
}

// validate reports what can never work.
func (a *Assertion) validate() error {
	lifetime := time.Duration(a.Lifetime)
	switch {
	case a.Audience == "":
		return errors.New("assertion needs an audience: without one, what is meant for one upstream would do at every other")
	case lifetime < shortestAssertion || lifetime > longestAssertion:
		return fmt.Errorf("the lifetime of assertions must be %s to %s", shortestAssertion, longestAssertion)
	}
	return nil
}

// assertionClaims is what an assertion says (RFC 7519). A claim that is unknown is
// left out.
type assertionClaims struct {
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
	Subject   string `json:"sub"`
	IssuedAt  int64  `json:"iat"`
	ExpiresAt int64  `json:"exp"`
	AuthTime  int64  `json:"auth_time"`
	Platform  string `json:"platform"`
	Program   string `json:"program"`
	OpenID    string `json:"openid,omitempty"`
	UnionID   string `json:"unionid,omitempty"`
}

// signedAssertion is an assertion that is used until half its time is over, or its
// key is published no more.
type signedAssertion struct {
	text  string
	key   string
	until time.Time
}

// assert returns the assertion of a visitor, a new one if the last is half over.
func (h *Handler) assert(r *http.Request, v *visitor) (string, *Error) {
	rt, err := h.app.runtime()
	if err != nil {
		return "", h.storeFailure(r, err)
	}
	keys, err := rt.assertions.current(r.Context())
	if err != nil {
		return "", h.storeFailure(r, err)
	}
	now := time.Now()
	if a := v.assertion.Load(); a != nil && now.Before(a.until) && keys.publishes(a.key) {
		return a.text, nil
	}
	lifetime := time.Duration(h.Assertion.Lifetime)
	expires := now.Add(lifetime)
	if end, _ := rt.sessions.Expiry(v.session); end.Before(expires) {
		expires = end
	}
	claims, err := json.Marshal(assertionClaims{
		Issuer: h.Assertion.Issuer, Audience: h.Assertion.Audience, Subject: v.claims.ID,
		IssuedAt: now.Unix(), ExpiresAt: expires.Unix(), AuthTime: v.claims.AuthTime.Unix(),
		Platform: v.claims.Platform, Program: v.claims.Program, OpenID: v.claims.OpenID, UnionID: v.claims.UnionID,
	})
	if err != nil {
		return "", h.storeFailure(r, fmt.Errorf("encoding an assertion: %w", err))
	}
	key := keys.signer(now)
	text, err := key.Sign(claims)
	if err != nil {
		return "", h.storeFailure(r, err)
	}
	v.assertion.Store(&signedAssertion{text, key.ID, now.Add(expires.Sub(now) / 2)})
	return text, nil
}

// serveKeys answers GET /jwks.json: the public keys of assertions.
func (h *Handler) serveKeys(w http.ResponseWriter, r *http.Request, _ *credential) error {
	if h.Assertion == nil {
		return writeError(w, r, errNotFound)
	}
	rt, err := h.app.runtime()
	if err != nil {
		return writeError(w, r, h.storeFailure(r, err))
	}
	keys, err := rt.assertions.current(r.Context())
	if err != nil {
		return writeError(w, r, h.storeFailure(r, err))
	}
	header := w.Header()
	header.Set("Content-Type", "application/jwk-set+json")
	header.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(publishedMaxAge/time.Second)))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(keys.published)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, err = w.Write(keys.published)
	}
	return err
}
