// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"sync"
	"testing"
)

// pemOf writes a PEM block.
func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// der returns what a marshalling function made.
func der(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

// otherKeys are keys of kinds that the platform does not take.
var otherKeys = sync.OnceValue(func() (k struct {
	ec    *ecdsa.PrivateKey
	ed    ed25519.PrivateKey
	small *rsa.PrivateKey
},
) {
	var err [3]error
	k.ec, err[0] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, k.ed, err[1] = ed25519.GenerateKey(rand.Reader)
	k.small, err[2] = rsa.GenerateKey(rand.Reader, 1024)
	for _, e := range err {
		if e != nil {
			panic(e)
		}
	}
	return k
})

// encryptedPKCS8 is the form of an encrypted key.
func encryptedPKCS8() []byte {
	return der(asn1.Marshal(encryptedKey{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}},
		Data:      []byte("encrypted, whatever it is"),
	}))
}

func TestPrivateKeys(t *testing.T) {
	pkcs1, pkcs8 := x509.MarshalPKCS1PrivateKey(appKey), der(x509.MarshalPKCS8PrivateKey(appKey))
	bare := base64.StdEncoding.EncodeToString
	others := otherKeys()
	ec := der(x509.MarshalECPrivateKey(others.ec))
	spki := der(x509.MarshalPKIXPublicKey(&appKey.PublicKey))
	good := pemOf("RSA PRIVATE KEY", pkcs1)
	const none = "there is no RSA private key in it"
	const noText = "it is neither PEM nor base64 of a key"
	for _, test := range []struct{ name, text, err string }{
		{"PEM PKCS #1", good, ""},
		{"PEM PKCS #8", pemOf("PRIVATE KEY", pkcs8), ""},
		{"PEM with the other's name", pemOf("PRIVATE KEY", pkcs1), ""},
		{"bare PKCS #1", bare(pkcs1), ""},
		{"bare PKCS #8", bare(pkcs8), ""},
		{"of the platform's tool", appKeyText, ""},
		{"bare in lines", pemLines(bare(pkcs8)), ""},
		{"line breaks of Windows", strings.ReplaceAll(good, "\n", "\r\n"), ""},
		{"byte order mark", "\ufeff" + bare(pkcs8) + "\r\n", ""},
		{"text around PEM", "Bag Attributes\n  x: y\n" + good + "\n# end\n", ""},
		{"empty", "", noText},
		{"blank", " \n\t", noText},
		{"text", "secret", noText},
		{"base64 of no key", bare([]byte("no key, and no sequence")), noText},
		{"base64 of another sequence", bare(der(asn1.Marshal(struct{ A, B string }{"no", "key"}))), none},
		{"base64 cut", bare(pkcs8)[:800], none},
		{"PEM cut", good[:800], errPEM},
		{"PEM in one line", strings.ReplaceAll(good, "\n", ""), errPEM},
		{"PEM with \\n for line breaks", strings.ReplaceAll(good, "\n", `\n`), errPEM},
		{"PEM of nothing", pemOf("PRIVATE KEY", nil), none},
		{"two keys", good + good, "there is more than one PEM block in it"},
		{"path", "/run/secrets/app_private_key.pem", errPath.Error()},
		{"relative path", "./key", errPath.Error()},
		{"name of a file", "app_private_key.txt", errPath.Error()},
		{"encrypted PKCS #8", pemOf("ENCRYPTED PRIVATE KEY", encryptedPKCS8()), errEncrypted.Error()},
		{"encrypted PKCS #8, bare", bare(encryptedPKCS8()), errEncrypted.Error()},
		{"encrypted PKCS #1", strings.Replace(good, "\n", "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n", 1), errEncrypted.Error()},
		{"EC", pemOf("EC PRIVATE KEY", ec), errEC.Error()},
		{"EC, bare", bare(ec), errEC.Error()},
		{"EC as openssl writes it", pemOf("EC PARAMETERS", []byte{6, 1, 1}) + pemOf("EC PRIVATE KEY", ec), errEC.Error()},
		{"EC PKCS #8", pemOf("PRIVATE KEY", der(x509.MarshalPKCS8PrivateKey(others.ec))), errEC.Error()},
		{"Ed25519", bare(der(x509.MarshalPKCS8PrivateKey(others.ed))), errEC.Error()},
		{"public key", appPublicText, "it is a public key"},
		{"public key, PEM", pemOf("PUBLIC KEY", spki), "it is a public key"},
		{"public key PKCS #1", pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&appKey.PublicKey)), "it is a public key"},
		{"certificate", testCertificates().app, "it is a certificate"},
		{"1024 bits", bare(x509.MarshalPKCS1PrivateKey(others.small)), "it has 1024 bits: RSA2 takes a key of 2048"},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, err := parsePrivateKey(test.text)
			if test.err == "" {
				if err != nil || !key.Equal(appKey) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil || err.Error() != test.err {
				t.Errorf("got %v\nwant %s", err, test.err)
			}
		})
	}
}

const errPEM = "its PEM is broken: are all lines there, and the line breaks?"

// pemLines breaks a text into lines.
func pemLines(text string) string {
	var b strings.Builder
	for i, r := range text {
		if i%64 == 0 && i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteRune(r)
	}
	return b.String()
}

func TestPublicKeys(t *testing.T) {
	spki, pkcs1 := der(x509.MarshalPKIXPublicKey(&platformKey.PublicKey)), x509.MarshalPKCS1PublicKey(&platformKey.PublicKey)
	bare := base64.StdEncoding.EncodeToString
	others := otherKeys()
	for _, test := range []struct{ name, text, err string }{
		{"bare", platformText, ""},
		{"PEM", pemOf("PUBLIC KEY", spki), ""},
		{"PEM PKCS #1", pemOf("RSA PUBLIC KEY", pkcs1), ""},
		{"bare PKCS #1", bare(pkcs1), ""},
		{"in lines", pemLines(platformText) + "\n", ""},
		{"empty", "", "it is neither PEM nor base64 of a key"},
		{"cut", platformText[:200], "there is no RSA public key in it"},
		{"path", "/run/secrets/alipay_public_key.pem", errPath.Error()},
		{"private key", appKeyText, "it is a private key"},
		{"EC", pemOf("PUBLIC KEY", der(x509.MarshalPKIXPublicKey(&others.ec.PublicKey))), errEC.Error()},
		{"encrypted private key", bare(encryptedPKCS8()), errEncrypted.Error()},
		{"certificate", testCertificates().platform, "it is a certificate: configure app_cert, alipay_cert and alipay_root_cert instead"},
		{"1024 bits", bare(x509.MarshalPKCS1PublicKey(&others.small.PublicKey)), "it has 1024 bits: RSA2 takes a key of 2048"},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, err := parsePublicKey(test.text)
			if test.err == "" {
				if err != nil || !key.Equal(&platformKey.PublicKey) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil || err.Error() != test.err {
				t.Errorf("got %v\nwant %s", err, test.err)
			}
		})
	}
}

func TestAESKeys(t *testing.T) {
	for text, want := range map[string]string{
		testAESKey:                 "",
		"AAECAwQFBgcICQoLDA0O":     "aes_key must be 16 bytes in base64, this one has 15",
		"AAECAwQFBgcICQoLDA0ODxA=": "aes_key must be 16 bytes in base64, this one has 17",
		"AAECAwQFBgcICQoLDA0ODw":   "aes_key must be base64",
		"000102030405060708":       "aes_key must be base64",
		"canary!":                  "aes_key must be base64",
	} {
		_, err := parseAESKey(text)
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// Whatever is configured as a key, no error shows it, and what is taken for a key
// can sign.
func FuzzKeys(f *testing.F) {
	for _, seed := range []string{
		"", appKeyText, platformText, pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(appKey)), "-----BEGIN", "MAA=",
		pemOf("EC PARAMETERS", nil), base64.StdEncoding.EncodeToString(encryptedPKCS8()),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, err := parsePrivateKey(text)
		switch {
		case err == nil:
			if signature, err := sign(key, "text"); err != nil || !isSigned(&key.PublicKey, []byte("text"), signature) {
				t.Fatalf("the key cannot sign: %v", err)
			}
		case len(text) > 16 && strings.Contains(err.Error(), text):
			t.Fatalf("the error shows the key: %v", err)
		}
		if _, err := parsePublicKey(text); err != nil && len(text) > 16 && strings.Contains(err.Error(), text) {
			t.Fatalf("the error shows the key: %v", err)
		}
	})
}
