// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// What can stand in the place of the app's public key.
const (
	// DemoSecret selects the published demo keys.
	DemoSecret = "demo"
	// GenerateSecret has the simulator make the app's key pair, too, and tell
	// its private key.
	GenerateSecret = "generate"
)

// AlipayKeys is all that the server of a program of Alipay is configured with.
// Keys are in base64 without lines, as Alipay's key tool writes them; a private
// key is PKCS#8. Certificates are the contents of the files that Alipay's
// console offers, and empty outside of certificate mode.
type AlipayKeys struct {
	AppID string `json:"app_id"`
	// AppPrivateKey is empty where the app has its own.
	AppPrivateKey string `json:"app_private_key,omitempty"`
	AppPublicKey  string `json:"app_public_key"`
	// AlipayPublicKey is that of now; a rotation changes it.
	AlipayPublicKey string `json:"alipay_public_key"`
	// AESKey encrypts open data.
	AESKey string `json:"aes_key"`

	AppCert          string `json:"app_cert,omitempty"`
	AppCertSN        string `json:"app_cert_sn,omitempty"`
	AlipayCert       string `json:"alipay_cert,omitempty"`
	AlipayCertSN     string `json:"alipay_cert_sn,omitempty"`
	AlipayRootCert   string `json:"alipay_root_cert,omitempty"`
	AlipayRootCertSN string `json:"alipay_root_cert_sn,omitempty"`
}

// alipayCredentials are the keys of a program.
type alipayCredentials struct {
	maker      keyMaker
	appKey     *rsa.PublicKey
	appPrivate *rsa.PrivateKey
	aesKey     []byte
	// first is who signs before any rotation.
	first *alipaySigner
	// chain is nil outside of certificate mode.
	chain *alipayChain
}

// alipaySigner is Alipay as it signs: in certificate mode, with a certificate
// that has a serial number.
type alipaySigner struct {
	key      *rsa.PrivateKey
	sn, file string
}

// newAlipayCredentials makes what a program lacks.
func newAlipayCredentials(p Program) (alipayCredentials, error) {
	c := alipayCredentials{maker: keyMaker{seed: alipaySeed(p)}}
	var appCert []byte
	var err error
	switch p.Secret {
	case DemoSecret:
		if c.appPrivate, err = parseAlipayPrivateKey(DemoAlipayPrivateKey); err != nil {
			return c, err
		}
	case GenerateSecret:
		if c.appPrivate, err = c.maker.rsaKey("app"); err != nil {
			return c, err
		}
	default:
		if c.appKey, appCert, err = parseAlipayAppKey(p.Secret); err != nil {
			return c, err
		}
	}
	if c.appPrivate != nil {
		c.appKey = &c.appPrivate.PublicKey
	}
	if c.aesKey, err = c.newAESKey(p.AESKey); err != nil {
		return c, err
	}
	key, err := c.newAlipayKey(p)
	if err != nil {
		return c, err
	}
	c.first = &alipaySigner{key: key}
	if !p.Certificates && appCert == nil {
		return c, nil
	}
	if c.chain, err = newAlipayChain(c.maker, p, c.appKey, appCert); err != nil {
		return c, err
	}
	c.first, err = c.chain.issue(c.maker, "alipay", key)
	return c, err
}

// alipaySeed returns the seed of a program's keys. Those of the demo are the
// same everywhere.
func alipaySeed(p Program) string {
	if p.Secret == DemoSecret {
		return DemoSecret
	}
	return p.Seed
}

// newAESKey returns the key of the program, or makes one.
func (c alipayCredentials) newAESKey(text string) ([]byte, error) {
	if text == "" {
		return c.maker.bytes("aes", 16), nil
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != 16 {
		return nil, errors.New("the aes key must be 16 bytes in base64")
	}
	return key, nil
}

// newAlipayKey makes the key that Alipay signs with.
func (c alipayCredentials) newAlipayKey(p Program) (*rsa.PrivateKey, error) {
	if p.Secret == DemoSecret {
		return parseAlipayPrivateKey(demoAlipaySigningKey)
	}
	return c.maker.rsaKey("alipay")
}

// parseAlipayPrivateKey reads a private key in base64 without lines.
func parseAlipayPrivateKey(text string) (*rsa.PrivateKey, error) {
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("decoding a private key: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parsing a private key: %w", err)
	}
	rsaKey, isRSA := key.(*rsa.PrivateKey)
	if !isRSA {
		return nil, errors.New("the private key is not an RSA key")
	}
	return rsaKey, nil
}

// parseAlipayAppKey reads the app's public key: SubjectPublicKeyInfo, PKCS#1 or
// a certificate, in PEM or in base64 without lines. In the last case it returns
// the certificate as well.
func parseAlipayAppKey(text string) (*rsa.PublicKey, []byte, error) {
	der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if block, _ := pem.Decode([]byte(text)); block != nil {
		der, err = block.Bytes, nil
	}
	if err != nil {
		return nil, nil, errors.New("the secret must be the app's public key or certificate, demo or generate")
	}
	if key, err := x509.ParsePKIXPublicKey(der); err == nil {
		return isAlipayKey(key, nil)
	}
	if key, err := x509.ParsePKCS1PublicKey(der); err == nil {
		return isAlipayKey(key, nil)
	}
	if cert, err := x509.ParseCertificate(der); err == nil {
		return isAlipayKey(cert.PublicKey, cert.Raw)
	}
	if isPrivateKey(der) {
		return nil, nil, errors.New("the secret is a private key; the simulator needs the public one")
	}
	return nil, nil, errors.New("the secret is neither a public key nor a certificate")
}

// isAlipayKey refuses all keys but those of RSA.
func isAlipayKey(key any, cert []byte) (*rsa.PublicKey, []byte, error) {
	rsaKey, isRSA := key.(*rsa.PublicKey)
	if !isRSA {
		return nil, nil, errors.New("the app's public key is not an RSA key")
	}
	return rsaKey, cert, nil
}

// isPrivateKey reports whether der is a private key.
func isPrivateKey(der []byte) bool {
	if _, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return true
	}
	_, err := x509.ParsePKCS1PrivateKey(der)
	return err == nil
}

// keyText writes a key in base64 without lines.
func keyText(der []byte, err error) string {
	if err != nil {
		panic("encoding a key of the simulator: " + err.Error())
	}
	return base64.StdEncoding.EncodeToString(der)
}

// AlipayKeys returns what the server of a program is configured with, as it is
// now. The error wraps ErrInvalid or ErrUnknownProgram.
func (s *Simulator) AlipayKeys(program string) (AlipayKeys, error) {
	_, p, err := s.alipayOf(program)
	if err != nil {
		return AlipayKeys{}, err
	}
	signer := p.currentSigner()
	keys := AlipayKeys{
		AppID:           program,
		AppPublicKey:    keyText(x509.MarshalPKIXPublicKey(p.appKey)),
		AlipayPublicKey: keyText(x509.MarshalPKIXPublicKey(&signer.key.PublicKey)),
		AESKey:          base64.StdEncoding.EncodeToString(p.aesKey),
	}
	if p.appPrivate != nil {
		keys.AppPrivateKey = keyText(x509.MarshalPKCS8PrivateKey(p.appPrivate))
	}
	if p.chain != nil {
		keys.AppCert, keys.AppCertSN = p.chain.appFile, p.chain.appSN
		keys.AlipayCert, keys.AlipayCertSN = signer.file, signer.sn
		keys.AlipayRootCert, keys.AlipayRootCertSN = p.chain.rootFile, p.chain.rootSN
	}
	return keys, nil
}

// currentSigner returns who signs what Alipay says to a program.
func (p *alipayProgram) currentSigner() *alipaySigner {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signer
}
