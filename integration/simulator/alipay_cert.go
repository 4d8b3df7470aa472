// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// The dates of the certificates. They depend on nothing, so that the files are
// the same in every run.
var (
	alipayCertFrom  = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	alipayCertUntil = time.Date(2044, 1, 1, 0, 0, 0, 0, time.UTC)
	// alipayExpired is when a certificate that has expired did so.
	alipayExpired = time.Date(2024, 2, 1, 0, 0, 0, 0, time.UTC)
)

// alipayChain is what certificate mode rests on: a file of roots, of which not
// all are RSA, and an intermediate that issues the certificates of apps and of
// Alipay (https://opendocs.alipay.com/common/056zub).
type alipayChain struct {
	rootFile, rootSN string
	appFile, appSN   string

	issuer    *x509.Certificate
	issuerKey *rsa.PrivateKey
}

// newAlipayChain makes a chain. Without a certificate of its own, the app gets
// one for its key. The chain of the sandbox cannot be verified: its intermediate
// is no CA, and is issued by a root that is not in the file
// (https://opendocs.alipay.com/common/02kkv7 has the files).
func newAlipayChain(maker keyMaker, p Program, appKey *rsa.PublicKey, appCert []byte) (*alipayChain, error) {
	c := new(alipayChain)
	rootKey, err := maker.rsaKey("root")
	if err != nil {
		return nil, err
	}
	root, err := selfSigned(maker, "Simulated Certification Authority R1", rootKey)
	if err != nil {
		return nil, err
	}
	if err := c.setRoots(maker, root, rootKey); err != nil {
		return nil, err
	}
	if c.issuerKey, err = maker.rsaKey("intermediate"); err != nil {
		return nil, err
	}
	template := alipayTemplate(maker, "intermediate", "Simulated Certification Authority Class 2 R1")
	if p.Sandbox {
		root, rootKey = &x509.Certificate{RawSubject: root.RawSubject}, c.issuerKey
	} else {
		template.IsCA, template.BasicConstraintsValid = true, true
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	if c.issuer, err = newCertificate(template, root, &c.issuerKey.PublicKey, rootKey); err != nil {
		return nil, err
	}
	app, err := c.appCert(maker, p.AppID, appKey, appCert)
	if err != nil {
		return nil, err
	}
	c.appFile, c.appSN = certFile(app.Raw, c.issuer.Raw), alipayCertSN(app)
	return c, nil
}

// appCert returns the certificate of the app.
func (c *alipayChain) appCert(maker keyMaker, appID string, key *rsa.PublicKey, own []byte) (*x509.Certificate, error) {
	if own != nil {
		return x509.ParseCertificate(own)
	}
	return newCertificate(alipayTemplate(maker, "app", "2088000000000000-"+appID), c.issuer, key, c.issuerKey)
}

// setRoots writes the file of roots as Alipay's is: with a root of SM2, which
// many libraries cannot read, and one of ECDSA, which does not count. The
// serial number of the file is made of those signed with RSA.
func (c *alipayChain) setRoots(maker keyMaker, root *x509.Certificate, rootKey *rsa.PrivateKey) error {
	sm2Key, err := maker.ecKey(elliptic.P256(), "sm2")
	if err != nil {
		return err
	}
	sm2, err := selfSigned(maker, "ROOTCA", sm2Key)
	if err != nil {
		return err
	}
	ecKey, err := maker.ecKey(elliptic.P384(), "ec")
	if err != nil {
		return err
	}
	ec, err := selfSigned(maker, "Simulated Certification Authority E1", ecKey)
	if err != nil {
		return err
	}
	second, err := selfSigned(maker, "Simulated Class 2 Root CA - G3", rootKey)
	if err != nil {
		return err
	}
	c.rootFile = certFile(likeSM2(sm2.Raw), root.Raw, ec.Raw, second.Raw)
	c.rootSN = alipayCertSN(root) + "_" + alipayCertSN(second)
	return nil
}

// likeSM2 turns a certificate of ECDSA on P-256 into one that says it is of SM2
// with SM3 (GM/T 0006): 1.2.156.10197.1.301 and 1.2.156.10197.1.501.
func likeSM2(der []byte) []byte {
	der = bytes.ReplaceAll(der,
		[]byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}, []byte{0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d})
	return bytes.ReplaceAll(der,
		[]byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}, []byte{0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x83, 0x75})
}

// issue makes a certificate for a key of Alipay.
func (c *alipayChain) issue(maker keyMaker, name string, key *rsa.PrivateKey) (*alipaySigner, error) {
	return c.issueFrom(alipayTemplate(maker, name, "Simulated Alipay-2088000000000000"), key)
}

// issueFrom makes a certificate for a key of Alipay from a template. Its file
// holds the intermediate, too.
func (c *alipayChain) issueFrom(template *x509.Certificate, key *rsa.PrivateKey) (*alipaySigner, error) {
	leaf, err := newCertificate(template, c.issuer, &key.PublicKey, c.issuerKey)
	if err != nil {
		return nil, err
	}
	return &alipaySigner{key: key, sn: alipayCertSN(leaf), file: certFile(leaf.Raw, c.issuer.Raw)}, nil
}

// foreign returns a chain that looks the same and does not reach the root: its
// intermediate is signed with another key.
func (c *alipayChain) foreign() (*alipayChain, error) {
	key, err := keyMaker{}.rsaKey("")
	if err != nil {
		return nil, err
	}
	root := &x509.Certificate{RawSubject: c.issuer.RawIssuer, PublicKey: &key.PublicKey}
	template := *c.issuer
	template.SignatureAlgorithm = x509.UnknownSignatureAlgorithm
	issuer, err := newCertificate(&template, root, &key.PublicKey, key)
	return &alipayChain{issuer: issuer, issuerKey: key}, err
}

// alipayTemplate begins a certificate. Names are those of Alipay's in form.
func alipayTemplate(maker keyMaker, name, commonName string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(maker.bytes("serial "+name, 15)),
		Subject: pkix.Name{
			Country:            []string{"CN"},
			Organization:       []string{"Minigate Simulator"},
			OrganizationalUnit: []string{"Certification Authority"},
			CommonName:         commonName,
		},
		NotBefore: alipayCertFrom,
		NotAfter:  alipayCertUntil,
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
}

// selfSigned makes a root.
func selfSigned(maker keyMaker, commonName string, key crypto.Signer) (*x509.Certificate, error) {
	template := alipayTemplate(maker, commonName, commonName)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return newCertificate(template, template, key.Public(), key)
}

// newCertificate signs a certificate, without any randomness.
func newCertificate(template, parent *x509.Certificate, key crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(nil, template, parent, key, signer)
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading a certificate: %w", err)
	}
	return cert, nil
}

// certFile writes certificates as PEM.
func certFile(certs ...[]byte) string {
	var file strings.Builder
	for _, der := range certs {
		file.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return file.String()
}

// alipayCertSN returns the serial number that Alipay gives a certificate
// (https://opendocs.alipay.com/common/056zub).
func alipayCertSN(cert *x509.Certificate) string {
	var issuer pkix.RDNSequence
	if _, err := asn1.Unmarshal(cert.RawIssuer, &issuer); err != nil {
		panic("reading the issuer of a certificate of the simulator: " + err.Error())
	}
	return alipaySN(issuer.String(), cert.SerialNumber.String())
}

// alipaySN is the MD5 of an issuer, its last name first, and a serial number in
// decimal digits.
func alipaySN(issuer, serial string) string {
	sum := md5.Sum([]byte(issuer + serial))
	return hex.EncodeToString(sum[:])
}
