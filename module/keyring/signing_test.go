// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// The public key is what an upstream has: with nothing else, and without our
// library, the signature must verify.
func TestSignatureVerifiesWithThePublishedKey(t *testing.T) {
	key, err := NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	published, err := PublicKeys(other, key)
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(published, &set); err != nil || len(set.Keys) != 2 {
		t.Fatalf("%v in %s", err, published)
	}
	for _, member := range set.Keys {
		if member["d"] != "" || len(member) != 7 {
			t.Errorf("published: %v", member)
		}
	}
	found := set.Keys[1]
	if found["kty"] != "EC" || found["crv"] != "P-256" || found["alg"] != "ES256" || found["use"] != "sig" || found["kid"] != key.ID {
		t.Errorf("published: %v", found)
	}

	token, err := key.Sign([]byte(`{"sub":"alice"}`))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	decode := func(s string) []byte {
		t.Helper()
		data, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var header map[string]string
	if err := json.Unmarshal(decode(parts[0]), &header); err != nil || header["alg"] != "ES256" || header["kid"] != key.ID || header["typ"] != "JWT" || len(header) != 3 {
		t.Errorf("header %v, error %v", header, err)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, decode(found["x"]), decode(found["y"])))
	if err != nil {
		t.Fatal(err)
	}
	signature, sum := decode(parts[2]), sha256.Sum256([]byte(parts[0]+"."+parts[1]))
	if !ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		t.Error("the signature does not verify")
	}
}

// A key is stored and read again by another gateway: it is the same key.
func TestSigningKeyIsStored(t *testing.T) {
	key, err := NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := key.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseSigningKey(der)
	if err != nil || again.ID != key.ID || !again.private.Equal(key.private) {
		t.Errorf("%v", err)
	}
}

// What was damaged, or is a key of another kind, is none of ours.
func TestParseSigningKeyRefusesOthers(t *testing.T) {
	marshal := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	larger, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{"nothing": nil, "rubbish": []byte("x"), "P-384": marshal(larger), "RSA": marshal(rsaKey)} {
		if _, err := ParseSigningKey(der); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
