// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The secret of a program is replaced, in the file before the console and the
// other way round, without a reload: sign-ins and phone numbers, which need the
// secret in two ways, go on.
func TestSecretIsReplacedByFile(t *testing.T) {
	g := prepare(t, setup{caddyfile: `{
	admin unix//DIR/admin.sock
	miniprogram {
		program wechat ` + programA + ` {
			secret {file.DIR/secret}
			api PLATFORM
		}
		store file DIR/sessions.db
	}
}
http://ADDRESS {
	miniprogram
	reverse_proxy UPSTREAM
}`})
	inFile := func(secret string) {
		t.Helper()
		before := strings.Count(g.log.String(), "changed secret is in use")
		if err := os.WriteFile(filepath.Join(g.dir, "secret"), []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		if g.process != nil {
			eventually(t, "the secret is in use", func() bool { return strings.Count(g.log.String(), "changed secret is in use") > before })
		}
	}
	inConsole := func(secret string) {
		t.Helper()
		if err := g.platform.ResetSecret(programA, secret); err != nil {
			t.Fatal(err)
		}
	}
	inFile(secretA)
	g.run()
	token := g.login(programA, "alice")

	inFile("canary-second-secret")
	g.login(programA, "bob")
	inConsole("canary-second-secret")
	g.login(programA, "carol")

	inConsole("canary-third-secret")
	g.post("/miniprogram/login", g.loginBody(programA, "dave")).expect(t, http.StatusInternalServerError, "program_misconfigured")
	inFile("canary-third-secret")
	g.login(programA, "dave")

	code := g.phoneCode(programA, "alice", "13800138000")
	if a := g.post("/miniprogram/phone", `{"code":"`+code+`"}`, bearer(token)); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, secret := range []string{secretA, "canary-second-secret", "canary-third-secret"} {
		if strings.Contains(g.log.String(), secret) {
			t.Errorf("the log has %s", secret)
		}
	}
}
