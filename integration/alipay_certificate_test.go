// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// In certificate mode the gateway follows Alipay when it changes its
// certificate, and follows nobody else.
func TestAlipayCertificates(t *testing.T) {
	const program, downloadAPI = "2021000000000002", "alipay.open.app.alipaycert.download"
	for name, test := range map[string]struct {
		download simulator.Download
		works    bool
	}{
		"genuine": {simulator.DownloadGenuine, true},
		"serial":  {simulator.DownloadWrongSerial, false},
		"expired": {simulator.DownloadExpired, false},
		"foreign": {simulator.DownloadForeign, false},
		"garbage": {simulator.DownloadGarbage, false},
		"refused": {simulator.DownloadRefused, false},
	} {
		t.Run(name, func(t *testing.T) {
			platform, err := simulator.New(simulator.Config{Programs: []simulator.Program{
				{Platform: "alipay", AppID: program, Secret: simulator.GenerateSecret, Certificates: true, Seed: "certificates"},
			}})
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(platform)
			t.Cleanup(server.Close)
			keys, err := platform.AlipayKeys(program)
			if err != nil {
				t.Fatal(err)
			}
			g := prepare(t, setup{
				options: "program alipay " + program + " {\nprivate_key " + keys.AppPrivateKey +
					"\napp_cert DIR/app.crt\nalipay_cert DIR/alipay.crt\nalipay_root_cert DIR/root.crt\napi " + server.URL + "/gateway.do\n}",
				directive: "programs " + program,
			})
			for file, content := range map[string]string{"app.crt": keys.AppCert, "alipay.crt": keys.AlipayCert, "root.crt": keys.AlipayRootCert} {
				if err := os.WriteFile(filepath.Join(g.dir, file), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			g.run()
			login := func() answer {
				t.Helper()
				code, err := platform.Login(program, "alice")
				if err != nil {
					t.Fatal(err)
				}
				return g.post("/miniprogram/login", `{"code":"`+code+`"}`)
			}
			token := g.token(login())
			if _, err := platform.Rotate(program, test.download); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				if a := login(); test.works {
					g.token(a)
				} else if a.status == 200 {
					t.Errorf("a login by a certificate that is not Alipay's: %s", a.body)
				}
			}
			if n := platform.Calls().Count(program, downloadAPI); n != 1 {
				t.Errorf("%d downloads", n)
			}
			if a := g.get("/", bearer(token)); a.status != 200 {
				t.Errorf("the session of before: %d %s", a.status, a.body)
			}
		})
	}
}
