// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/session"
)

// inspectRequest is the body of POST /miniprogram/sessions/inspect: a session, a
// token, or a user.
type inspectRequest struct {
	userName
	Session     string `json:"session"`
	AccessToken string `json:"access_token"`
}

// inspectAnswer has no credential and no key in it.
type inspectAnswer struct {
	// Token is what the token is that was asked about.
	Token *inspectedToken `json:"token,omitempty"`
	// Session is the id of the session that was asked about, or that the token
	// names.
	Session string `json:"session,omitempty"`
	// The rest is what is kept of the user; empty if nobody can tell who it is.
	User         *exportedUser      `json:"user,omitempty"`
	Sessions     []inspectedSession `json:"sessions,omitempty"`
	PlatformKeys int                `json:"platform_session_keys,omitempty"`
}

type inspectedToken struct {
	State session.State `json:"state"`
	// Key is the id of the seal key; of one that is not among them, as the token
	// says.
	Key      string    `json:"key,omitempty"`
	AuthTime time.Time `json:"auth_time,omitzero"`
	Expires  time.Time `json:"expires,omitzero"`
}

type inspectedSession struct {
	ID    string        `json:"id"`
	State session.State `json:"state"`
	sessionTimes
}

// inspectSessions answers POST /miniprogram/sessions/inspect.
func inspectSessions(c *adminCall) (any, error) {
	var body inspectRequest
	if err := c.readStrict(&body, false); err != nil {
		return nil, err
	}
	named := body.userName != (userName{})
	switch {
	case body.AccessToken != "" && body.Session == "" && !named:
		return c.inspectToken(body.AccessToken)
	case body.Session != "" && body.AccessToken == "" && !named:
		subject, err := c.findSession(body.Session)
		if err != nil {
			return nil, err
		}
		return c.inspectUser(subject, body.Session)
	case named && body.Session == "" && body.AccessToken == "":
		user, err := c.findUser(body.userName)
		if err != nil {
			return nil, err
		}
		return c.inspectUser(user.Subject(), "")
	default:
		return nil, callError("exactly one is required: session, access_token, or program and openid")
	}
}

// nameSession checks what is said to be the id of a session. What is not may be a
// token or an openid, and must not be in the log.
func (c *adminCall) nameSession(id string) error {
	if !session.IsID(id) {
		return callError("session is not the id of a session")
	}
	c.tell(zap.String("session", id))
	return nil
}

// findSession looks for the user who has a session.
func (c *adminCall) findSession(id string) (subject string, err error) {
	if err := c.nameSession(id); err != nil {
		return "", err
	}
	if subject, err = c.sessions.Find(c.Context(), id); err != nil {
		return "", err
	}
	if subject == "" {
		return "", errNoSuchThing
	}
	c.tell(zap.String("user", c.keys.Digest(subject)))
	return subject, nil
}

// inspectToken tells what a token is that somebody reports.
func (c *adminCall) inspectToken(token string) (*inspectAnswer, error) {
	described, user, err := c.sessions.DescribeToken(c.Context(), token)
	if err != nil {
		return nil, err
	}
	c.tell(zap.String("token", string(described.State)))
	answer := &inspectAnswer{
		Token:   &inspectedToken{State: described.State, Key: described.KeyID},
		Session: described.SessionID,
	}
	if described.Subject == "" {
		return answer, nil
	}
	c.tell(zap.String("user", c.keys.Digest(described.Subject)), zap.String("session", described.SessionID))
	answer.Token.AuthTime, answer.Token.Expires = described.IssuedAt.UTC(), described.ExpiresAt.UTC()
	answer.describe(user)
	return answer, nil
}

// inspectUser tells what is kept of a user and his sessions.
func (c *adminCall) inspectUser(subject, id string) (*inspectAnswer, error) {
	user, err := c.sessions.Describe(c.Context(), subject)
	if err != nil {
		return nil, err
	}
	if user == nil || user.Identity == (identity.Identity{}) {
		return nil, errNobody
	}
	answer := &inspectAnswer{Session: id}
	answer.describe(user)
	return answer, nil
}

func (a *inspectAnswer) describe(user *session.Description) {
	if user == nil || user.Identity == (identity.Identity{}) {
		return
	}
	who := newExportedUser(user.Identity)
	a.User, a.PlatformKeys = &who, user.PlatformKeys
	for _, s := range user.Sessions {
		a.Sessions = append(a.Sessions, inspectedSession{s.ID, s.State, newSessionTimes(s)})
	}
}
