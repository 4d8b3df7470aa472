// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/minigate/minigate/module/provider"
)

// console is a platform whose operator replaces the secret of a program.
type console struct {
	secret string
	asked  []string // with which secrets
	fails  error    // for another reason
}

// withSecret is the provider of a program, with one secret.
type withSecret struct {
	provider.Provider
	*console
	secret string
}

func (p *withSecret) Exchange(_ context.Context, code string) (provider.Grant, error) {
	p.asked = append(p.asked, p.secret)
	switch {
	case p.secret != p.console.secret:
		return provider.Grant{}, &provider.Error{Reason: provider.Misconfigured, PlatformCode: "40125"}
	case p.fails != nil:
		return provider.Grant{}, p.fails
	default:
		return provider.Grant{OpenID: code}, nil
	}
}

// A secret is replaced, in the console before the file or after: nobody's sign-in
// fails, and the platform is not asked in vain more than once.
func TestSecretIsHandedOver(t *testing.T) {
	platform := &console{secret: "old"}
	_, p := newNode(t, nil, nil, &withSecret{console: platform, secret: "old"})
	p.metrics = processMetrics.program("wechat", "wxA")
	change := func(secret string) {
		p.provider.Store(p.provider.Load().next(&withSecret{console: platform, secret: secret}, time.Now()))
	}
	expire := func() {
		h := p.provider.Load()
		p.provider.Store(&handover{current: h.current, previous: h.previous, until: time.Now()})
	}
	for _, step := range []struct {
		name  string
		do    func()
		asked []string
		fails bool
	}{
		{"before", func() {}, []string{"old"}, false},
		{"the file first", func() { change("new") }, []string{"old"}, false},
		{"then the console", func() { platform.secret = "new" }, []string{"old", "new"}, false},
		{"from then on", func() {}, []string{"new"}, false},
		{"the operator goes back", func() { platform.secret = "old" }, []string{"new", "old"}, false},
		{"and stays", func() {}, []string{"old"}, false},
		{"an hour later", func() { platform.secret = "new"; expire() }, []string{"new"}, false},
		{"the console first", func() { platform.secret = "newer" }, []string{"new"}, true},
		{"then the file", func() { change("newer") }, []string{"new", "newer"}, false},
		{"and now", func() {}, []string{"newer"}, false},
		{"a wrong one in the file", func() { change("typo") }, []string{"newer"}, false},
		{"and a right one", func() { change("newest"); platform.secret = "newest" }, []string{"newer", "newest"}, false},
		{"both are wrong", func() { platform.secret = "unknown" }, []string{"newest", "newer"}, true},
		{"right again", func() { platform.secret = "newest" }, []string{"newest"}, false},
		{"another failure", func() { platform.secret = "newest"; platform.fails = &provider.Error{Reason: provider.CodeInvalid} }, []string{"newest"}, true},
	} {
		step.do()
		platform.asked = nil
		grant, err := p.exchange(t.Context(), "c")
		if failed := err != nil; failed != step.fails || (err == nil && grant.OpenID != "c") || !slices.Equal(platform.asked, step.asked) {
			t.Errorf("%s: %v, asked with %q", step.name, err, platform.asked)
		}
	}
}

// A key by which the platform is verified was wrong, and is mended: the first code is
// lost by that, and no other.
func TestMendedKeyIsUsedAtOnce(t *testing.T) {
	broken := &console{secret: "s", fails: &provider.Error{Reason: provider.PlatformFault}}
	_, p := newNode(t, nil, nil, &withSecret{console: broken, secret: "s"})
	p.metrics = processMetrics.program("alipay", "2021")
	p.provider.Store(p.provider.Load().next(&withSecret{console: &console{secret: "s"}, secret: "s"}, time.Now()))
	if _, err := p.exchange(t.Context(), "c"); !errors.Is(err, broken.fails) {
		t.Fatal(err)
	}
	if _, err := p.exchange(t.Context(), "d"); err != nil || len(broken.asked) != 1 {
		t.Errorf("%v, asked %d times", err, len(broken.asked))
	}
}

// A code that was spent in a first step is not sent again because the program was
// refused in the second.
func TestSpentCodeIsNotSentWithAnotherSecret(t *testing.T) {
	platform := &console{secret: "old", fails: &provider.Error{Reason: provider.Misconfigured, Spent: true}}
	_, p := newNode(t, nil, nil, &withSecret{console: platform, secret: "old"})
	p.metrics = processMetrics.program("alipay", "2021")
	p.provider.Store(p.provider.Load().next(&withSecret{console: platform, secret: "new"}, time.Now()))
	if _, err := p.exchange(t.Context(), "c"); !errors.Is(err, platform.fails) || len(platform.asked) != 1 {
		t.Errorf("%v, asked with %q", err, platform.asked)
	}
}

// A code is never sent again after an answer that may have spent it.
func TestCodeIsNotSentAgainWithAnotherSecret(t *testing.T) {
	for _, reason := range []provider.Reason{
		provider.PlatformFault, provider.Unavailable, provider.CodeInvalid, provider.CodeUsed, provider.UserBlocked, provider.RateLimited,
	} {
		platform := &console{secret: "old", fails: &provider.Error{Reason: reason}}
		_, p := newNode(t, nil, nil, &withSecret{console: platform, secret: "old"})
		p.metrics = processMetrics.program("wechat", "wxA")
		p.provider.Store(p.provider.Load().next(&withSecret{console: platform, secret: "new"}, time.Now()))
		if _, err := p.exchange(t.Context(), "c"); !errors.Is(err, platform.fails) || len(platform.asked) != 1 {
			t.Errorf("%s: %v, asked with %q", reason, err, platform.asked)
		}
	}
}
