// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"crypto/md5"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"
	"time"
)

// largestFile is the most bytes of a certificate file. The platform's root file
// has 7 KB.
const largestFile = 256 << 10

// rsaSignatures are the algorithms of PKCS #1, by which root certificates count.
var rsaSignatures = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1}

// signedCertificate is the outside of a certificate (RFC 5280, section 4.1), which
// can be read of those, too, whose keys crypto/x509 does not know.
type signedCertificate struct {
	TBS       asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

// rootFile is the platform's file of root certificates.
type rootFile struct {
	pool *x509.CertPool
	sn   string
}

// readText returns the text of PEM that is configured: itself, or the path of a
// file with it.
func readText(configured string) (string, error) {
	if isPEM(configured) {
		return configured, nil
	}
	file, err := os.Open(configured)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, largestFile+1))
	switch {
	case err != nil:
		return "", err
	case len(data) > largestFile:
		return "", fmt.Errorf("%s: more than %d bytes", configured, largestFile)
	case !isPEM(string(data)):
		return "", fmt.Errorf("%s: there is no PEM in it", configured)
	}
	return string(data), nil
}

// pemCertificates returns the certificates in a text, in DER.
func pemCertificates(text string) ([][]byte, error) {
	var found [][]byte
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("there is something else than certificates in it")
		}
		found = append(found, block.Bytes)
	}
	if len(found) == 0 {
		return nil, errors.New("there is no certificate in it, or its PEM is broken")
	}
	return found, nil
}

// parseCertificate reads the first certificate of a text, which is the one that
// it is about, and those between it and the root.
func parseCertificate(text string) (*x509.Certificate, *x509.CertPool, error) {
	ders, err := pemCertificates(text)
	if err != nil {
		return nil, nil, err
	}
	leaf, err := x509.ParseCertificate(ders[0])
	if err != nil {
		return nil, nil, errors.New("the certificate is broken, or not of RSA")
	}
	if _, ok := leaf.PublicKey.(*rsa.PublicKey); !ok {
		return nil, nil, errors.New("the certificate is not of RSA")
	}
	between := x509.NewCertPool()
	for _, der := range ders[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(cert)
		}
	}
	return leaf, between, nil
}

// parseRoots reads the platform's file of root certificates. Those of SM2, which
// crypto/x509 cannot read, and of ECDSA do not count for its serial number.
func parseRoots(text string) (*rootFile, error) {
	ders, err := pemCertificates(text)
	if err != nil {
		return nil, err
	}
	roots, sns := &rootFile{pool: x509.NewCertPool()}, []string(nil)
	for i, der := range ders {
		var outside signedCertificate
		if _, err := asn1.Unmarshal(der, &outside); err != nil {
			return nil, fmt.Errorf("certificate %d is broken", i+1)
		}
		cert, err := x509.ParseCertificate(der)
		counts := isRSA(outside.Algorithm.Algorithm)
		switch {
		case err != nil && counts:
			return nil, fmt.Errorf("certificate %d is broken", i+1)
		case err != nil:
			continue
		case cert.BasicConstraintsValid && cert.IsCA:
			roots.pool.AddCert(cert)
		}
		if counts {
			sns = append(sns, serialNumber(cert))
		}
	}
	if roots.sn = strings.Join(sns, "_"); roots.sn == "" || roots.pool.Equal(x509.NewCertPool()) {
		return nil, errors.New("there is no root certificate of RSA in it")
	}
	return roots, nil
}

// isRSA reports whether a signature algorithm is one of RSA.
func isRSA(algorithm asn1.ObjectIdentifier) bool {
	return len(algorithm) > len(rsaSignatures) && algorithm[:len(rsaSignatures)].Equal(rsaSignatures)
}

// serialNumber returns what the platform calls the serial number of a
// certificate.
func serialNumber(cert *x509.Certificate) string {
	return serialNumberOf(issuer(cert), cert.SerialNumber)
}

// serialNumberOf makes the serial number of a certificate of its issuer's name and
// the number that the issuer gave it. MD5 is the platform's choice, and protects
// nothing here.
//
// https://opendocs.alipay.com/common/057k53
func serialNumberOf(issuer string, number *big.Int) string {
	sum := md5.Sum([]byte(issuer + number.String()))
	return hex.EncodeToString(sum[:])
}

// issuer returns the name of a certificate's issuer by RFC 2253, in which its
// parts stand in the reverse of their order in the certificate.
func issuer(cert *x509.Certificate) string {
	var name pkix.RDNSequence
	if _, err := asn1.Unmarshal(cert.RawIssuer, &name); err != nil {
		return cert.Issuer.String()
	}
	return name.String()
}

// checkDates refuses a certificate whose time has not come, or is over.
func checkDates(cert *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(cert.NotBefore):
		return fmt.Errorf("the certificate is not valid before %s", cert.NotBefore.UTC().Format(time.DateOnly))
	case now.After(cert.NotAfter):
		return fmt.Errorf("the certificate has expired on %s", cert.NotAfter.UTC().Format(time.DateOnly))
	}
	return nil
}

// checkChain refuses a certificate that none of the roots vouches for.
func checkChain(cert *x509.Certificate, between, roots *x509.CertPool, now time.Time) error {
	_, err := cert.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: between,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return errors.New("the chain of the certificate does not reach a root of alipay_root_cert")
	}
	return nil
}
