// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"
)

// The first and the last vector are WeChat's own, from its pages on signatures
// and on VoIP. The key is the base64 text: who decodes it first gets another
// signature, and error 87009.
func TestKeySignatureVectors(t *testing.T) {
	for _, test := range []struct{ key, message, want string }{
		{
			"o0q0otL8aEzpcZL/FT9WsQ==", `{"foo":"bar"}`,
			"654571f79995b2ce1e149e53c0a33dc39c0a74090db514261454e8dbe432aa0b",
		},
		{
			"o0q0otL8aEzpcZL/FT9WsQ==", "",
			"46e043c5525c2d817c44be603d30837a808a1d930d038f6fdc3e62a201fed128",
		},
		{
			"tiihtNczf5v6AKRyjwEUhQ==", "",
			"7154f9f8b4b76b92f541cbf0e37d48840fa06e5e42da92a6f80168a1516a4735",
		},
		{
			"gDyVgzwa0mFz9uUP7M6GQQ==", "1559129713_67297598215591297148AP6DT9ybtniUJfbwx20afc706a711eefc",
			"b002b824688dd8593a6079e11d8c5e8734fbcb39a6d5906eb347bfbcad79c617",
		},
	} {
		if got := keySignature(test.key, test.message); got != test.want {
			t.Errorf("signature of %q is %s, want %s", test.message, got, test.want)
		}
	}
}

// A user has one valid key. By default each exchange replaces it.
func TestSessionKeyRotatesAtExchange(t *testing.T) {
	s, _ := newTest(t)
	first := signIn(t, s, "alice")
	// Obtaining a code alone does not rotate the key.
	login(t, s, testApp, "alice")
	if key, err := s.SessionKey(testApp, "alice"); err != nil || key != first {
		t.Errorf("session key is %q, error %v, want %q", key, err, first)
	}
	second := signIn(t, s, "alice")
	if first == second {
		t.Error("the second exchange kept the key")
	}
	token := stableToken(t, s)
	wantErrcode(t, callJSON(t, s, http.MethodGet, keyURL(t, s, weChatCheckSessionPath, token, first), ""), 87009)
	wantErrcode(t, callJSON(t, s, http.MethodGet, keyURL(t, s, weChatCheckSessionPath, token, second), ""), 0)
}

// With a shortest period, a user who signs in again soon keeps the key, as the
// platform's refresh has a shortest period too.
func TestSessionKeyPeriod(t *testing.T) {
	s, clock := newTest(t, func(c *Config) { c.Programs[0].SessionKeyPeriod = time.Minute })
	first := signIn(t, s, "alice")
	clock.advance(time.Minute - 1)
	if key := signIn(t, s, "alice"); key != first {
		t.Error("the key changed within the period")
	}
	clock.advance(1)
	if key := signIn(t, s, "alice"); key == first {
		t.Error("the key did not change after the period")
	}
}

// A key ends some time after the last use, not after it was made.
func TestSessionKeyLifetime(t *testing.T) {
	s, clock := newTest(t, func(c *Config) {
		c.Programs[0].SessionKeyPeriod = 24 * time.Hour
		c.Programs[0].SessionKeyLifetime = time.Hour
	})
	first := signIn(t, s, "alice")
	clock.advance(time.Hour - 1)
	if key := signIn(t, s, "alice"); key != first {
		t.Error("the key changed before its end")
	}
	clock.advance(time.Hour - 1)
	if _, err := s.SessionKey(testApp, "alice"); err != nil {
		t.Errorf("use did not extend the key's life: %v", err)
	}
	clock.advance(1)
	if _, err := s.SessionKey(testApp, "alice"); !errors.Is(err, ErrNoSessionKey) {
		t.Errorf("error is %v, want %v", err, ErrNoSessionKey)
	}
	if key := signIn(t, s, "alice"); key == first {
		t.Error("an expired key came back")
	}
}

// Memory must not grow with the number of users who ever signed in.
func TestUsersAreBounded(t *testing.T) {
	s, _ := newTest(t, func(c *Config) { c.MaxUsers = 3 })
	for i := range 10 {
		signIn(t, s, "user"+strconv.Itoa(i))
		signIn(t, s, "regular")
	}
	if _, err := s.SessionKey(testApp, "regular"); err != nil {
		t.Errorf("the user of the last sign-in was forgotten: %v", err)
	}
	if _, err := s.SessionKey(testApp, "user9"); err != nil {
		t.Errorf("one of the latest users was forgotten: %v", err)
	}
	if _, err := s.SessionKey(testApp, "user0"); !errors.Is(err, ErrNoSessionKey) {
		t.Errorf("error is %v, want %v", err, ErrNoSessionKey)
	}
}

// keyURL is a call of an interface that takes a proof of alice's session key.
func keyURL(t testing.TB, s *Simulator, path, token, key string, changes ...string) string {
	t.Helper()
	identity, err := s.Identity(testApp, "alice")
	if err != nil {
		t.Fatal(err)
	}
	query := url.Values{
		"access_token": {token},
		"openid":       {identity.OpenID},
		"signature":    {keySignature(key, "")},
		"sig_method":   {"hmac_sha256"},
	}
	for i := 0; i < len(changes); i += 2 {
		query.Set(changes[i], changes[i+1])
	}
	return path + "?" + query.Encode()
}

func TestSignedKeyErrors(t *testing.T) {
	s, _ := newTest(t)
	key, token := signIn(t, s, "alice"), stableToken(t, s)
	foreigner, err := s.Identity(otherApp, "alice")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		parameter, value string
		check, reset     int
	}{
		"no token":         {"access_token", "", 41001, 41001},
		"no openid":        {"openid", "", 40097, 40097},
		"no signature":     {"signature", "", 40097, 40097},
		"wrong method":     {"sig_method", "sha1", 87008, 87008},
		"wrong signature":  {"signature", keySignature(key, "x"), 87009, 87009},
		"user without key": {"openid", "oNobody", 87009, 87007},
		"foreign openid":   {"openid", foreigner.OpenID, 87009, 87007},
	} {
		t.Run(name, func(t *testing.T) {
			for path, want := range map[string]int{weChatCheckSessionPath: test.check, weChatResetKeyPath: test.reset} {
				target := keyURL(t, s, path, token, key, test.parameter, test.value)
				wantErrcode(t, callJSON(t, s, http.MethodGet, target, ""), want)
			}
		})
	}
}

// A reset kills the old key, and the new one ends when the old one would have.
func TestResetSessionKey(t *testing.T) {
	s, clock := newTest(t, func(c *Config) { c.Programs[0].SessionKeyLifetime = time.Hour })
	old, token := signIn(t, s, "alice"), stableToken(t, s)
	clock.advance(30 * time.Minute)
	object := callJSON(t, s, http.MethodGet, keyURL(t, s, weChatResetKeyPath, token, old), "")
	identity, _ := s.Identity(testApp, "alice")
	key, _ := object["session_key"].(string)
	if object["errmsg"] != "ok" || object["openid"] != identity.OpenID || key == "" || key == old {
		t.Fatalf("answer is %v", object)
	}
	wantErrcode(t, callJSON(t, s, http.MethodGet, keyURL(t, s, weChatCheckSessionPath, token, old), ""), 87009)
	wantErrcode(t, callJSON(t, s, http.MethodGet, keyURL(t, s, weChatCheckSessionPath, token, key), ""), 0)
	clock.advance(30 * time.Minute)
	wantErrcode(t, callJSON(t, s, http.MethodGet, keyURL(t, s, weChatResetKeyPath, token, key), ""), 87007)
}
