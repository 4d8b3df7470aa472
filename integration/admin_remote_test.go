// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// administrator is somebody with a client certificate.
type administrator struct {
	name        string
	cert, key   string // PEM files
	certificate string // DER in base64, as Caddy's access control has it
	serial      string
}

// newAdministrator makes a certificate that its owner signs himself.
func newAdministrator(t *testing.T, name string) administrator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, // as openssl makes them
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a := administrator{
		name: name, certificate: base64.StdEncoding.EncodeToString(der), serial: serial.Text(16),
		cert: filepath.Join(t.TempDir(), "cert.pem"), key: filepath.Join(t.TempDir(), "key.pem"),
	}
	for path, block := range map[string]*pem.Block{a.cert: {Type: "CERTIFICATE", Bytes: der}, a.key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// documentedAdmin returns what docs/admin.md says is to stand in the configuration.
func documentedAdmin(t *testing.T) string {
	t.Helper()
	for _, f := range fences(t, "../docs/admin.md") {
		if f.language == "json" && strings.Contains(f.code, "access_control") {
			return f.code
		}
	}
	t.Fatal("docs/admin.md shows no remote endpoint")
	return ""
}

// remoteGateway starts a gateway with Caddy's remote admin endpoint, whose identity
// is a certificate of Caddy's own authority, and returns the endpoint's address.
func remoteGateway(t *testing.T, operator, support administrator) (g *gateway, address string) {
	t.Helper()
	g = start(t, setup{options: withAlipay})
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	adapted, _, err := adapt("Caddyfile", g.caddyfile(g.setup))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal([]byte(adapted), &config); err != nil {
		t.Fatal(err)
	}
	var admin any
	text := strings.NewReplacer(
		"localhost:2019", "unix/"+g.dir+"/admin.sock", ":2021", "127.0.0.1:"+port, "gate1.example.com", "localhost",
		"MIIB…operator…", operator.certificate, "MIIB…support…", support.certificate,
	).Replace(documentedAdmin(t))
	if err := json.Unmarshal([]byte(text), &admin); err != nil {
		t.Fatal(err)
	}
	config["admin"] = admin
	apps, ok := config["apps"].(map[string]any)
	if !ok {
		t.Fatalf("no apps in %s", adapted)
	}
	apps["pki"] = map[string]any{"certificate_authorities": map[string]any{"local": map[string]any{"install_trust": false}}}
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.admin(http.MethodPost, "/load", "application/json", string(data)); err != nil {
		t.Fatalf("%v\n%s", err, g.log)
	}
	return g, "https://localhost:" + port
}

// remotely runs a command against a remote endpoint.
func (g *gateway) remotely(who administrator, address string, args ...string) ran {
	g.t.Helper()
	return g.command("", append(args, "--address", address, "--cert", who.cert, "--key", who.key,
		"--cacert", g.dir+"/data/caddy/pki/authorities/local/root.crt")...)
}

// Support may look, the operator on call may revoke, and who has neither right is
// turned away by Caddy before the gateway hears of him: each from another machine,
// by his certificate.
func TestRemoteAdmin(t *testing.T) {
	operator, support, stranger := newAdministrator(t, "operator"), newAdministrator(t, "support"), newAdministrator(t, "stranger")
	g, address := remoteGateway(t, operator, support)
	alice, bob := g.login(programA, "alice"), g.login(programB, "bob")
	openID := g.openID(programA, "alice")
	eventually(t, "the remote endpoint has its certificate", func() bool { return g.remotely(operator, address, "keys").code == 0 })

	if r := g.remotely(support, address, "sessions", "--program", programA); r.code != 0 || !strings.Contains(r.out, openID) {
		t.Errorf("support lists: %+v", r)
	}
	for _, args := range [][]string{
		{"revoke", "--everyone", "--yes"},
		{"revoke", "--program", programA, "--openid", openID},
		{"inspect", "--program", programA, "--openid", openID},
		{"export", "--program", programA, "--openid", openID},
		{"erase", "--program", programA, "--openid", openID, "--yes"},
		{"programs"},
		{"keys"},
		{"check", "--online"},
	} {
		g.remotely(support, address, args...).fails(t, "not authorized to access this path")
	}
	g.remotely(stranger, address, "sessions").fails(t, "certificate")
	g.command("", "sessions", "--address", address, "--cacert", g.dir+"/data/caddy/pki/authorities/local/root.crt").fails(t, "certificate required")
	g.command("", "sessions", "--address", address, "--cert", operator.cert, "--key", operator.key).fails(t, "certificate")
	for _, token := range []string{alice, bob} {
		g.get("/", bearer(token)).expectStatus(t, 200)
	}
	for _, line := range g.auditLines() {
		if line["action"] != "keys" && line["action"] != "sessions/list" {
			t.Errorf("it reached the gateway: %v", line)
		}
	}

	for want, args := range map[string][]string{
		openID:                  {"sessions", "--all"},
		" valid ":               {"inspect", "--program", programA, "--openid", openID},
		"closed":                {"programs"},
		"signs and seals":       {"keys"},
		"accepted":              {"check", "--online"},
		"platform_session_keys": {"export", "--program", programA, "--openid", openID},
	} {
		if r := g.remotely(operator, address, args...); r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if r := g.remotely(operator, address, "revoke", "--program", programA, "--openid", openID); r.out != "1 sessions revoked\n" {
		t.Errorf("%+v", r)
	}
	g.get("/", bearer(alice)).expect(t, 401, "session_revoked")
	if r := g.remotely(operator, address, "erase", "--program", programA, "--openid", openID, "--yes"); r.out != "erased\n" {
		t.Errorf("%+v", r)
	}
	if r := g.remotely(operator, address, "revoke", "--everyone", "--yes"); r.out != "all sessions revoked\n" {
		t.Errorf("%+v", r)
	}
	g.get("/", bearer(bob)).expect(t, 401, "session_revoked")
	g.remotely(operator, address, "inspect", "--session", "x").fails(t, "session is not the id of a session")
	// The log says who it was.
	lines := g.auditLines()
	found := false
	for _, line := range lines {
		found = found || line["action"] == "sessions/revoke" && line["everyone"] == true && line["admin"] == "CN=operator" && line["admin_serial"] == operator.serial
	}
	if !found {
		t.Errorf("nobody revoked everyone: %v", lines)
	}
}
