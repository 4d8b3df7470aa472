// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// SigningKey signs what others verify with its public part: ECDSA with P-256 and
// SHA-256 (ES256, RFC 7518 section 3.4). It is immutable.
type SigningKey struct {
	// ID is the thumbprint of the public key (RFC 7638), which anybody can
	// compute.
	ID      string
	private *ecdsa.PrivateKey
	signer  jwk.Key
	public  jwk.Key
}

// NewSigningKey returns a new random key.
func NewSigningKey() (*SigningKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	return newSigningKey(private)
}

// ParseSigningKey is the inverse of Marshal.
func ParseSigningKey(der []byte) (*SigningKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("parsing a signing key: it is not PKCS #8")
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return nil, errors.New("parsing a signing key: it is not of curve P-256")
	}
	return newSigningKey(private)
}

func newSigningKey(private *ecdsa.PrivateKey) (*SigningKey, error) {
	signer, err := jwk.FromRaw(private)
	if err != nil {
		return nil, fmt.Errorf("making a JWK: %w", err)
	}
	public, err := signer.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("making a public JWK: %w", err)
	}
	thumbprint, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("naming a JWK: %w", err)
	}
	k := &SigningKey{ID: base64.RawURLEncoding.EncodeToString(thumbprint), private: private, signer: signer, public: public}
	for _, key := range []jwk.Key{signer, public} {
		for name, value := range map[string]any{jwk.KeyIDKey: k.ID, jwk.AlgorithmKey: jwa.ES256, jwk.KeyUsageKey: jwk.ForSignature} {
			if err := key.Set(name, value); err != nil {
				return nil, fmt.Errorf("making a JWK: %w", err)
			}
		}
	}
	return k, nil
}

// Marshal returns the private key in the form PKCS #8.
func (k *SigningKey) Marshal() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("encoding a signing key: %w", err)
	}
	return der, nil
}

// Sign returns a JWT (RFC 7519) with these claims, which must be a JSON object.
func (k *SigningKey) Sign(claims []byte) (string, error) {
	header := jws.NewHeaders()
	if err := header.Set(jws.TypeKey, "JWT"); err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	token, err := jws.Sign(claims, jws.WithKey(jwa.ES256, k.signer, jws.WithProtectedHeaders(header)))
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return string(token), nil
}

// PublicKeys returns the public parts of keys as a JWK Set (RFC 7517 section 5).
func PublicKeys(keys ...*SigningKey) ([]byte, error) {
	set := jwk.NewSet()
	for _, k := range keys {
		if err := set.AddKey(k.public); err != nil {
			return nil, fmt.Errorf("publishing a key: %w", err)
		}
	}
	data, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("publishing keys: %w", err)
	}
	return data, nil
}
