// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"encoding/json"
	"maps"
	"net/url"
	"testing"
	"time"
)

// userInfo calls alipay.user.info.share.
func (c alipayClient) userInfo(token any) []byte {
	c.t.Helper()
	text, _ := token.(string)
	return c.send(c.query(alipayUserMethod, url.Values{"auth_token": {text}}), nil).Body.Bytes()
}

// wantUserInfoError checks an error of alipay.user.info.share, which is in the
// node of the API.
func (c alipayClient) wantUserInfoError(token any, code, subCode string) {
	c.t.Helper()
	node := c.open(c.userInfo(token), "alipay_user_info_share_response")
	if node["code"] != code || node["sub_code"] != subCode {
		c.t.Errorf("node is %v, want %s %s", node, code, subCode)
	}
}

// The same user is told by his user id, by both ids and by his open id, as the
// program moves on. What is asked last counts, also for tokens of before.
func TestAlipayMigration(t *testing.T) {
	s, _ := newAlipayTest(t, func(c *Config) { c.Programs[0].Migration = MigrationUserID })
	c := clientOf(t, s, alipayApp)
	identity, err := s.Identity(alipayApp, "alice")
	if err != nil {
		t.Fatal(err)
	}
	old := map[string]any{"user_id": identity.UserID}
	both := map[string]any{"user_id": identity.UserID, "open_id": identity.OpenID, "union_id": identity.UnionID}
	open := map[string]any{"open_id": identity.OpenID, "union_id": identity.UnionID}
	token := c.signIn("auth_user")["access_token"]
	for i, step := range []struct {
		user  string
		stage Migration
		want  map[string]any
	}{
		{"bob", MigrationOpenID, old},
		{"", MigrationBoth, both},
		{"", MigrationOpenID, open},
		{"alice", MigrationUserID, old},
		{"", MigrationBoth, old},
		{"alice", "", both},
	} {
		if err := s.SetMigration(alipayApp, step.user, step.stage); err != nil {
			t.Fatal(err)
		}
		for _, node := range []map[string]any{
			c.signIn(),
			c.open(c.userInfo(token), "alipay_user_info_share_response"),
		} {
			got := make(map[string]any)
			for _, name := range []string{"user_id", "open_id", "union_id"} {
				if node[name] != nil {
					got[name] = node[name]
				}
			}
			if !maps.Equal(got, step.want) {
				t.Errorf("step %d: ids are %v, want %v", i, got, step.want)
			}
			if node["alipay_user_id"] != nil && (node["user_id"] == nil || node["alipay_user_id"] == node["user_id"]) {
				t.Errorf("step %d: node is %v", i, node)
			}
		}
	}
}

// Unlike the token, the profile has code and msg. Its slashes are escaped, and
// signed so.
func TestAlipayUserInfo(t *testing.T) {
	s, clock := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	token := c.signIn("auth_user")["access_token"]
	node := c.open(c.userInfo(token), "alipay_user_info_share_response")
	if node["code"] != "10000" || node["msg"] != "Success" || node["nick_name"] != "alice" || node["avatar"] == nil {
		t.Errorf("node is %v", node)
	}
	if err := s.SetProfile(alipayApp, "alice", map[string]string{}); err != nil {
		t.Fatal(err)
	}
	node = c.open(c.userInfo(token), "alipay_user_info_share_response")
	if _, found := node["nick_name"]; found || len(node) != 4 {
		t.Errorf("node is %v", node)
	}
	if err := s.SetProfile(alipayApp, "alice", map[string]string{"nick_name": `张"}三\`, "avatar": "https://a/b"}); err != nil {
		t.Fatal(err)
	}
	members := topLevel(t, c.userInfo(token))
	var text struct {
		Avatar json.RawMessage `json:"avatar"`
		Name   string          `json:"nick_name"`
	}
	if err := json.Unmarshal(members[0].value, &text); err != nil || string(text.Avatar) != `"https:\/\/a\/b"` ||
		text.Name != `张"}三\` || !c.isSealed(members, members[0].value) {
		t.Errorf("node is %s, error %v", members[0].value, err)
	}
	if err := s.SetProfile(alipayApp, "alice", nil); err != nil {
		t.Fatal(err)
	}
	if node := c.open(c.userInfo(token), "alipay_user_info_share_response"); node["nick_name"] != "alice" {
		t.Errorf("node is %v", node)
	}

	c.wantUserInfoError(c.signIn()["access_token"], "40006", "isv.insufficient-user-permissions")
	c.wantUserInfoError("authusrB0123456789abcdef0123456789abcX01", "20001", "aop.invalid-auth-token")
	c.wantUserInfoError("", "20001", "aop.invalid-auth-token")
	c.wantUserInfoError(clientOf(t, s, alipayOther).signIn("auth_user")["access_token"], "20001", "aop.invalid-auth-token")
	clock.advance(15 * 24 * time.Hour)
	c.wantUserInfoError(token, "20001", "aop.invalid-auth-token")
}

func TestAlipayRefusesSettings(t *testing.T) {
	s, _ := newAlipayTest(t, func(c *Config) { c.MaxUsers = 1 })
	for name, do := range map[string]func() error{
		"migration of WeChat":   func() error { return s.SetMigration(testApp, "", MigrationBoth) },
		"unknown program":       func() error { return s.SetMigration("1", "", MigrationBoth) },
		"no stage":              func() error { return s.SetMigration(alipayApp, "", "") },
		"unknown stage":         func() error { return s.SetMigration(alipayApp, "alice", "openid") },
		"profile of WeChat":     func() error { return s.SetProfile(testApp, "alice", nil) },
		"profile of nobody":     func() error { return s.SetProfile(alipayApp, "", nil) },
		"profile with an id":    func() error { return s.SetProfile(alipayApp, "alice", map[string]string{"open_id": "x"}) },
		"too many users":        func() error { return s.SetMigration(alipayApp, "bob", MigrationBoth) },
		"keys of WeChat":        func() error { _, err := s.AlipayKeys(testApp); return err },
		"scopes of WeChat":      func() error { _, err := s.Login(testApp, "alice", "auth_user"); return err },
		"empty scope":           func() error { _, err := s.Login(alipayApp, "alice", ""); return err },
		"scope twice":           func() error { _, err := s.Login(alipayApp, "alice", "auth_user", "auth_user"); return err },
		"session key of Alipay": func() error { _, err := s.SessionKey(alipayApp, "alice"); return err },
	} {
		if err := s.SetMigration(alipayApp, "alice", MigrationBoth); err != nil {
			t.Fatal(err)
		}
		if err := do(); err == nil {
			t.Errorf("%s: it was accepted", name)
		}
	}
}
