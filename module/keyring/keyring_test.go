// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwe"
	"github.com/lestrrat-go/jwx/v2/jws"
)

func newRing(t testing.TB, masters ...[]byte) *Ring {
	t.Helper()
	if len(masters) == 0 {
		masters = [][]byte{NewMaster()}
	}
	ring, err := New(masters...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func mustSign(t testing.TB, ring *Ring, payload string) string {
	t.Helper()
	token, err := ring.SignToken([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Tokens of one version must be valid in the next, so the bytes of a token made
// with a known key are fixed here.
func TestTokenIsStable(t *testing.T) {
	ring := newRing(t, bytes.Repeat([]byte{7}, KeySize))
	const want = "eyJhbGciOiJIUzI1NiIsImtpZCI6Ing0U3JBQkxKIiwidHlwIjoic2Vzc2lvbitqd3QifQ.eyJzdWIiOiJ1In0.0BPnmErYiLnZkuOOwzwk7ldfb9-wVKwG15j23Qm2qRI"
	if token := mustSign(t, ring, `{"sub":"u"}`); token != want {
		t.Errorf("token %s, want %s", token, want)
	}
}

// A token and a sealed record are a JWS and a JWE as the standards say: jwx,
// told only the keys, reads them.
func TestStandardForms(t *testing.T) {
	ring := newRing(t)
	k := ring.current.Load().keys[0]

	payload, err := jws.Verify([]byte(mustSign(t, ring, `{"sub":"u"}`)), jws.WithKey(jwa.HS256, k.mac))
	if err != nil || string(payload) != `{"sub":"u"}` {
		t.Errorf("jws.Verify: %q, %v", payload, err)
	}
	sealed, err := ring.Seal([]byte("record"))
	if err != nil {
		t.Fatal(err)
	}
	message, err := jwe.Parse(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if h := message.ProtectedHeaders(); h.KeyID() != k.id || h.Algorithm() != jwa.DIRECT || h.ContentEncryption() != jwa.A256GCM {
		t.Errorf("unexpected header %v", h)
	}
}

// T21, T22, T26, T27: algorithm confusion, key id games, truncated and extended
// tokens, tokens made to hurt the parser.
func TestForgedTokens(t *testing.T) {
	ring := newRing(t)
	k := ring.current.Load().keys[0]
	good := mustSign(t, ring, `{"sub":"u"}`)
	parts := strings.Split(good, ".")
	withHeader := func(header string) string { return segment(header) + "." + parts[1] + "." + parts[2] }

	forged := map[string]string{
		"empty":              "",
		"no dots":            parts[0],
		"one dot":            parts[0] + "." + parts[1],
		"three dots":         good + ".x",
		"only dots":          strings.Repeat(".", 100),
		"a megabyte":         strings.Repeat("a", 1<<20),
		"a megabyte of dots": strings.Repeat(".", 1<<20),
		"alg none":           withHeader(`{"alg":"none","typ":"session+jwt"}`),
		"alg none, no mac":   segment(`{"alg":"none"}`) + "." + parts[1] + ".",
		"alg HS512":          withHeader(`{"alg":"HS512","kid":"` + k.id + `","typ":"session+jwt"}`),
		"other typ":          withHeader(`{"alg":"HS256","kid":"` + k.id + `","typ":"JWT"}`),
		"path as kid":        withHeader(`{"alg":"HS256","kid":"../../etc/passwd","typ":"session+jwt"}`),
		"jku":                withHeader(`{"alg":"HS256","kid":"` + k.id + `","jku":"http://evil.test/","typ":"session+jwt"}`),
		"padding":            good + "=",
		"line break":         good[:len(good)-5] + "\n" + good[len(good)-5:],
		"another key's":      mustSign(t, newRing(t), `{"sub":"u"}`),
		"payload swapped":    parts[0] + "." + segment(`{"sub":"v"}`) + "." + parts[2],
	}
	for name, token := range forged {
		t.Run(name, func(t *testing.T) {
			payload, _, err := ring.VerifyToken(token)
			if payload != nil || (!errors.Is(err, ErrForged) && !errors.Is(err, ErrUnknownKey)) {
				t.Errorf("got payload %q and error %v", payload, err)
			}
		})
	}
	for i := range good {
		for bit := range 8 {
			changed := []byte(good)
			changed[i] ^= 1 << bit
			if payload, _, err := ring.VerifyToken(string(changed)); err == nil {
				t.Fatalf("token with bit %d of byte %d flipped is accepted: %s", bit, i, payload)
			}
		}
		if _, _, err := ring.VerifyToken(good[:i]); err == nil {
			t.Fatalf("token cut to %d bytes is accepted", i)
		}
	}
}

// A key is replaced without signing anybody out, and a removed one is dead.
func TestRotation(t *testing.T) {
	first, second := NewMaster(), NewMaster()
	ring := newRing(t, first)
	token := mustSign(t, ring, "{}")
	sealed, err := ring.Seal([]byte("record"))
	if err != nil {
		t.Fatal(err)
	}
	oldID := ring.IDs()[0]

	if err := ring.Replace(second, first); err != nil {
		t.Fatal(err)
	}
	if _, id, err := ring.VerifyToken(token); err != nil || id != oldID || !ring.Accepts(id) {
		t.Errorf("token of the older key: id %q, %v", id, err)
	}
	if plain, err := ring.Open(sealed); err != nil || string(plain) != "record" {
		t.Errorf("record of the older key: %q, %v", plain, err)
	}
	if _, id, err := ring.VerifyToken(mustSign(t, ring, "{}")); err != nil || id == oldID {
		t.Errorf("a new token is of key %q, %v", id, err)
	}

	if err := ring.Replace(second); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ring.VerifyToken(token); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("token of a removed key: %v", err)
	}
	if _, err := ring.Open(sealed); !errors.Is(err, ErrUnknownKey) || ring.Accepts(oldID) {
		t.Errorf("record of a removed key: %v", err)
	}
}

func TestReplaceRefusesBadKeys(t *testing.T) {
	ring := newRing(t)
	token := mustSign(t, ring, "{}")
	same := NewMaster()
	for name, masters := range map[string][][]byte{
		"none":  {},
		"short": {make([]byte, KeySize-1)},
		"long":  {NewMaster(), make([]byte, KeySize+1)},
		"twice": {same, same},
	} {
		if err := ring.Replace(masters...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, _, err := ring.VerifyToken(token); err != nil {
		t.Errorf("a refused Replace changed the keys: %v", err)
	}
}

func TestParseMaster(t *testing.T) {
	master := bytes.Repeat([]byte{0xfb}, KeySize) // has + and / in base64
	for _, text := range []string{
		EncodeMaster(master),
		EncodeMaster(master) + "\n",
		base64.RawStdEncoding.EncodeToString(master),
		base64.URLEncoding.EncodeToString(master),
		base64.RawURLEncoding.EncodeToString(master),
	} {
		if got, err := ParseMaster(text); err != nil || !bytes.Equal(got, master) {
			t.Errorf("%q: %x, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "=", "secret", "not base64!", EncodeMaster(master[:31]), EncodeMaster(append(master, 1))} {
		if _, err := ParseMaster(text); err == nil {
			t.Errorf("%q is accepted", text)
		} else if text != "" && text != "=" && strings.Contains(err.Error(), text) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

// A record of which one bit changed is refused, not half read.
func TestOpenRefusesDamage(t *testing.T) {
	ring := newRing(t)
	sealed, err := ring.Seal([]byte(`{"v":1}`))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if plain, err := ring.Open(changed); err == nil && !sameBase64(sealed, changed) {
			t.Fatalf("byte %d changed, yet opened: %q", i, plain)
		}
	}
	if _, err := ring.Open(nil); err == nil {
		t.Error("nothing is opened")
	}
}

// sameBase64 reports whether two compact forms differ in unused base64 bits only.
func sameBase64(a, b []byte) bool {
	as, bs := strings.Split(string(a), "."), strings.Split(string(b), ".")
	if len(as) != len(bs) {
		return false
	}
	for i := range as {
		x, errX := base64.RawURLEncoding.DecodeString(as[i])
		y, errY := base64.RawURLEncoding.DecodeString(bs[i])
		if errX != nil || errY != nil || !bytes.Equal(x, y) {
			return false
		}
	}
	return true
}

func TestDigest(t *testing.T) {
	ring := newRing(t)
	first, second := ring.Digest("a"), ring.Digest("a")
	if first != second || ring.Digest("a") == ring.Digest("b") || len(ring.Digest("")) != 12 {
		t.Error("a digest must tell texts apart and nothing else")
	}
	if newRing(t).Digest("a") == ring.Digest("a") {
		t.Error("a digest must depend on the key")
	}
}

// Whatever bytes come as a token, VerifyToken neither panics nor accepts what
// was not signed.
func FuzzVerifyToken(f *testing.F) {
	ring := newRing(f, bytes.Repeat([]byte{1}, KeySize))
	good := mustSign(f, ring, `{"sub":"u","sid":"s","iat":1,"exp":2}`)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		payload, _, err := ring.VerifyToken(token)
		if err == nil && token != good {
			t.Errorf("accepted %q", token)
		}
		if err == nil && !json.Valid(payload) {
			t.Errorf("payload %q", payload)
		}
	})
}
