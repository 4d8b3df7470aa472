// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/simulator"
	"github.com/minigate/minigate/module/provider"
)

const otherAppID = "wxfedcba9876543210"

// simulated is a provider and the platform that it calls, over HTTP.
func simulated(t *testing.T) (*Provider, *simulator.Simulator) {
	t.Helper()
	s, err := simulator.New(simulator.Config{Programs: []simulator.Program{
		{Platform: "wechat", AppID: testAppID, Secret: testSecret},
		{Platform: "wechat", AppID: otherAppID, Secret: "other-secret"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return newProvider(t, []string{server.URL}), s
}

// signIn signs a user in.
func signIn(t *testing.T, p *Provider, s *simulator.Simulator, user string) provider.Holder {
	t.Helper()
	code, err := s.Login(testAppID, user)
	if err != nil {
		t.Fatal(err)
	}
	grant, err := p.Exchange(t.Context(), code)
	if err != nil {
		t.Fatal(err)
	}
	return provider.Holder{OpenID: grant.OpenID, SessionKey: grant.SessionKey}
}

// appToken asks for a token.
func appToken(t *testing.T, p *Provider) string {
	t.Helper()
	token, lifetime, err := p.AppToken(t.Context())
	if err != nil || lifetime <= 5*time.Minute || lifetime > 2*time.Hour {
		t.Fatalf("the token is good for %v, error %v", lifetime, err)
	}
	return token
}

// wantReason checks the reason of an error.
func wantReason(t *testing.T, err error, want provider.Reason) {
	t.Helper()
	if e := errorOf(t, err); e.Reason != want {
		t.Errorf("got %v, want %v", err, want)
	}
}

// Nodes that ask at the same time get the same token, or each would end the
// other's (40001 storms: silenceper/wechat#516, easywechat#1453).
func TestSimulatedToken(t *testing.T) {
	p, s := simulated(t)
	if first, second := appToken(t, p), appToken(t, p); first != second {
		t.Errorf("got %s and %s", first, second)
	}
	p.client.secret = "wrong-secret"
	_, _, err := p.AppToken(t.Context())
	wantReason(t, err, provider.Misconfigured)
	p.client.secret = testSecret
	for kind, want := range map[simulator.FaultKind]provider.Reason{
		simulator.FaultGarbage: provider.PlatformFault, simulator.FaultReset: provider.Unavailable, simulator.FaultMissingFields: provider.PlatformFault,
	} {
		if err := s.SetFault(simulator.Fault{Kind: kind, Times: 1}); err != nil {
			t.Fatal(err)
		}
		_, _, err := p.AppToken(t.Context())
		wantReason(t, err, want)
	}
}

// A code for a number is of one user of one program, works once, and is not a
// login code (threads around getuserphonenumber).
func TestSimulatedPhone(t *testing.T) {
	p, s := simulated(t)
	alice, bob, token := signIn(t, p, s, "alice"), signIn(t, p, s, "bob"), appToken(t, p)
	share := func(appID, country string) string {
		code, err := s.SharePhone(simulator.Phone{Program: appID, User: "alice", Number: "13580006666", CountryCode: country})
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	code := share(testAppID, "")
	_, err := p.PhoneByCode(t.Context(), token, code, bob.OpenID)
	wantReason(t, err, provider.CodeInvalid)
	_, err = p.PhoneByCode(t.Context(), "88_no-token", code, alice.OpenID)
	wantReason(t, err, provider.TokenRejected)
	_, err = p.PhoneByCode(t.Context(), "", code, alice.OpenID)
	wantReason(t, err, provider.Misconfigured)
	number, err := p.PhoneByCode(t.Context(), token, code, alice.OpenID)
	if err != nil || number != (provider.PhoneNumber{Number: "13580006666", CountryCode: "86"}) {
		t.Errorf("got %+v %v", number, err)
	}
	_, err = p.PhoneByCode(t.Context(), token, code, alice.OpenID)
	wantReason(t, err, provider.CodeInvalid)
	_, err = p.PhoneByCode(t.Context(), token, share(otherAppID, ""), alice.OpenID)
	wantReason(t, err, provider.CodeInvalid)
	login, err := s.Login(testAppID, "alice")
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.PhoneByCode(t.Context(), token, login, alice.OpenID)
	wantReason(t, err, provider.CodeInvalid)
	if number, err = p.PhoneByCode(t.Context(), token, share(testAppID, "1"), alice.OpenID); err != nil || number.CountryCode != "1" {
		t.Errorf("got %+v %v", number, err)
	}

	// Answers that are not quite those of the documentation.
	for kind, want := range map[simulator.FaultKind]provider.Reason{
		simulator.FaultMissingFields: provider.PlatformFault, simulator.FaultWrongTypes: provider.PlatformFault, simulator.FaultGarbage: provider.PlatformFault,
	} {
		if err := s.SetFault(simulator.Fault{Kind: kind, Times: 1}); err != nil {
			t.Fatal(err)
		}
		_, err := p.PhoneByCode(t.Context(), token, share(testAppID, ""), alice.OpenID)
		wantReason(t, err, want)
	}
	if err := s.SetFault(simulator.Fault{Kind: simulator.FaultStringNumbers}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.PhoneByCode(t.Context(), token, share(testAppID, ""), alice.OpenID); err != nil {
		t.Error(err)
	}
	_, err = p.PhoneByCode(t.Context(), token, code, alice.OpenID)
	wantReason(t, err, provider.CodeInvalid)
}

// A second wx.login makes another key and ends the first one, which is what most
// failures to decrypt come from (WxJava#359).
func TestSimulatedSessionKey(t *testing.T) {
	p, s := simulated(t)
	token := appToken(t, p)
	old := signIn(t, p, s, "alice")
	if err := p.CheckSessionKey(t.Context(), token, old); err != nil {
		t.Error(err)
	}
	alice := signIn(t, p, s, "alice")
	wantReason(t, p.CheckSessionKey(t.Context(), token, old), provider.KeyStale)
	_, err := p.ResetSessionKey(t.Context(), token, old)
	wantReason(t, err, provider.KeyStale)
	wantReason(t, p.CheckSessionKey(t.Context(), token, provider.Holder{OpenID: "oNobody", SessionKey: alice.SessionKey}), provider.KeyStale)
	wantReason(t, p.CheckSessionKey(t.Context(), "88_no-token", alice), provider.TokenRejected)
	_, err = p.ResetSessionKey(t.Context(), "88_no-token", alice)
	wantReason(t, err, provider.TokenRejected)

	key, err := p.ResetSessionKey(t.Context(), token, alice)
	if err != nil || key == alice.SessionKey {
		t.Fatalf("got %q %v", key, err)
	}
	wantReason(t, p.CheckSessionKey(t.Context(), token, alice), provider.KeyStale)
	alice.SessionKey = key
	if err := p.CheckSessionKey(t.Context(), token, alice); err != nil {
		t.Error(err)
	}
}

// What a phone hands out opens with the user's key and with no other's.
func TestSimulatedOpenData(t *testing.T) {
	p, s := simulated(t)
	alice, bob := signIn(t, p, s, "alice"), signIn(t, p, s, "bob")
	encrypt := func(e simulator.Encryption) simulator.Encrypted {
		e.Program, e.User = testAppID, "alice"
		result, err := s.Encrypt(e)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	refused := func(name string, holder provider.Holder, data simulator.Encrypted) {
		if plain, err := p.Decrypt(holder, data.EncryptedData, data.IV); !errors.Is(err, provider.ErrData) {
			t.Errorf("%s: %q %v", name, plain, err)
		}
	}

	data := encrypt(simulator.Encryption{Data: json.RawMessage(`{"nickName":"张三","gender":2}`), UserInfo: true, WithOpenID: true})
	plain, err := p.Decrypt(alice, data.EncryptedData, data.IV)
	if err != nil {
		t.Fatal(err)
	}
	want := provider.UserInfo{Nickname: "张三", Gender: "female"}
	if info, err := p.UserInfo(plain); err != nil || info != want {
		t.Errorf("got %+v %v", info, err)
	}
	if err := p.Verify(alice, data.RawData, data.Signature); err != nil {
		t.Error(err)
	}
	if info, err := p.UserInfo([]byte(data.RawData)); err != nil || info != want {
		t.Errorf("got %+v %v", info, err)
	}
	if err := p.Verify(bob, data.RawData, data.Signature); !errors.Is(err, provider.ErrData) {
		t.Errorf("with another user's key: %v", err)
	}
	refused("another user's key", bob, data)
	refused("another user", provider.Holder{OpenID: bob.OpenID, SessionKey: alice.SessionKey}, data)
	refused("another program", alice, encrypt(simulator.Encryption{Data: json.RawMessage(`{}`), Watermark: simulator.Watermark{AppID: otherAppID}}))
	refused("2016", alice, encrypt(simulator.Encryption{Data: json.RawMessage(`{}`), Watermark: simulator.Watermark{Timestamp: 1477314187}}))
	refused("no watermark", alice, encrypt(simulator.Encryption{Data: json.RawMessage(`{}`), Watermark: simulator.Watermark{Omit: true}}))

	data = encrypt(simulator.Encryption{Data: json.RawMessage(`{"phoneNumber":"13580006666","purePhoneNumber":"13580006666","countryCode":"86"}`)})
	if plain, err = p.Decrypt(alice, data.EncryptedData, data.IV); err != nil {
		t.Fatal(err)
	}
	if number, err := p.PhoneNumber(plain); err != nil || number != (provider.PhoneNumber{Number: "13580006666", CountryCode: "86"}) {
		t.Errorf("got %+v %v", number, err)
	}
	if _, err := p.UserInfo(plain); !errors.Is(err, provider.ErrData) {
		t.Errorf("a number as user information: %v", err)
	}

	// What phones say of everybody since 2022 says nothing.
	data = encrypt(simulator.Encryption{Data: json.RawMessage(`{}`), UserInfo: true})
	if err := p.Verify(alice, data.RawData, data.Signature); err != nil {
		t.Error(err)
	}
	if info, err := p.UserInfo([]byte(data.RawData)); err != nil || info != (provider.UserInfo{}) {
		t.Errorf("got %+v %v", info, err)
	}
}
