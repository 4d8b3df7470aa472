// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *rsa.PrivateKey
}

// issue makes a certificate. change, if there is one, changes what it says.
func (a authority) issue(name string, serial int64, key any, change func(*x509.Certificate)) []byte {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{Country: []string{"CN"}, Organization: []string{"Ant Financial"}, OrganizationalUnit: []string{"Certification Authority"}, CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	if change != nil {
		change(template)
	}
	parent := a.cert
	if parent == nil {
		parent = template
	}
	return der(x509.CreateCertificate(rand.Reader, template, parent, key, a.key))
}

// below makes an authority that this one vouches for.
func (a authority) below(name string, serial int64) authority {
	cert, err := x509.ParseCertificate(a.issue(name, serial, &a.key.PublicKey, isAuthority))
	if err != nil {
		panic(err)
	}
	return authority{cert, a.key}
}

func isAuthority(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }

func (a authority) pem() string { return pemOf("CERTIFICATE", a.cert.Raw) }

// chain is a certificate file as the platform makes it, with its issuer in it.
func (a authority) chain(leaf []byte) string { return pemOf("CERTIFICATE", leaf) + a.pem() }

// testPKI is what the platform has, and somebody else's.
type testPKI struct {
	root, apps, platforms, stranger authority
	nextKey                         *rsa.PrivateKey
	sm2, ec                         string

	// Files, in PEM.
	app, platform, roots string
}

// testCertificates makes certificates of the keys of the vectors. As at the
// platform, one authority is for apps, one for the platform, below one root.
var testCertificates = sync.OnceValue(func() *testPKI {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	p := &testPKI{nextKey: other}
	p.root = authority{nil, key}.below("Ant Financial Certification Authority R1", 2292228364100439313)
	p.stranger = authority{nil, other}.below("Ant Financial Certification Authority R1", 2292228364100439313)
	p.apps = p.root.below("Ant Financial Certification Authority Class 1 R1", 21)
	p.platforms = p.root.below("Ant Financial Certification Authority Class 2 R1", 22)
	p.app = pemOf("CERTIFICATE", p.apps.issue("2088000000000000-2021000000000000", 101, &appKey.PublicKey, nil))
	p.platform = p.platforms.chain(p.platforms.issue("Alipay-2088000000000000", 102, &platformKey.PublicKey, nil))

	// A certificate of SM2 is one of ECDSA with other object identifiers, as far as
	// its form goes.
	ecKey := otherKeys().ec
	template := &x509.Certificate{SerialNumber: big.NewInt(7629940819692799611), Subject: pkix.Name{CommonName: "ROOTCA"}, NotAfter: time.Now().Add(time.Hour)}
	isAuthority(template)
	ec := der(x509.CreateCertificate(rand.Reader, template, template, &ecKey.PublicKey, ecKey))
	p.ec = pemOf("CERTIFICATE", ec)
	sm2 := bytes.ReplaceAll(ec, []byte("\x2a\x86\x48\xce\x3d\x03\x01\x07"), []byte("\x2a\x81\x1c\xcf\x55\x01\x82\x2d"))
	sm2 = bytes.ReplaceAll(sm2, []byte("\x2a\x86\x48\xce\x3d\x04\x03\x02"), []byte("\x2a\x81\x1c\xcf\x55\x01\x83\x75"))
	p.sm2 = pemOf("CERTIFICATE", sm2)
	p.roots = p.sm2 + p.root.pem() + p.ec
	return p
})

// write makes a file with a text.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// withCertificates is a provider in certificate mode, before it is provisioned.
func withCertificates(bases []string) *Provider {
	pki := testCertificates()
	return &Provider{ID: testAppID, PrivateKey: appKeyText, AppCert: pki.app, AlipayCert: pki.platform, AlipayRootCert: pki.roots, API: bases}
}

// The platform's own numbers, of its own certificates.
func TestSerialNumberVectors(t *testing.T) {
	const ant = ",OU=Certification Authority,O=Ant Financial,C=CN"
	for _, test := range []struct{ issuer, number, want string }{
		{"CN=Ant Financial Certification Authority Class 1 R1" + ant, "42701552708448241360226107228231049510", "866efef280dec9137a87d047ac446315"},
		{"CN=Ant Financial Certification Authority Class 2 R1" + ant, "42701552432456004857627230056898180491", "7513daaaa48aa3ba2e4018d84402479c"},
		{"CN=Ant Financial Certification Authority R1" + ant, "2292228364100439313", "687b59193f3f462dd5336e5abf83c5d8"},
		{"CN=iTrusChina Class 2 Root CA - G3,OU=China Trust Network,O=iTrusChina,C=CN", "95790491425698859646659490580052089075020051350", "02941eef3187dddf3d3b83462e1dfcf6"},
		{"CN=ROOTCA,O=NRCAC,C=CN", "7629940819692799611", "9e64d67d36446de33aae13a33a89e5a7"},
	} {
		number, ok := new(big.Int).SetString(test.number, 10)
		if got := serialNumberOf(test.issuer, number); !ok || got != test.want {
			t.Errorf("%s: got %s, want %s", test.issuer, got, test.want)
		}
	}
	// The same issuer and number in a certificate, whose names are the other way round.
	if got := serialNumber(testCertificates().root.cert); got != "687b59193f3f462dd5336e5abf83c5d8" {
		t.Errorf("the root has %s", got)
	}
	if got := issuer(testCertificates().root.cert); got != "CN=Ant Financial Certification Authority R1"+ant {
		t.Errorf("the issuer is %s", got)
	}
}

// The root file has a certificate that crypto/x509 cannot read.
func TestRoots(t *testing.T) {
	pki := testCertificates()
	rootSN := serialNumber(pki.root.cert)
	second := authority{nil, pki.nextKey}.below("iTrusChina", 5)
	for _, test := range []struct{ name, text, sn, err string }{
		{"all kinds", pki.roots, rootSN, ""},
		{"in the order of the file", second.pem() + pki.sm2 + pki.root.pem(), serialNumber(second.cert) + "_" + rootSN, ""},
		{"no roots of RSA", pki.sm2 + pki.ec, "", "there is no root certificate of RSA in it"},
		{"no root", pki.app, "", "there is no root certificate of RSA in it"},
		{"no certificate", "-----BEGIN", "", "there is no certificate in it, or its PEM is broken"},
		{"broken", pki.root.pem() + pemOf("CERTIFICATE", []byte("x")), "", "certificate 2 is broken"},
		{"broken inside", pemOf("CERTIFICATE", bytes.Replace(pki.root.cert.Raw, pki.root.cert.RawSubjectPublicKeyInfo[:8], make([]byte, 8), 1)), "", "certificate 1 is broken"},
		{"a key", pemOf("PRIVATE KEY", []byte("x")), "", "there is something else than certificates in it"},
	} {
		roots, err := parseRoots(test.text)
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("%s: got %v, want %s", test.name, err, test.err)
			}
		} else if err != nil || roots.sn != test.sn {
			t.Errorf("%s: got %+v %v", test.name, roots, err)
		}
	}
}

func TestCertificateFiles(t *testing.T) {
	good := withCertificates(nil)
	p := start(t, &Provider{
		ID: testAppID, PrivateKey: appKeyText,
		AppCert: write(t, "app.crt", good.AppCert), AlipayCert: write(t, "alipay.crt", good.AlipayCert), AlipayRootCert: write(t, "root.crt", good.AlipayRootCert),
	})
	if p.client.appCertSN == "" || p.client.rootCertSN != "687b59193f3f462dd5336e5abf83c5d8" {
		t.Errorf("%q %q", p.client.appCertSN, p.client.rootCertSN)
	}
	empty, huge := write(t, "empty.crt", ""), write(t, "huge.crt", strings.Repeat("x", largestFile+1))
	for path, want := range map[string]string{
		"/nowhere/app.crt": "reading app_cert: open /nowhere/app.crt: no such file or directory",
		empty:              "reading app_cert: " + empty + ": there is no PEM in it",
		huge:               "reading app_cert: " + huge + ": more than 262144 bytes",
	} {
		p := withCertificates(nil)
		p.AppCert = path
		if err := p.Provision(caddy.Context{}); err == nil || err.Error() != want {
			t.Errorf("%s: got %v\nwant %s", path, err, want)
		}
	}
}

func TestCertificatesAreChecked(t *testing.T) {
	pki := testCertificates()
	app := func(change func(*x509.Certificate)) string {
		return pemOf("CERTIFICATE", pki.apps.issue("app", 103, &appKey.PublicKey, change))
	}
	platform := func(a authority, change func(*x509.Certificate)) string {
		return a.chain(a.issue("Alipay", 104, &platformKey.PublicKey, change))
	}
	expired := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2022, 5, 18, 5, 28, 47, 0, time.UTC)
	}
	early := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Date(2090, 1, 2, 0, 0, 0, 0, time.UTC), time.Date(2092, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	const noRoot = "checking alipay_cert: the chain of the certificate does not reach a root of alipay_root_cert"
	for _, test := range []struct {
		name   string
		change func(*Provider)
		err    string
	}{
		{"good", func(*Provider) {}, ""},
		{"app expired", func(p *Provider) { p.AppCert = app(expired) }, "checking app_cert: the certificate has expired on 2022-05-18"},
		{"app not yet valid", func(p *Provider) { p.AppCert = app(early) }, "checking app_cert: the certificate is not valid before 2090-01-02"},
		{"app of another key", func(p *Provider) { p.AppCert = pki.platform }, "checking app_cert: it is not the certificate of private_key"},
		{"private key of another app", func(p *Provider) { p.PrivateKey = vectors["K0"]["alipay_private_pkcs8"] }, "checking app_cert: it is not the certificate of private_key"},
		{"platform expired", func(p *Provider) { p.AlipayCert = platform(pki.platforms, expired) }, "checking alipay_cert: the certificate has expired on 2022-05-18"},
		{"platform not yet valid", func(p *Provider) { p.AlipayCert = platform(pki.platforms, early) }, "checking alipay_cert: the certificate is not valid before 2090-01-02"},
		{"platform is the app", func(p *Provider) { p.AlipayCert = pki.app + pki.apps.pem() }, "alipay_cert has the app's own public key: it must be Alipay's certificate (alipayCertPublicKey_RSA2.crt)"},
		{"of another root", func(p *Provider) { p.AlipayCert = platform(pki.stranger, nil) }, noRoot},
		{"without its issuer", func(p *Provider) {
			p.AlipayCert = platform(pki.platforms, nil)[:len(platform(pki.platforms, nil))-len(pki.platforms.pem())]
		}, noRoot},
		{"signed by itself", func(p *Provider) { p.AlipayCert = platform(authority{nil, platformKey}.below("Alipay", 104), nil) }, noRoot},
		{"root of another", func(p *Provider) { p.AlipayRootCert = pki.stranger.pem() }, noRoot},
		{"root is no root", func(p *Provider) { p.AlipayRootCert = strings.TrimSuffix(pki.platform, pki.platforms.pem()) }, "reading alipay_root_cert: there is no root certificate of RSA in it"},
		{"app is of EC", func(p *Provider) { p.AppCert = pki.ec }, "reading app_cert: the certificate is not of RSA"},
		{"platform is of SM2", func(p *Provider) { p.AlipayCert = pki.sm2 }, "reading alipay_cert: the certificate is broken, or not of RSA"},
		{"platform is a key", func(p *Provider) { p.AlipayCert = pemOf("PUBLIC KEY", []byte("x")) }, "reading alipay_cert: there is something else than certificates in it"},
		{"no app", func(p *Provider) { p.AppCert = "" }, "app_cert is required with the other certificates"},
		{"no platform", func(p *Provider) { p.AlipayCert = "" }, "alipay_cert is required with the other certificates"},
		{"no root", func(p *Provider) { p.AlipayRootCert = "" }, "alipay_root_cert is required with the other certificates"},
		{"both modes", func(p *Provider) { p.AlipayPublicKey = platformText }, "alipay_public_key and certificates exclude one another"},
		// What cannot be checked is pinned, but the rest is checked.
		{"sandbox", func(p *Provider) { p.API, p.AlipayRootCert = sandboxAPI, pki.stranger.pem() }, ""},
		{"sandbox, expired", func(p *Provider) { p.API, p.AlipayCert = sandboxAPI, platform(pki.platforms, expired) }, "checking alipay_cert: the certificate has expired on 2022-05-18"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := withCertificates(nil)
			test.change(p)
			err := load(t, p)
			if test.err == "" && err != nil || test.err != "" && (err == nil || err.Error() != test.err) {
				t.Errorf("got %v\nwant %s", err, test.err)
			}
		})
	}
}

var sandboxAPI = []string{"https://openapi-sandbox.dl.alipaydev.com/gateway.do", "https://openapi.alipaydev.com/gateway.do"}

// load provisions and validates a provider, and cleans it up.
func load(t *testing.T, p *Provider) error {
	t.Helper()
	err := p.Provision(caddy.Context{})
	if err == nil {
		err = p.Validate()
	}
	if e := p.Cleanup(); e != nil {
		t.Error(e)
	}
	return err
}
