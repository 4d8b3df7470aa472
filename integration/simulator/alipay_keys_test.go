// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// The published keys are those of the seed, and fit together.
func TestAlipayDemoKeys(t *testing.T) {
	s, _ := newAlipayTest(t)
	keys := clientOf(t, s, alipayApp).keys
	if keys.AppPrivateKey != DemoAlipayPrivateKey || keys.AlipayPublicKey != DemoAlipayPublicKey || keys.AESKey != DemoAlipayAESKey {
		t.Errorf("keys are %+v", keys)
	}
	seeded, err := New(Config{Programs: []Program{{Platform: "alipay", AppID: alipayApp, Secret: GenerateSecret, Seed: "demo"}}})
	if err != nil {
		t.Fatal(err)
	}
	if again := clientOf(t, seeded, alipayApp).keys; again != keys {
		t.Errorf("keys of the seed are %+v", again)
	}
	if other := clientOf(t, s, alipayOther).keys; other.AppPrivateKey == keys.AppPrivateKey || other.AlipayPublicKey == keys.AlipayPublicKey {
		t.Error("two programs have the same keys")
	}
}

// The README has the keys to copy.
func TestAlipayDemoKeysInReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{DemoAlipayPrivateKey, DemoAlipayPublicKey, DemoAlipayAESKey} {
		if !strings.Contains(string(text), "  "+key+"\n") {
			t.Errorf("README.md does not have %s", key)
		}
	}
}

// Whatever form the app's public key comes in, it is the same key.
func TestAlipaySecrets(t *testing.T) {
	keys := mustKeys(t)
	der := mustBase64(t, keys.AppPublicKey)
	private, err := parseAlipayPrivateKey(keys.AppPrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(&private.PublicKey)
	for name, secret := range map[string]string{
		"base64":            keys.AppPublicKey,
		"base64 in a file":  keys.AppPublicKey + "\n",
		"PEM":               string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		"PKCS#1":            base64.StdEncoding.EncodeToString(pkcs1),
		"PKCS#1 PEM":        string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1})),
		"certificate file":  keys.AppCert,
		"certificate alone": keys.AppCert[:strings.Index(keys.AppCert, "-----END")+len("-----END CERTIFICATE-----\n")],
	} {
		s, err := New(Config{Programs: []Program{{Platform: "alipay", AppID: alipayApp, Secret: secret, Seed: "test"}}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := clientOf(t, s, alipayApp).keys
		if got.AppPublicKey != keys.AppPublicKey || got.AppPrivateKey != "" {
			t.Errorf("%s: keys are %+v", name, got)
		}
		if strings.Contains(name, "certificate") != (got.AppCertSN == keys.AppCertSN) {
			t.Errorf("%s: serial number is %q", name, got.AppCertSN)
		}
	}
}

// mustKeys returns the keys of the program in certificate mode.
func mustKeys(t testing.TB) AlipayKeys {
	t.Helper()
	s, _ := newAlipayTest(t)
	return clientOf(t, s, alipayCerts).keys
}

func TestAlipayRefusesPrograms(t *testing.T) {
	keys := mustKeys(t)
	ec, err := keyMaker{}.ecKey(elliptic.P256(), "")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*Program)
		want   string
	}{
		"no secret":         {func(p *Program) { p.Secret = "" }, "secret is missing"},
		"a word":            {func(p *Program) { p.Secret = "Demo!" }, "demo or generate"},
		"base64 of nothing": {func(p *Program) { p.Secret = "AAAA" }, "neither a public key nor a certificate"},
		"private key":       {func(p *Program) { p.Secret = keys.AppPrivateKey }, "private key"},
		"EC key":            {func(p *Program) { p.Secret = keyText(x509.MarshalPKIXPublicKey(&ec.PublicKey)) }, "not an RSA key"},
		"migration":         {func(p *Program) { p.Migration = "openid" }, "migration must be"},
		"seed of demo":      {func(p *Program) { p.Secret, p.Seed = DemoSecret, "x" }, "no seed"},
		"short aes key":     {func(p *Program) { p.AESKey = "AAAA" }, "16 bytes"},
		"aes key, what":     {func(p *Program) { p.AESKey = "!" }, "16 bytes"},
		"session keys":      {func(p *Program) { p.SessionKeyPeriod = time.Second }, "no session keys"},
		"migration, WeChat": {func(p *Program) { p.Platform, p.Migration = "wechat", MigrationBoth }, "programs of Alipay"},
		"seed, WeChat":      {func(p *Program) { p.Platform, p.Seed = "wechat", "x" }, "programs of Alipay"},
	} {
		program := Program{Platform: "alipay", AppID: alipayApp, Secret: keys.AppPublicKey, Seed: "test"}
		if strings.Contains(name, "WeChat") {
			program.Seed = ""
		}
		test.change(&program)
		_, err := New(Config{Programs: []Program{program}})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error is %v, want one with %q", name, err, test.want)
		}
		if err != nil && len(program.Secret) > len(GenerateSecret) && strings.Contains(err.Error(), program.Secret) {
			t.Errorf("%s: the error holds the secret: %v", name, err)
		}
	}
}

// certificates reads a file, leaving nil for what cannot be read.
func certificates(t testing.TB, file string) []*x509.Certificate {
	t.Helper()
	var certs []*x509.Certificate
	for rest := []byte(file); ; {
		block, left := pem.Decode(rest)
		if block == nil {
			return certs
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			cert = nil
		}
		certs, rest = append(certs, cert), left
	}
}

// verifyChain checks that the first certificate of a file reaches a root.
func verifyChain(t testing.TB, file, roots string) error {
	t.Helper()
	certs := certificates(t, file)
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, root := range certificates(t, roots) {
		if root != nil {
			options.Roots.AddCert(root)
		}
	}
	for _, cert := range certs[1:] {
		options.Intermediates.AddCert(cert)
	}
	_, err := certs[0].Verify(options)
	return err
}

// The file of roots is like Alipay's: the first one cannot be read, those of
// RSA count, and the leaves reach one of them through the intermediate beside
// them.
func TestAlipayCertificates(t *testing.T) {
	keys := mustKeys(t)
	roots := certificates(t, keys.AlipayRootCert)
	if len(roots) != 4 || roots[0] != nil || roots[1].PublicKeyAlgorithm != x509.RSA ||
		roots[2].PublicKeyAlgorithm != x509.ECDSA || roots[3].PublicKeyAlgorithm != x509.RSA {
		t.Fatalf("roots are %v", roots)
	}
	if want := alipayCertSN(roots[1]) + "_" + alipayCertSN(roots[3]); keys.AlipayRootCertSN != want {
		t.Errorf("serial number of the roots is %s, want %s", keys.AlipayRootCertSN, want)
	}
	for _, leaf := range []struct{ file, sn, key string }{
		{keys.AppCert, keys.AppCertSN, keys.AppPublicKey},
		{keys.AlipayCert, keys.AlipayCertSN, keys.AlipayPublicKey},
	} {
		cert := certificates(t, leaf.file)[0]
		if err := verifyChain(t, leaf.file, keys.AlipayRootCert); err != nil {
			t.Error(err)
		}
		if sn := alipayCertSN(cert); sn != leaf.sn || sn != alipaySN(cert.Issuer.String(), cert.SerialNumber.String()) || len(sn) != 32 {
			t.Errorf("serial number is %s, announced %s", sn, leaf.sn)
		}
		if key := keyText(x509.MarshalPKIXPublicKey(cert.PublicKey)); key != leaf.key {
			t.Errorf("key is %s, announced %s", key, leaf.key)
		}
	}
	// The same in every run.
	if again := mustKeys(t); again != keys {
		t.Errorf("keys are %+v", again)
	}
}

// The certificates of the sandbox are read and have serial numbers, and do not
// reach a root.
func TestAlipaySandbox(t *testing.T) {
	s, _ := newAlipayTest(t, func(c *Config) { c.Programs[2].Certificates, c.Programs[2].Sandbox = false, true })
	c := clientOf(t, s, alipayCerts)
	c.signIn()
	for _, file := range []string{c.keys.AppCert, c.keys.AlipayCert} {
		certs := certificates(t, file)
		if len(certs) != 2 || certs[1].IsCA || verifyChain(t, file, c.keys.AlipayRootCert) == nil {
			t.Errorf("file is %s", file)
		}
	}
	if file, _ := c.download(c.keys.AlipayCertSN); file != c.keys.AlipayCert {
		t.Errorf("file is %s", file)
	}
}

// download asks for a certificate.
func (c alipayClient) download(sn string) (string, map[string]any) {
	c.t.Helper()
	content, err := json.Marshal(map[string]string{"alipay_cert_sn": sn})
	if err != nil {
		c.t.Fatal(err)
	}
	recorder := c.send(c.query(alipayCertMethod, nil), url.Values{"biz_content": {string(content)}})
	const name = "alipay_open_app_alipaycert_download_response"
	members := topLevel(c.t, recorder.Body.Bytes())
	var node map[string]any
	if err := json.Unmarshal(find(members, name), &node); err != nil {
		c.t.Fatal(err)
	}
	if signed := len(members) > 1; signed == (node["code"] == "10000") {
		c.t.Errorf("answer is %s", recorder.Body)
	}
	text, _ := node["alipay_cert_content"].(string)
	return string(mustBase64(c.t, text)), node
}

// After a rotation, answers are signed with another key and name another
// certificate, and the download is what was asked for.
func TestAlipayRotation(t *testing.T) {
	for download, test := range map[Download]func(t *testing.T, file string, before, after AlipayKeys){
		"": func(t *testing.T, file string, before, after AlipayKeys) {
			if err := verifyChain(t, file, before.AlipayRootCert); err != nil || file != after.AlipayCert {
				t.Errorf("file is %s, error %v", file, err)
			}
		},
		DownloadWrongSerial: func(t *testing.T, file string, before, after AlipayKeys) {
			if file != before.AlipayCert || alipayCertSN(certificates(t, file)[0]) == after.AlipayCertSN {
				t.Errorf("file is %s", file)
			}
		},
		DownloadExpired: func(t *testing.T, file string, before, _ AlipayKeys) {
			var invalid x509.CertificateInvalidError
			if err := verifyChain(t, file, before.AlipayRootCert); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
				t.Errorf("error is %v", err)
			}
		},
		DownloadForeign: func(t *testing.T, file string, before, after AlipayKeys) {
			if err := verifyChain(t, file, before.AlipayRootCert); err == nil {
				t.Error("it reaches the root")
			}
			certs := certificates(t, file)
			if err := certs[0].CheckSignatureFrom(certs[1]); err != nil || alipayCertSN(certs[0]) != after.AlipayCertSN {
				t.Errorf("error is %v", err)
			}
			old := certificates(t, before.AlipayCert)
			if !bytes.Equal(certs[1].RawIssuer, old[1].RawIssuer) || !bytes.Equal(certs[1].RawSubject, old[1].RawSubject) {
				t.Error("it is called differently")
			}
		},
		DownloadGarbage: func(t *testing.T, file string, _, _ AlipayKeys) {
			if file == "" || len(certificates(t, file)) != 0 {
				t.Errorf("file is %s", file)
			}
		},
	} {
		t.Run("download "+string(download), func(t *testing.T) {
			s, _ := newAlipayTest(t)
			c := clientOf(t, s, alipayCerts)
			before := c.keys
			members := topLevel(t, c.exchange("x").Body.Bytes())
			if len(members) != 3 || members[1].name != "alipay_cert_sn" || string(members[1].value) != `"`+before.AlipayCertSN+`"` {
				t.Errorf("answer is %s", members)
			}
			after, err := s.Rotate(alipayCerts, download)
			if err != nil {
				t.Fatal(err)
			}
			members = topLevel(t, c.exchange("x").Body.Bytes())
			if string(members[1].value) != `"`+after.AlipayCertSN+`"` || after.AlipayCertSN == before.AlipayCertSN ||
				c.isSealed(members, members[0].value) {
				t.Errorf("answer is %s", members)
			}
			c.keys = after
			if !c.isSealed(topLevel(t, c.exchange("x").Body.Bytes()), members[0].value) {
				t.Error("the new key does not verify")
			}
			file, _ := c.download(after.AlipayCertSN)
			test(t, file, before, after)
			if file, _ := c.download(before.AlipayCertSN); file != before.AlipayCert {
				t.Errorf("the old certificate is %s", file)
			}
		})
	}
}

func TestAlipayRotationRefused(t *testing.T) {
	s, _ := newAlipayTest(t)
	after, err := s.Rotate(alipayCerts, DownloadRefused)
	if err != nil {
		t.Fatal(err)
	}
	c := clientOf(t, s, alipayCerts)
	for _, sn := range []string{after.AlipayCertSN, "866efef280dec9137a87d047ac446315", ""} {
		if _, node := c.download(sn); node["code"] != "40002" || node["alipay_cert_content"] != nil {
			t.Errorf("node is %v", node)
		}
	}
	for program, download := range map[string]Download{alipayApp: DownloadForeign, alipayCerts: "stolen", testApp: "", "1": ""} {
		if _, err := s.Rotate(program, download); err == nil {
			t.Errorf("%s %s: it was accepted", program, download)
		}
	}
	// Outside of certificate mode there is nothing that tells of a rotation.
	before := clientOf(t, s, alipayOther)
	if _, err := s.Rotate(alipayOther, ""); err != nil {
		t.Fatal(err)
	}
	members := topLevel(t, before.exchange("x").Body.Bytes())
	if len(members) != 2 || before.isSealed(members, members[0].value) {
		t.Errorf("answer is %s", members)
	}
	if after := clientOf(t, s, alipayOther); !after.isSealed(members, members[0].value) {
		t.Error("the new key does not verify")
	}
}
