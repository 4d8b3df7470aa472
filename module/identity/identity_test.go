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
		Identity: &Identity{Platform: "wechat", Program: "wxA", OpenID: "o1", UnionID: "u1"}, ID: "id", SessionID: "s",
		AuthTime: time.Unix(1700000000, 0),
		Verified: &UserInfo{Nickname: "platform's", PhoneNumber: "13580006666", CountryCode: "86", AvatarURL: "https://a.example/1"},
		Stated:   &UserInfo{Nickname: "own", Email: "own@example.com", PhoneNumber: "1"},
	}
	for name, want := range map[string]string{
		"id": "id", "platform": "wechat", "program": "wxA", "openid": "o1", "unionid": "u1",
		"phone": "13580006666", "phone_e164": "+8613580006666", "nickname": "own", "avatar_url": "https://a.example/1",
		"session": "s", "auth_time": "1700000000",
		"verified.nickname": "platform's", "stated.nickname": "own", "verified.email": "", "stated.email": "own@example.com",
		"stated.phone_number": "1", "verified.country_code": "86",
	} {
		if got, known := claims.Lookup(name); got != want || !known {
			t.Errorf("%s is %q, %v", name, got, known)
		}
		if got, known := (*Claims)(nil).Lookup(name); got != "" || !known {
			t.Errorf("%s of nobody is %q, %v", name, got, known)
		}
	}
	for _, name := range []string{"session_key", "verified", "verified.", "verified.openid", "stated.", "email", "other.nickname", "Verified.nickname"} {
		if _, known := claims.Lookup(name); known {
			t.Errorf("there must be no placeholder %q", name)
		}
	}
}

// A number of mainland China is written as everybody there writes it; any other
// one must not look like it.
func TestPhone(t *testing.T) {
	for _, test := range []struct{ number, country, phone, e164 string }{
		{"13580006666", "86", "13580006666", "+8613580006666"},
		{"2025550123", "1", "+12025550123", "+12025550123"},
		{"13580006666", "", "", ""}, // of which country, nobody knows
		{"", "86", "", ""},
	} {
		info := &UserInfo{PhoneNumber: test.number, CountryCode: test.country}
		if got := info.Phone(); got != test.phone {
			t.Errorf("%v: %q", test, got)
		}
		if got := info.E164(); got != test.e164 {
			t.Errorf("%v: %q", test, got)
		}
	}
}
