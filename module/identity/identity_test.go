// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"testing"
	"time"
)

// T33, T36, T37: no two users share a subject, however their ids are cut or
// spelled.
func TestSubjectKeepsUsersApart(t *testing.T) {
	users := []Identity{
		{Platform: "wechat", Program: "wxA", OpenID: "oAbC"},
		{Platform: "wechat", Program: "wxA", OpenID: "oABC"},
		{Platform: "wechat", Program: "wxAo", OpenID: "AbC"},
		{Platform: "wechat", Program: "wxB", OpenID: "oAbC"},
		{Platform: "wechatwxA", Program: "", OpenID: "oAbC"},
		{Platform: "alipay", Program: "wxA", OpenID: "oAbC"},
		{Platform: "wechat", Program: "wxA", OpenID: "oAbC\x00"},
	}
	seen := make(map[string]Identity)
	for _, user := range users {
		subject := user.Subject()
		if other, taken := seen[subject]; taken {
			t.Errorf("%+v and %+v share a subject", user, other)
		}
		seen[subject] = user
	}
	with := users[0]
	with.UnionID = "u"
	if with.Subject() != users[0].Subject() {
		t.Error("the unionid, which may come later, changes the subject")
	}
}

func TestLookup(t *testing.T) {
	claims := &Claims{
		Identity: Identity{Platform: "wechat", Program: "wxA", OpenID: "o1", UnionID: "u1"}, ID: "id", Phone: "1", Nickname: "n", SessionID: "s",
		AuthTime: time.Unix(1700000000, 0),
	}
	for name, want := range map[string]string{
		"id": "id", "platform": "wechat", "program": "wxA", "openid": "o1", "unionid": "u1",
		"phone": "1", "nickname": "n", "session": "s", "auth_time": "1700000000",
	} {
		if got, known := claims.Lookup(name); got != want || !known {
			t.Errorf("%s is %q, %v", name, got, known)
		}
		if got, known := (*Claims)(nil).Lookup(name); got != "" || !known {
			t.Errorf("%s of nobody is %q, %v", name, got, known)
		}
	}
	if _, known := claims.Lookup("session_key"); known {
		t.Error("there must be no such placeholder")
	}
}
