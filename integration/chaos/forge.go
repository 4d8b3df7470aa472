// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/base64"
	"strings"
)

// forge tries to get in with what nobody was given. s is the session of somebody
// who can be seen, but not by whom it is made.
func (w *worker) forge(s *login, g *gateway) {
	parts := strings.Split(s.token, ".")
	if len(parts) != 3 {
		return
	}
	var token, how string
	var lines []string
	switch w.random.IntN(5) {
	case 0:
		how = "another signature"
		signature := []byte(parts[2])
		at := w.random.IntN(len(signature) - 1) // the last one has bits that do not count
		if signature[at] == 'A' {
			signature[at] = 'B'
		} else {
			signature[at] = 'A'
		}
		token = parts[0] + "." + parts[1] + "." + string(signature)
	case 1:
		how = "a key of the forger's own"
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil {
			return
		}
		if token, err = w.trial.load.forger.SignToken(payload); err != nil {
			return
		}
	case 2:
		how = "no algorithm"
		token = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"session+jwt"}`)) + "." + parts[1] + "."
	case 3:
		how = "headers alone"
		lines = []string{"X-User-Openid: " + s.user.openID, "X-User-Id: " + s.user.openID, "X_User_Openid: " + s.user.openID}
	case 4:
		w.forgePublic(s, g)
		return
	}
	if token != "" {
		lines = append(lines, "Authorization: Bearer "+token)
	}
	switch a := w.client.do(g, "GET", "/", "", lines...); a.status {
	case 200:
		w.ledger().violation(through, a, "forged: %s", how)
	case 401:
		w.ledger().count(func(t *tally) { t.Forged++ })
	default:
		w.ledger().refused(a)
	}
}

// forgePublic goes where everybody may, as somebody else.
func (w *worker) forgePublic(s *login, g *gateway) {
	a := w.client.do(g, "GET", publicPath, "", "X-User-Openid: "+s.user.openID, "X-User.Id: "+s.user.openID, "Connection: X-User-Id")
	switch {
	case a.status != 200:
		w.ledger().refused(a)
	case len(a.seen.OpenID)+len(a.seen.UserID) > 0:
		w.ledger().violation(wrong, a, "forged headers where everybody may go")
	default:
		w.ledger().count(func(t *tally) { t.Forged++ })
	}
}
