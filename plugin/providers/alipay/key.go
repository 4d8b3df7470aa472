// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// The platform's RSA2 keys have 2048 bits.
const (
	fewestBits = 2048
	mostBits   = 8192
)

// What is configured as a key and is none. No error shows a byte of it.
var (
	errEncrypted = errors.New("it is encrypted: decrypt it (openssl pkey -in key.pem)")
	errEC        = errors.New("it is an EC key: RSA2 takes an RSA key")
	errPath      = errors.New("it looks like a path: to have the content of a file, write {file./path}")
)

// encryptedKey is the outside of an encrypted PKCS #8 key (RFC 5208, section 6).
type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

// parsePrivateKey reads an RSA private key, which is PKCS #1 or PKCS #8 in PEM or
// in bare base64, as the platform's key tool writes it.
func parsePrivateKey(text string) (*rsa.PrivateKey, error) {
	der, err := readDER(text)
	if err != nil {
		return nil, err
	}
	switch k := parseDER(der).(type) {
	case *rsa.PrivateKey:
		return k, checkSize(&k.PublicKey)
	case *rsa.PublicKey, *ecdsa.PublicKey:
		return nil, errors.New("it is a public key")
	case *x509.Certificate:
		return nil, errors.New("it is a certificate")
	case error:
		return nil, k
	default:
		return nil, errors.New("there is no RSA private key in it")
	}
}

// parsePublicKey reads an RSA public key, which is SPKI or PKCS #1 in PEM or in
// bare base64, as the platform's console shows it.
func parsePublicKey(text string) (*rsa.PublicKey, error) {
	der, err := readDER(text)
	if err != nil {
		return nil, err
	}
	switch k := parseDER(der).(type) {
	case *rsa.PublicKey:
		return k, checkSize(k)
	case *rsa.PrivateKey:
		return nil, errors.New("it is a private key")
	case *x509.Certificate:
		return nil, errors.New("it is a certificate: configure app_cert, alipay_cert and alipay_root_cert instead")
	case *ecdsa.PublicKey:
		return nil, errEC
	case error:
		return nil, k
	default:
		return nil, errors.New("there is no RSA public key in it")
	}
}

// checkSize refuses a key that the platform does.
func checkSize(key *rsa.PublicKey) error {
	if n := key.N.BitLen(); n < fewestBits || n > mostBits {
		return fmt.Errorf("it has %d bits: RSA2 takes a key of %d", n, fewestBits)
	}
	return nil
}

// readDER returns what is in a PEM block, or in bare base64.
func readDER(text string) ([]byte, error) {
	text = trimText(text)
	if !isPEM(text) {
		der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
		switch {
		case err == nil && len(der) > 0 && der[0] == 0x30: // a sequence, as every key is
			return der, nil
		case strings.HasPrefix(text, "/"), strings.HasPrefix(text, "."), strings.HasSuffix(text, ".pem"), strings.HasSuffix(text, ".txt"):
			return nil, errPath
		}
		return nil, errors.New("it is neither PEM nor base64 of a key")
	}
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return nil, errors.New("its PEM is broken: are all lines there, and the line breaks?")
	case block.Type == "EC PARAMETERS":
		return nil, errEC
	case strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
		return nil, errEncrypted
	case isPEM(string(rest)) && block.Type != "CERTIFICATE":
		return nil, errors.New("there is more than one PEM block in it")
	}
	return block.Bytes, nil
}

// parseDER returns the key or certificate that der is, an error that says what
// else it is, or nil.
func parseDER(der []byte) any {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		switch key.(type) {
		case *ecdsa.PrivateKey, *ecdh.PrivateKey, ed25519.PrivateKey:
			return errEC
		}
		return key
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key
	}
	if _, err := x509.ParseECPrivateKey(der); err == nil {
		return errEC
	}
	if key, err := x509.ParsePKIXPublicKey(der); err == nil {
		return key
	}
	if key, err := x509.ParsePKCS1PublicKey(der); err == nil {
		return key
	}
	if cert, err := x509.ParseCertificate(der); err == nil {
		return cert
	}
	var encrypted encryptedKey
	if rest, err := asn1.Unmarshal(der, &encrypted); err == nil && len(rest) == 0 {
		return errEncrypted
	}
	return nil
}

// isPEM reports whether text has, or is meant to have, a PEM block.
func isPEM(text string) bool { return strings.Contains(text, "-----BEGIN") }

// trimText removes what editors put around a text.
func trimText(text string) string { return strings.TrimSpace(strings.TrimPrefix(text, "\ufeff")) }

// parseAESKey reads the key that the platform encrypts data with.
func parseAESKey(text string) (cipher.Block, error) {
	key, err := base64.StdEncoding.DecodeString(text)
	switch {
	case err != nil:
		return nil, errors.New("aes_key must be base64")
	case len(key) != 16:
		return nil, fmt.Errorf("aes_key must be 16 bytes in base64, this one has %d", len(key))
	}
	return aes.NewCipher(key)
}
