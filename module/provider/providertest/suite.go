// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package providertest is the conformance suite of providers: it runs a
// provider against a platform that misbehaves in every way a network and a
// server can, and checks that the contract of module/provider holds.
package providertest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/minigate/minigate/module/provider"
)

// Suite describes a provider to the suite. All functions may be called
// concurrently. Every field is required unless its comment says otherwise.
type Suite struct {
	// AppID is the id of the program that New makes a provider of.
	AppID string

	// Secrets are the values of New's configuration that no error may show. Make
	// them long enough not to occur by chance.
	Secrets []string

	// New makes a provider, provisioned and validated, that calls the platform at
	// the given base URLs (http, loopback), trying them in this order. What it
	// makes ends with t.
	New func(t testing.TB, bases []string) provider.Provider

	// Code returns a login code of the right form, another one for every n, of at
	// least 16 bytes, so that the suite can look for it in errors.
	Code func(n int) string

	// Grant returns the grant of the user whose code is Code(n).
	Grant func(n int) provider.Grant

	// CodeOf returns the login code in a request of the provider, empty if the
	// request has none. It may read the body; Succeed and Refuse get it again.
	CodeOf func(r *http.Request) string

	// Succeed answers a request as the platform does when all is well. The grant
	// is zero if the request has no code.
	Succeed func(w http.ResponseWriter, r *http.Request, grant provider.Grant)

	// Refuse answers a request as the platform does when it refuses, with the
	// given text where the platform explains why.
	Refuse func(w http.ResponseWriter, r *http.Request, message string)

	// Malformed are further values that cannot be a login code. Optional.
	Malformed []string

	// Unusable are further bodies that are no answer, such as the platform's own
	// with a field of a wrong type. Optional.
	Unusable []string
}

const (
	// patience is how long a call may take that must not wait for anything.
	patience = 20 * time.Second

	// short is the deadline of calls that are meant to end by it.
	short = 250 * time.Millisecond

	// longestError is the most bytes of an error's text.
	longestError = 2048
)

// Run runs every test of the suite.
func Run(t *testing.T, s Suite) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Suite)
	}{
		{"Success", testSuccess},
		{"NoCallBeforeLogin", testNoCallBeforeLogin},
		{"MalformedCodes", testMalformedCodes},
		{"UnusableAnswers", testUnusableAnswers},
		{"Redirects", testRedirects},
		{"Refusals", testRefusals},
		{"Echoes", testEchoes},
		{"EndlessAnswers", testEndlessAnswers},
		{"SlowAnswers", testSlowAnswers},
		{"Cancellation", testCancellation},
		{"BrokenConnections", testBrokenConnections},
		{"KeptConnections", testKeptConnections},
		{"FailOver", testFailOver},
		{"NothingListens", testNothingListens},
		{"ManyAtOnce", testManyAtOnce},
		{"CleanUp", testCleanUp},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s) })
	}
}

func testSuccess(t *testing.T, s Suite) {
	platform := start(t, s, s.succeed)
	p := s.New(t, []string{platform.URL})
	for n := range 3 {
		if got := p.AppID(); got != s.AppID {
			t.Errorf("app id is %q, want %q", got, s.AppID)
		}
		s.succeeds(t, p, n)
	}
	if got := p.AppID(); got != s.AppID {
		t.Errorf("app id is %q after use, want %q", got, s.AppID)
	}
	for n := range 3 {
		platform.sawOnce(t, n)
	}
}

func testNoCallBeforeLogin(t *testing.T, s Suite) {
	platform := start(t, s, s.succeed)
	_ = s.New(t, []string{platform.URL}).AppID()
	if n := platform.connections.Load(); n != 0 {
		t.Errorf("the platform was called %d times before any login", n)
	}
}

func testMalformedCodes(t *testing.T, s Suite) {
	platform := start(t, s, s.succeed)
	p := s.New(t, []string{platform.URL})
	code := s.Code(0)
	for _, malformed := range slices.Concat([]string{
		"",
		strings.Repeat("x", 10<<10),
		"x&appid=evil",
		"x?appid=evil",
		"x#y",
		"x%26appid%3Devil",
		code + "&appid=evil",
		code + "\r\nX-Evil: 1",
		code + "\n",
		"\x00" + code,
		code + "\x00",
		code + "\xff\xfe",
		code + " ",
		" " + code,
		code + "\u200b",
		code + "é",
		`{"code":"x"}`,
		"../../evil",
	}, s.Malformed) {
		_, err := s.exchange(t, p, malformed)
		s.fails(t, err, malformed, provider.CodeMalformed)
	}
	if n := platform.connections.Load(); n != 0 {
		t.Errorf("malformed codes made %d calls", n)
	}
}

func testCleanUp(t *testing.T, s Suite) {
	platform := start(t, s, s.succeed)
	t.Run("use", func(t *testing.T) {
		s.succeeds(t, s.New(t, []string{platform.URL}), 0)
	})
	platform.waitUntilLeft(t)
}

// succeed answers a request with the grant of its code.
func (s Suite) succeed(w http.ResponseWriter, r *http.Request, n int) {
	if n < 0 {
		s.Succeed(w, r, provider.Grant{})
		return
	}
	s.Succeed(w, r, s.Grant(n))
}

// exchange exchanges a code.
func (s Suite) exchange(t testing.TB, p provider.Provider, code string) (provider.Grant, error) {
	t.Helper()
	return s.exchangeWithin(t.Context(), t, p, code)
}

// exchangeWithin exchanges a code and gives up on a provider that hangs, even on
// one that does not heed the context.
func (s Suite) exchangeWithin(ctx context.Context, t testing.TB, p provider.Provider, code string) (provider.Grant, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var grant provider.Grant
	done := make(chan error, 1)
	go func() {
		var err error
		grant, err = p.Exchange(ctx, code)
		done <- err
	}()
	select {
	case err := <-done:
		return grant, err
	case <-time.After(patience + time.Second):
		t.Error("the exchange hangs")
		return provider.Grant{}, &provider.Error{Reason: provider.Unavailable, Err: errors.New("given up by the suite")}
	}
}

// succeeds checks that the exchange of Code(n) gives Grant(n).
func (s Suite) succeeds(t testing.TB, p provider.Provider, n int) {
	t.Helper()
	grant, err := s.exchange(t, p, s.Code(n))
	if err != nil {
		t.Errorf("exchanging code %d: %v", n, err)
	} else if want := s.Grant(n); grant != want {
		t.Errorf("grant %d is %+v, want %+v", n, grant, want)
	}
}

// fails checks that err keeps the contract of errors, and that its reason is one
// of those allowed.
func (s Suite) fails(t testing.TB, err error, code string, allowed ...provider.Reason) {
	t.Helper()
	var e *provider.Error
	switch {
	case err == nil:
		t.Errorf("got a grant, want an error of %v", allowed)
		return
	case !errors.As(err, &e):
		t.Errorf("error is no *provider.Error: %T", err)
		return
	case len(allowed) > 0 && !slices.Contains(allowed, e.Reason):
		t.Errorf("reason is %v, want one of %v: %v", e.Reason, allowed, err)
	case len(err.Error()) > longestError:
		t.Errorf("error has %d bytes", len(err.Error()))
	}
	texts := append(textsOf(err), e.PlatformCode, e.PlatformMessage, e.TraceID)
	for _, text := range texts {
		for _, secret := range append(slices.Clone(s.Secrets), code) {
			if len(secret) >= 16 && (strings.Contains(text, secret) || strings.Contains(text, url.QueryEscape(secret))) {
				t.Errorf("error shows a secret or the code: %q", text)
			}
		}
		if strings.ContainsFunc(text, unicode.IsControl) {
			t.Errorf("error has control characters: %q", text)
		}
	}
}

// textsOf returns the text of err and of everything that it wraps.
func textsOf(err error) []string {
	texts := []string{err.Error(), fmt.Sprintf("%+v", err)}
	if inner := errors.Unwrap(err); inner != nil {
		return append(texts, textsOf(inner)...)
	}
	if several, ok := any(err).(interface{ Unwrap() []error }); ok {
		for _, inner := range several.Unwrap() {
			texts = append(texts, textsOf(inner)...)
		}
	}
	return texts
}
