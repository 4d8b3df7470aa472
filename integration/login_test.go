// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"testing"
)

// The main job: a user signs in and reaches an app that was never changed.
func TestSignInAndReachTheApp(t *testing.T) {
	g := start(t, setup{})
	g.get("/orders").expect(t, http.StatusUnauthorized, "session_missing")

	token := g.login(programA, "alice")
	a := g.get("/orders?page=2", bearer(token))
	if a.status != http.StatusOK {
		t.Fatalf("answer is %d %s", a.status, a.body)
	}
	for name, want := range map[string]string{
		"X-User-Id":       g.openID(programA, "alice"),
		"X-User-Openid":   g.openID(programA, "alice"),
		"X-User-Program":  programA,
		"X-User-Platform": "wechat",
	} {
		if got := identities(a.body, name); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := identities(a.body, "Authorization"); got != nil {
		t.Errorf("the app was shown the session token: %q", got)
	}
}
