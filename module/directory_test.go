// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/store"
)

// mapStore is a store for tests of one goroutine.
type mapStore struct {
	store.Store
	values map[string][]byte
}

func (s *mapStore) Get(_ context.Context, key string) ([]byte, error) {
	value, ok := s.values[key]
	if !ok {
		return nil, store.ErrNotFound
	}
	return value, nil
}

func (s *mapStore) Update(_ context.Context, key string, change store.Change) error {
	value, _, err := change(s.values[key])
	if err == nil {
		s.values[key] = value
	}
	return err
}

func (s *mapStore) Delete(_ context.Context, key string) error {
	delete(s.values, key)
	return nil
}

func newDirectory(t *testing.T) (*directory, *mapStore) {
	t.Helper()
	keys, err := keyring.New(keyring.NewMaster())
	if err != nil {
		t.Fatal(err)
	}
	s := &mapStore{values: make(map[string][]byte)}
	now := time.Unix(1_700_000_000, 0)
	return &directory{store: s, keys: keys, warn: func(error) {}, now: func() time.Time {
		now = now.Add(time.Second)
		return now
	}}, s
}

// A platform moves its users from one kind of id to another: whoever is first
// known by one keeps it, whatever comes later (JustAuth#195 is what happens to
// those who expect one id only).
func TestDirectoryKeepsTheFirstID(t *testing.T) {
	const u, o = "2088000000000001", "083abcDEF"
	type login struct{ openID, userID string }
	for name, test := range map[string]struct {
		logins []login
		want   string
	}{
		"always old":              {[]login{{"", u}, {"", u}}, u},
		"always new":              {[]login{{o, ""}, {o, ""}}, o},
		"both from the start":     {[]login{{o, u}, {o, u}, {o, ""}}, u},
		"old, both, new":          {[]login{{"", u}, {o, u}, {o, ""}, {"", u}}, u},
		"new, both, new":          {[]login{{o, ""}, {o, u}, {o, ""}, {"", u}}, o},
		"back to the old":         {[]login{{o, ""}, {o, u}, {"", u}}, o},
		"apart, then together":    {[]login{{"", u}, {o, ""}, {o, u}, {o, ""}, {"", u}}, u},
		"apart, the other way":    {[]login{{o, ""}, {"", u}, {o, u}, {o, ""}, {"", u}}, o},
		"old, new without a link": {[]login{{"", u}, {o, ""}}, o},
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := newDirectory(t)
			var last string
			for _, l := range test.logins {
				user, err := d.identify(t.Context(), "alipay", "2021", provider.Grant{OpenID: l.openID, UserID: l.userID, Renames: true})
				if err != nil {
					t.Fatal(err)
				}
				if user.OpenID != l.openID {
					t.Errorf("openid is %q, want %q", user.OpenID, l.openID)
				}
				last = user.FirstID()
			}
			if last != test.want {
				t.Errorf("known as %q, want %q", last, test.want)
			}
		})
	}
}

func TestDirectoryKeepsUsersApart(t *testing.T) {
	d, s := newDirectory(t)
	seen := make(map[string]bool)
	for _, user := range [][4]string{
		{"alipay", "2021", "a", ""}, {"alipay", "2021", "", "a"}, {"alipay", "2021", "A", ""}, {"alipay", "202", "1a", ""}, {"other", "2021", "a", ""},
	} {
		who, err := d.identify(t.Context(), user[0], user[1], provider.Grant{OpenID: user[2], UserID: user[3], Renames: true})
		if err != nil {
			t.Fatal(err)
		}
		seen[who.Platform+"|"+who.Program+"|"+who.OpenID+"|"+who.KnownAs] = true
	}
	if len(seen) != 5 || len(s.values) != 5 {
		t.Errorf("%d users, %d records", len(seen), len(s.values))
	}
	for key, value := range s.values {
		if strings.Contains(key+string(value), "2021") || !strings.HasPrefix(key, directoryPrefix) {
			t.Errorf("record %s is not sealed", key)
		}
	}
	before := len(s.values)
	if _, err := d.identify(t.Context(), "wechat", "wx1", provider.Grant{OpenID: "o"}); err != nil || len(s.values) != before {
		t.Errorf("a platform that does not rename: %v, %d records", err, len(s.values))
	}
	if _, err := d.identify(t.Context(), "alipay", "2021", provider.Grant{Renames: true}); err == nil {
		t.Error("nobody is somebody")
	}
}

// A record that cannot be read, or stands in another's place, locks nobody out.
func TestDirectoryUnreadable(t *testing.T) {
	d, s := newDirectory(t)
	grant := provider.Grant{OpenID: "o", UserID: "u", Renames: true}
	if _, err := d.identify(t.Context(), "alipay", "2021", grant); err != nil {
		t.Fatal(err)
	}
	warned := 0
	d.warn = func(error) { warned++ }
	other := directoryKey("alipay", "2021", "openid", "other")
	s.values[other] = s.values[directoryKey("alipay", "2021", "openid", "o")]
	user, err := d.identify(t.Context(), "alipay", "2021", provider.Grant{OpenID: "other", Renames: true})
	if err != nil || user.FirstID() != "other" || warned == 0 {
		t.Errorf("%+v, %v, %d warnings", user, err, warned)
	}
	if err := d.keys.Replace(keyring.NewMaster()); err != nil {
		t.Fatal(err)
	}
	if user, err = d.identify(t.Context(), "alipay", "2021", grant); err != nil || user.FirstID() != "u" {
		t.Errorf("after the key is gone: %+v, %v", user, err)
	}
}

// Erased means erased: whichever of his ids a user is named by, all of them go,
// and if he comes back he is a new user. Others stay as they are.
func TestDirectoryForgets(t *testing.T) {
	const u, o = "2088000000000001", "083abcDEF"
	for name, grants := range map[string][]provider.Grant{
		"both ids at once":        {{OpenID: o, UserID: u}},
		"one id after the other":  {{UserID: u}, {OpenID: o, UserID: u}, {OpenID: o}},
		"the other way":           {{OpenID: o}, {OpenID: o, UserID: u}, {UserID: u}},
		"apart and then together": {{UserID: u}, {OpenID: o}, {OpenID: o, UserID: u}},
	} {
		for _, by := range []string{u, o} {
			t.Run(name+", by "+by, func(t *testing.T) {
				d, s := newDirectory(t)
				if _, err := d.identify(t.Context(), "alipay", "2021", provider.Grant{OpenID: "other", UserID: "another", Renames: true}); err != nil {
					t.Fatal(err)
				}
				others := len(s.values)
				var first string
				for _, grant := range grants {
					grant.Renames = true
					user, err := d.identify(t.Context(), "alipay", "2021", grant)
					if err != nil {
						t.Fatal(err)
					}
					first = user.FirstID()
				}
				user, err := d.resolve(t.Context(), "alipay", "2021", by)
				if err != nil || user.FirstID() != first {
					t.Fatalf("%s is %+v, %v; first known as %s", by, user, err, first)
				}
				if err := d.forget(t.Context(), user); err != nil || len(s.values) != others {
					t.Errorf("%d records are left of %d, %v", len(s.values), others, err)
				}
			})
		}
	}
}

// The code of another user must not fill somebody's profile; the same user under
// his other id is no other user.
func TestDirectoryIsUser(t *testing.T) {
	const u, o = "2088000000000001", "083abcDEF"
	d, _ := newDirectory(t)
	if _, err := d.identify(t.Context(), "alipay", "2021", provider.Grant{UserID: u, Renames: true}); err != nil {
		t.Fatal(err)
	}
	user, err := d.identify(t.Context(), "alipay", "2021", provider.Grant{OpenID: o, UserID: u, Renames: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.identify(t.Context(), "alipay", "2021", provider.Grant{OpenID: "other", UserID: "another", Renames: true}); err != nil {
		t.Fatal(err)
	}
	before := user
	before.OpenID = "" // a session of the time when he had none
	for _, test := range []struct {
		openID, userID string
		want           bool
	}{
		{o, u, true},
		{o, "", true},
		{"", u, true},
		{"other", "another", false},
		{"", "another", false},
		{"unknown", "", false},
		{"", "", false},
	} {
		for _, who := range []struct {
			name string
			user identity.Identity
		}{{"now", user}, {"before", before}} {
			grant := provider.Grant{OpenID: test.openID, UserID: test.userID, Renames: true}
			if got, err := d.isUser(t.Context(), who.user, grant); err != nil || got != test.want {
				t.Errorf("%+v, %s: %v, %v", test, who.name, got, err)
			}
		}
	}
}
