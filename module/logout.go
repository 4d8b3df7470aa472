// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"net/http"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logoutRequest is the body of POST /logout, which may be left out.
type logoutRequest struct {
	// Everywhere ends all sessions of the user, not only the one that is shown.
	Everywhere bool `json:"everywhere"`
}

// serveLogout ends the session that the request shows, or all of the user's.
func (h *Handler) serveLogout(w http.ResponseWriter, r *http.Request, user *userRequest) error {
	var body logoutRequest
	if failure := readJSON(r, &body, true); failure != nil {
		return writeError(w, r, failure)
	}
	sessions := user.runtime.sessions
	var err error
	if body.Everywhere {
		err = sessions.RevokeAll(r.Context(), user.session.Subject)
	} else {
		err = sessions.Revoke(r.Context(), user.session)
	}
	if err != nil {
		return writeError(w, r, h.storeFailure(r, err))
	}
	if c := h.logger.Check(zapcore.DebugLevel, "user signed out"); c != nil {
		c.Write(zap.String("user", user.runtime.keys.Digest(user.session.Subject)), zap.Bool("everywhere", body.Everywhere))
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}
