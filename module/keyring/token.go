// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// maxToken bounds the length of a token that is looked at, in bytes. Ours have
// less than half of it.
const maxToken = 512

// signatureLength is the length of an HMAC-SHA-256 in base64. It is compared
// because Go's decoder passes over line breaks, in strict mode too.
const signatureLength = 43

// SignToken returns a JWS in compact form (RFC 7515), signed with HS256 by the
// active key, with the given payload.
func (r *Ring) SignToken(payload []byte) (string, error) {
	k := r.current.Load().keys[0]
	input := k.tokenHeader + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature, err := signer.Sign([]byte(input), k.mac)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// VerifyToken returns the payload of a token that SignToken made, and the id of
// its key. The error is ErrUnknownKey,
// ErrElsewhere or ErrForged.
//
// Nothing of a token is parsed before it is verified: its header must be, byte
// for byte, one that this ring writes, and its signature the canonical base64
// of the right one. An algorithm, a key id or a URL that an attacker puts into
// a header is never read.
func (r *Ring) VerifyToken(token string) (payload []byte, keyID string, err error) {
	if len(token) > maxToken {
		return nil, "", ErrForged
	}
	header, rest, ok := strings.Cut(token, ".")
	if !ok {
		return nil, "", ErrForged
	}
	k, ok := r.current.Load().byToken[header]
	if !ok {
		return nil, "", r.unknown(header)
	}
	body, signature, ok := strings.Cut(rest, ".")
	if !ok || len(signature) != signatureLength {
		return nil, "", ErrForged
	}
	mac, err := strictBase64.DecodeString(signature)
	if err != nil {
		return nil, "", ErrForged
	}
	input := []byte(token[:len(header)+1+len(body)])
	if err := verifier.Verify(input, mac, k.mac); err != nil {
		return nil, "", ErrForged
	}
	if payload, err = strictBase64.DecodeString(body); err != nil {
		return nil, "", ErrForged
	}
	return payload, k.id, nil
}

// strictBase64 accepts one text only for each value, so that a token cannot be
// changed and stay valid.
var strictBase64 = base64.RawURLEncoding.Strict()

var signer, verifier = newHS256()

// newHS256 returns jwx's implementation of HS256. It has one in every build.
func newHS256() (jws.Signer, jws.Verifier) {
	s, err := jws.NewSigner(jwa.HS256)
	if err != nil {
		panic(err)
	}
	v, err := jws.NewVerifier(jwa.HS256)
	if err != nil {
		panic(err)
	}
	return s, v
}

// IsToken reports whether token claims to be one that a ring has signed, this
// one or another. It says nothing about whether that is true.
func IsToken(token string) bool {
	header, _, ok := strings.Cut(token, ".")
	if !ok || len(header) > maxToken {
		return false
	}
	text, err := base64.RawURLEncoding.DecodeString(header)
	return err == nil && strings.Contains(string(text), `"typ":"`+tokenType+`"`)
}

// tokenType is the typ of a session token.
const tokenType = "session+jwt"
