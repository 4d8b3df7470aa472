// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minigate/minigate/module/store"
)

// TestOpenErrors checks that an error names the address and the reason, has no
// secret, and comes soon.
func TestOpenErrors(t *testing.T) {
	if !installed(t, "redis-server", "redis-cli", "redis-sentinel") {
		return
	}
	t.Parallel()
	plain, locked := startServer(t), startServer(t, "--requirepass", "right-secret")
	host, port, _ := net.SplitHostPort(plain.address)
	replica := startServer(t, "--replicaof", host+" "+port)
	cluster := startCluster(t, 0)
	sentinel := startSentinel(t, plain)
	hanging := startServer(t)
	hanging.signal(syscall.SIGSTOP)
	t.Cleanup(func() { hanging.signal(syscall.SIGCONT) })
	nobody := freeAddress(t)
	var opening sync.WaitGroup
	for _, c := range []struct {
		name string
		o    Opener
		want []string
	}{
		{"unresolvable", Opener{Addresses: []string{"redis.invalid:6379"}}, []string{"redis.invalid"}},
		{"nobody listens", Opener{Addresses: []string{nobody}}, []string{nobody, "connection refused"}},
		{"hangs", Opener{Addresses: []string{hanging.address}}, []string{hanging.address}},
		{"wrong password", Opener{Addresses: []string{locked.address}, Password: "wrong-secret"}, []string{locked.address, "WRONGPASS"}},
		{"wrong user", Opener{Addresses: []string{plain.address}, Username: "gate", Password: "wrong-secret"}, []string{plain.address, "WRONGPASS"}},
		{"no password", Opener{Addresses: []string{locked.address}}, []string{locked.address, "NOAUTH"}},
		{"no such db", Opener{Addresses: []string{plain.address}, DB: 99}, []string{plain.address, "DB index is out of range"}},
		{"cluster as standalone", Opener{Addresses: []string{cluster[0].address}}, []string{cluster[0].address, "is a node of a cluster: add the option cluster"}},
		{"standalone as cluster", Opener{Addresses: []string{plain.address}, Cluster: true}, []string{plain.address, "is not a node of a cluster: remove the option cluster"}},
		{"standalone among nodes", Opener{Addresses: []string{cluster[0].address, plain.address}, Cluster: true}, []string{plain.address, "is not a node of a cluster"}},
		{"no node", Opener{Addresses: []string{nobody, "redis.invalid:1"}, Cluster: true}, []string{nobody, "redis.invalid"}},
		{"replica", Opener{Addresses: []string{replica.address}}, []string{replica.address, "is a replica"}},
		{"sentinel as standalone", Opener{Addresses: []string{sentinel.address}}, []string{sentinel.address, "is a sentinel: add the option sentinel"}},
		{"standalone as sentinel", Opener{Addresses: []string{plain.address}, Sentinel: "primary"}, []string{plain.address, "is not a sentinel"}},
		{"unknown primary", Opener{Addresses: []string{sentinel.address}, Sentinel: "other"}, []string{sentinel.address, `knows no primary called "other"`}},
		{"primary's password", Opener{Addresses: []string{sentinel.address}, Sentinel: "primary", Username: "gate", Password: "wrong-secret"}, []string{sentinel.address, "WRONGPASS"}},
		{"tls to a plain server", Opener{Addresses: []string{plain.address}, TLS: new(TLS)}, []string{plain.address}},
		{"no such ca", Opener{Addresses: []string{plain.address}, TLS: &TLS{CA: "/no/such.pem"}}, []string{"tls", "/no/such.pem"}},
	} {
		opening.Go(func() {
			begin := time.Now()
			s, err := provisioned(t, c.o).Open(bounded(t))
			if err == nil {
				t.Errorf("%s: no error", c.name)
				_ = s.Close()
				return
			}
			for _, part := range append(c.want, "opening store redis: ") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: error %v, want one with %q", c.name, err, part)
				}
			}
			if strings.Contains(err.Error(), "wrong-secret") {
				t.Errorf("%s: the error has the password: %v", c.name, err)
			}
			if took := time.Since(begin); took > 8*time.Second {
				t.Errorf("%s: the error comes after %v", c.name, took)
			}
			t.Logf("%s: %v", c.name, err)
		})
	}
	opening.Wait()

	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := provisioned(t, Opener{Addresses: []string{plain.address}}).Open(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a cancelled context: error %v", err)
	}
	brief, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := provisioned(t, Opener{Addresses: []string{hanging.address}}).Open(brief); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 2*time.Second {
		t.Errorf("Open of a server that hangs: error %v after %v", err, time.Since(begin))
	}
}

// TestPasswords checks the password of the user default, and the rule for a user
// of the gateway's own that the README gives.
func TestPasswords(t *testing.T) {
	if !installed(t, "redis-server", "redis-cli") {
		return
	}
	locked := startServer(t, "--requirepass", "right-secret")
	a := openStore(t, Opener{Addresses: []string{locked.address}, Password: "right-secret"})
	put(t, a, "key", "value")

	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rule, _ := strings.Cut(string(readme), "ACL SETUSER gate ")
	rule, _, _ = strings.Cut(rule, "\n")
	if rule == "" {
		t.Fatal("README.md has no ACL rule")
	}
	single, cluster := startServer(t), startCluster(t, 0)
	for _, s := range append(cluster, single) {
		s.cli(append([]string{"acl", "setuser", "gate"}, strings.Fields(rule)...)...)
	}
	for name, o := range map[string]Opener{
		"tracking": {Addresses: []string{single.address}},
		"db":       {Addresses: []string{single.address}, DB: 2},
		"pubsub":   {Addresses: []string{single.address}, Invalidation: pubsub},
		"cluster":  {Addresses: addresses(cluster), Cluster: true},
	} {
		t.Run(name, func(t *testing.T) {
			o.Username, o.Password = "gate", "password"
			a, b := openStore(t, o), openStore(t, o)
			w := startWatch(t, b, "user/")
			writeAll(t, a, "user/1")
			w.wants(t, "user/1/put", "user/1/updated", "user/1/deleted")
			unlock, err := a.Lock(bounded(t), "lock")
			if err != nil {
				t.Fatal(err)
			}
			unlock()
			found := 0
			if err := a.Scan(bounded(t), "", func(store.Entry) error { found++; return nil }); err != nil || found != 2 {
				t.Errorf("Scan finds %d keys, error %v", found, err)
			}
		})
	}
	for _, s := range append(cluster, single) {
		if log := s.cli("acl", "log"); log != "" {
			t.Errorf("the rule forbids what the gateway does: %s", log)
		}
	}
	other := provisioned(t, Opener{Addresses: []string{single.address}, Username: "gate", Password: "password", Prefix: "other:"})
	outside, err := other.Open(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	if err := outside.Put(bounded(t), "key", nil, 0); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("a write outside of the rule: error %v", err)
	}
}

// TestTLS checks a server that asks for a certificate.
func TestTLS(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	dir := t.TempDir()
	makeCertificates(t, dir)
	in := func(name string) string { return filepath.Join(dir, name) }
	s := &server{
		t: t, program: "redis-server", dir: t.TempDir(), address: freeAddress(t), tls: dir,
		options: []string{"--tls-cert-file", in("cert.pem"), "--tls-key-file", in("key.pem"), "--tls-ca-cert-file", in("cert.pem")},
	}
	s.start()
	files := TLS{CA: in("cert.pem"), Cert: in("cert.pem"), Key: in("key.pem")}
	o := Opener{Addresses: []string{s.address}, TLS: &files}
	a, b := openStore(t, o), openStore(t, o)
	w := startWatch(t, b, "")
	put(t, a, "user/1", "value")
	w.wants(t, "user/1")

	for name, change := range map[string]TLS{
		"unknown authority": {Cert: files.Cert, Key: files.Key},
		"no certificate":    {CA: files.CA},
		"other name":        {CA: files.CA, Cert: files.Cert, Key: files.Key, ServerName: "redis.example.com"},
		"no PEM":            {CA: in("log")},
	} {
		if err := os.WriteFile(in("log"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := provisioned(t, Opener{Addresses: []string{s.address}, TLS: &change}).Open(bounded(t)); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

// makeCertificates makes a certificate for 127.0.0.1 that is its own authority.
func makeCertificates(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: certificate},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
