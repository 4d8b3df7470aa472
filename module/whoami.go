// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"net/http"
	"time"
)

// sessionAnswer tells a client who it is and until when.
type sessionAnswer struct {
	User userAnswer `json:"user"`
	// AuthTime is when the user signed in, in unix seconds.
	AuthTime int64 `json:"auth_time"`
	// ExpiresIn is how many seconds the session lasts at most.
	ExpiresIn int64 `json:"expires_in"`
	// IdleExpiresIn is how many seconds it lasts if it is not used.
	IdleExpiresIn int64 `json:"idle_expires_in"`
}

// serveSession answers GET /session.
func (h *Handler) serveSession(w http.ResponseWriter, _ *http.Request, user *userRequest) error {
	end, idleEnd := user.runtime.sessions.Expiry(user.session)
	return writeJSON(w, http.StatusOK, sessionAnswer{
		User:          newUserAnswer(user.visitor.claims),
		AuthTime:      user.session.IssuedAt().Unix(),
		ExpiresIn:     secondsUntil(end),
		IdleExpiresIn: secondsUntil(idleEnd),
	})
}

// secondsUntil returns how many seconds are left until t, rounded up: sessions
// begin at a whole second, a moment ago.
func secondsUntil(t time.Time) int64 {
	return int64((time.Until(t) + time.Second - 1) / time.Second)
}
