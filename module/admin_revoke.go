// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
)

// revokeRequest is the body of POST /miniprogram/sessions/revoke. It says exactly
// one thing:
//
//	{"session":"…"}                           one session, which is looked for
//	{"session":"…","program":"…","openid":"…"} one session of this user
//	{"program":"…","openid":"…"}              all sessions of a user
//	{"program":"…","all":true}                all sessions of a program
//	{"everyone":true}                         all sessions
type revokeRequest struct {
	userName
	Session  string `json:"session"`
	All      bool   `json:"all"`
	Everyone bool   `json:"everyone"`
}

// revokeAnswer says how many sessions were good until then. Those of a program, or
// of everyone, are not counted.
type revokeAnswer struct {
	Revoked *int `json:"revoked,omitempty"`
	// All says that all sessions that had begun are ended, on every node.
	All bool `json:"all,omitempty"`
}

func revoked(n int) *revokeAnswer { return &revokeAnswer{Revoked: &n} }

// revokeSessions answers POST /miniprogram/sessions/revoke.
func revokeSessions(c *adminCall) (any, error) {
	var body revokeRequest
	if err := c.readStrict(&body, false); err != nil {
		return nil, err
	}
	user := body.Program != "" && body.OpenID != ""
	nobody := body.userName == userName{}
	switch {
	case body.Everyone && nobody && body.Session == "" && !body.All:
		c.tell(zap.Bool("everyone", true))
		return &revokeAnswer{All: true}, c.sessions.RevokeEveryone(c.Context())
	case body.All && !body.Everyone && body.Session == "" && body.Program != "" && body.OpenID == "":
		return c.revokeProgram(body.programName)
	case body.All || body.Everyone:
	case body.Session != "" && (user || nobody):
		return c.revokeSession(body.Session, body.userName)
	case body.Session == "" && user:
		return c.revokeUser(body.userName)
	}
	return nil, callError("exactly one is required: session (with program and openid, or without), program and openid, program and all, or everyone")
}

// revokeProgram ends all sessions of a program, which need not be configured any
// more.
func (c *adminCall) revokeProgram(name programName) (*revokeAnswer, error) {
	if _, err := c.findProgram(&name); err != nil {
		return nil, err
	}
	c.tell(zap.Bool("all", true))
	return &revokeAnswer{All: true}, c.sessions.RevokeProgram(c.Context(), name.Platform, name.Program)
}

// revokeUser ends all sessions of a user.
func (c *adminCall) revokeUser(name userName) (*revokeAnswer, error) {
	user, err := c.findUser(name)
	if err != nil {
		return nil, err
	}
	// A mistyped id must not look like somebody who is signed out.
	known, err := c.sessions.Describe(c.Context(), user.Subject())
	if err != nil {
		return nil, err
	}
	if known == nil || known.Identity == (identity.Identity{}) {
		return nil, errNobody
	}
	n, err := c.sessions.EndAll(c.Context(), user.Subject())
	c.tell(zap.Int("revoked", n))
	return revoked(n), err
}

// revokeSession ends one session. Unless its user is named, he is looked for.
func (c *adminCall) revokeSession(id string, name userName) (*revokeAnswer, error) {
	subject, err := c.holder(id, name)
	if err != nil {
		return nil, err
	}
	ended, err := c.sessions.End(c.Context(), subject, id)
	switch {
	case err != nil:
		return nil, err
	case !ended:
		return nil, errNoSuchThing
	}
	c.tell(zap.Int("revoked", 1))
	return revoked(1), nil
}

// holder returns who is said to have a session, or who is found to have it.
func (c *adminCall) holder(id string, name userName) (subject string, err error) {
	if name == (userName{}) {
		return c.findSession(id)
	}
	if err := c.nameSession(id); err != nil {
		return "", err
	}
	user, err := c.findUser(name)
	if err != nil {
		return "", err
	}
	return user.Subject(), nil
}
