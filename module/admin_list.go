// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/session"
)

// How many sessions a page has.
const (
	defaultPage = 100
	maxPage     = 1000
)

// listRequest is the body of POST /miniprogram/sessions/list. All of it is
// optional.
type listRequest struct {
	userName
	// Since and Until bound the time of sign-in: a time, or how long ago.
	Since string `json:"since"`
	Until string `json:"until"`
	// IdleLongerThan is for how long a session was not used.
	IdleLongerThan string `json:"idle_longer_than"`
	Limit          *int   `json:"limit"`
	// After is what the page before had as its next.
	After string `json:"after"`
}

// listAnswer is a page of sessions.
type listAnswer struct {
	Sessions []listedSession `json:"sessions"`
	// Unreadable is how many records cannot be read.
	Unreadable int    `json:"unreadable,omitempty"`
	Next       string `json:"next,omitempty"`
}

type listedSession struct {
	ID string `json:"id"`
	exportedUser
	sessionTimes
}

// sessionTimes are the times of a session, in RFC 3339.
type sessionTimes struct {
	AuthTime time.Time `json:"auth_time"`
	LastUsed time.Time `json:"last_used"`
	// Expires is when it ends at the latest, IdleExpires when it ends unless it is
	// used before.
	Expires     time.Time `json:"expires"`
	IdleExpires time.Time `json:"idle_expires"`
}

func newSessionTimes(s session.DescribedSession) sessionTimes {
	return sessionTimes{s.IssuedAt.UTC(), s.LastUsed.UTC(), s.ExpiresAt.UTC(), s.IdleEnd.UTC()}
}

func newExportedUser(user identity.Identity) exportedUser {
	return exportedUser{Platform: user.Platform, Program: user.Program, OpenID: user.OpenID, KnownAs: user.KnownAs, UnionID: user.UnionID}
}

// listSessions answers POST /miniprogram/sessions/list.
func listSessions(c *adminCall) (any, error) {
	var body listRequest
	if err := c.readStrict(&body, true); err != nil {
		return nil, err
	}
	query, err := c.query(&body)
	if err != nil {
		return nil, err
	}
	page, err := c.sessions.List(c.Context(), query)
	if errors.Is(err, session.ErrCursor) {
		return nil, callError("after must be what the page before had as its next")
	}
	if err != nil {
		return nil, err
	}
	c.tell(zap.Int("sessions", len(page.Sessions)))
	answer := &listAnswer{Sessions: make([]listedSession, len(page.Sessions)), Unreadable: page.Unreadable, Next: page.Next}
	for i, s := range page.Sessions {
		answer.Sessions[i] = listedSession{s.ID, newExportedUser(s.Identity), newSessionTimes(s.DescribedSession)}
	}
	return answer, nil
}

// query reads which sessions are to be listed.
func (c *adminCall) query(body *listRequest) (q session.Query, err error) {
	q = session.Query{Limit: defaultPage, After: body.After}
	if body.Limit != nil {
		q.Limit = *body.Limit
	}
	if q.Limit < 1 || q.Limit > maxPage {
		return q, callError("limit must be between 1 and " + strconv.Itoa(maxPage))
	}
	now := time.Now()
	if q.Since, err = parseTime("since", body.Since, now); err != nil {
		return q, err
	}
	if q.Until, err = parseTime("until", body.Until, now); err != nil {
		return q, err
	}
	if q.UsedBefore, err = parseTime("idle_longer_than", body.IdleLongerThan, now); err != nil {
		return q, err
	}
	switch {
	case body.OpenID != "":
		user, err := c.findUser(body.userName)
		if err != nil {
			return q, err
		}
		q.Subject = user.Subject()
		return q, nil
	case body.Program != "":
		// One that is not configured any more may be on any platform.
		if _, err := c.findProgram(&body.programName); err != nil && !errors.Is(err, errNothingKnown) {
			return q, err
		}
	}
	q.Platform, q.Program = body.Platform, body.Program
	return q, nil
}
