// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/session"
)

// listed returns the ids of all pages, and how many records could not be read.
func (f *fixture) listed(q session.Query) (ids []string, unreadable int) {
	f.t.Helper()
	for range 10_000 {
		page, err := f.List(f.t.Context(), q)
		if err != nil {
			f.t.Fatal(err)
		}
		if len(page.Sessions)+page.Unreadable > q.Limit {
			f.t.Fatalf("%d sessions and %d unreadable on a page of %d", len(page.Sessions), page.Unreadable, q.Limit)
		}
		unreadable += page.Unreadable
		for _, s := range page.Sessions {
			if s.State != session.StateValid {
				f.t.Errorf("session %s is %s", s.ID, s.State)
			}
			ids = append(ids, s.ID)
		}
		if page.Next == "" {
			return ids, unreadable
		}
		q.After = page.Next
	}
	f.t.Fatal("there is no last page")
	return nil, 0
}

// An operator goes through all sessions page by page: he sees each once, whatever
// the size of a page, several of one user and what cannot be read among them.
func TestListShowsEachSessionOnce(t *testing.T) {
	f := newFixture(t, nil)
	var want []string
	for i := range 300 {
		user := identity.Identity{Platform: "wechat", Program: "wxA", OpenID: fmt.Sprint(i)}
		for range 1 + i%4 {
			s, _ := f.create(user)
			want = append(want, s.ID)
			f.clock.advance(time.Second)
		}
	}
	for i := range 30 {
		if err := f.store.Put(t.Context(), fmt.Sprintf("user/%d%021d", i, i), []byte("damaged"), 0); err != nil {
			t.Fatal(err)
		}
		// What else is kept of a user is not a record of sessions.
		if err := f.store.Put(t.Context(), "user/"+alice.Subject()+"/profile", []byte("other"), 0); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	for _, limit := range []int{1, 2, 3, 7, 100, 749, 750, 751, 779, 780, 781, 1000} {
		got, unreadable := f.listed(session.Query{Limit: limit})
		if slices.Sort(got); !slices.Equal(got, want) || unreadable != 30 {
			t.Errorf("pages of %d: %d sessions, want %d; %d unreadable", limit, len(got), len(want), unreadable)
		}
	}
}

func TestListFilters(t *testing.T) {
	f := newFixture(t, func(o *session.Options) { o.Lifetime, o.Idle = 100*time.Hour, 40*time.Hour })
	expired, _ := f.create(bob)
	f.clock.advance(41 * time.Hour)
	begun := f.clock.now()
	first, _ := f.create(alice)
	f.clock.advance(10 * time.Hour)
	namesake, _ := f.create(identity.Identity{Platform: "alipay", Program: alice.Program, OpenID: alice.OpenID})
	f.clock.advance(10 * time.Hour)
	second, token := f.create(alice)
	third, _ := f.create(bob)
	ended, _ := f.create(bob)
	if ok, err := f.End(t.Context(), bob.Subject(), ended.ID); err != nil || !ok {
		t.Fatal(ok, err)
	}
	f.clock.advance(10 * time.Hour)
	if _, _, err := f.Validate(t.Context(), token); err != nil { // it is in use
		t.Fatal(err)
	}
	f.Wait()
	now := f.clock.now()
	for name, test := range map[string]struct {
		session.Query
		want []*session.Session
	}{
		"all":            {session.Query{}, []*session.Session{first, namesake, second, third}},
		"program":        {session.Query{Program: alice.Program}, []*session.Session{first, namesake, second}},
		"platform":       {session.Query{Platform: "wechat"}, []*session.Session{first, second, third}},
		"both":           {session.Query{Platform: "wechat", Program: alice.Program}, []*session.Session{first, second}},
		"neither":        {session.Query{Platform: "alipay", Program: bob.Program}, nil},
		"user":           {session.Query{Subject: alice.Subject()}, []*session.Session{first, second}},
		"nobody":         {session.Query{Subject: "nobody"}, nil},
		"since":          {session.Query{Since: begun.Add(10 * time.Hour)}, []*session.Session{namesake, second, third}},
		"until":          {session.Query{Until: begun.Add(10 * time.Hour)}, []*session.Session{first, namesake}},
		"between":        {session.Query{Since: begun.Add(time.Second), Until: begun.Add(19 * time.Hour)}, []*session.Session{namesake}},
		"idle":           {session.Query{UsedBefore: now.Add(-5 * time.Hour)}, []*session.Session{first, namesake, third}},
		"user, and idle": {session.Query{Subject: alice.Subject(), UsedBefore: now.Add(-5 * time.Hour)}, []*session.Session{first}},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			for _, s := range test.want {
				want = append(want, s.ID)
			}
			for _, limit := range []int{1, 100} {
				test.Limit = limit
				got, _ := f.listed(test.Query)
				slices.Sort(got)
				if slices.Sort(want); !slices.Equal(got, want) {
					t.Errorf("pages of %d: %v, want %v", limit, got, want)
				}
			}
		})
	}
	_ = expired
	f.revokeProgram(alice.Platform, alice.Program)
	if got, _ := f.listed(session.Query{Limit: 10}); len(got) != 2 {
		t.Errorf("without the program: %v", got)
	}
	f.revokeEveryone()
	if got, _ := f.listed(session.Query{Limit: 10}); len(got) != 0 {
		t.Errorf("when everyone is signed out: %v", got)
	}
}

func TestListRefusesForeignCursors(t *testing.T) {
	f := newFixture(t, nil)
	for _, after := range []string{"x", "!", "e30", "bnVsbA", "W10"} {
		if _, err := f.List(t.Context(), session.Query{Limit: 1, After: after}); !errors.Is(err, session.ErrCursor) {
			t.Errorf("%q: %v", after, err)
		}
	}
}

// A token that somebody reports: what is it, and whose? To ask is not to use it.
func TestDescribeToken(t *testing.T) {
	f := newFixture(t, func(o *session.Options) { o.Lifetime, o.Idle, o.PerUser = 10*time.Hour, 2*time.Hour, 2 })
	s, token := f.create(alice)
	describe := func(token string, want session.State) (*session.TokenDescription, *session.Description) {
		t.Helper()
		d, user, err := f.DescribeToken(t.Context(), token)
		if err != nil || d.State != want {
			t.Fatalf("%+v, %v, want %s", d, err, want)
		}
		return d, user
	}
	f.clock.advance(time.Hour)
	d, user := describe(token, session.StateValid)
	if d.SessionID != s.ID || d.Subject != alice.Subject() || d.KeyID != f.Keys.ActiveID() || user.Identity != alice || len(user.Sessions) != 1 || user.PlatformKeys != 1 {
		t.Errorf("%+v, %+v", d, user)
	}
	f.Wait()
	f.clock.advance(time.Hour) // describing it was no use
	if _, user = describe(token, session.StateExpired); user == nil {
		t.Error("whose it was is not told")
	}
	_, old := f.create(alice)
	_, token = f.create(alice)
	f.create(alice)
	describe(old, session.StateRevoked)
	describe(token, session.StateValid)
	f.revokeEveryone()
	describe(token, session.StateRevoked)
	f.clock.advance(11 * time.Hour)
	describe(token, session.StateExpired)

	describe("rubbish", session.StateInvalid)
	describe("", session.StateInvalid)
	describe(token[:len(token)-2], session.StateInvalid)
	foreign, err := keyring.New(bytes.Repeat([]byte{9}, keyring.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	made, err := foreign.SignToken([]byte(`{"sub":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	if d, user := describe(made, session.StateForeignKey); d.KeyID != foreign.ActiveID() || d.Subject != "" || user != nil {
		t.Errorf("%+v, %+v", d, user)
	}
}

func TestEnd(t *testing.T) {
	f := newFixture(t, nil)
	s, token := f.create(alice)
	_, other := f.create(alice)
	if subject, err := f.Find(t.Context(), s.ID); err != nil || subject != alice.Subject() {
		t.Errorf("found %q, %v", subject, err)
	}
	if subject, err := f.Find(t.Context(), "nobody"); err != nil || subject != "" {
		t.Errorf("found %q, %v", subject, err)
	}
	for i, want := range []bool{true, false} {
		if ended, err := f.End(t.Context(), alice.Subject(), s.ID); err != nil || ended != want {
			t.Errorf("time %d: %v, %v", i, ended, err)
		}
	}
	f.expect(token, session.ErrRevoked)
	f.expect(other, nil)
	f.create(alice)
	for i, want := range []int{2, 0} {
		if n, err := f.EndAll(t.Context(), alice.Subject()); err != nil || n != want {
			t.Errorf("time %d: %d, %v", i, n, err)
		}
	}
	f.expect(other, session.ErrRevoked)
	f.create(alice)
	f.revokeEveryone()
	if n, err := f.EndAll(t.Context(), alice.Subject()); err != nil || n != 0 {
		t.Errorf("after everyone: %d, %v", n, err)
	}
	if n, err := f.EndAll(t.Context(), "nobody"); err != nil || n != 0 {
		t.Errorf("nobody: %d, %v", n, err)
	}
}
