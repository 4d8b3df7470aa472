// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// The attack: whoever can read logs takes over sessions, because Caddy knows
// which headers of its own to keep out of them, but not those of the wafer
// protocols. The filter of the option reference, run as it stands there, keeps
// them out of the access log and of the log of failed requests. Without it they
// are in both, so that the test would notice if they moved.
func TestDocsWaferLogFilter(t *testing.T) {
	for _, test := range []struct {
		name   string
		change *strings.Replacer
		leaks  bool
	}{
		{"as documented", strings.NewReplacer(), false},
		{"without the filter", strings.NewReplacer("\t\timport without_wafer_credentials\n", ""), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := start(t, setup{caddyfile: test.change.Replace(waferCaddyfile(t))})
			code, encrypted, iv := g.code(programA, "alice"), "canary-encrypted-data", "canary-iv"
			a := g.get("/login", "X-WX-Code: "+code, "X-WX-Encrypted-Data: "+encrypted, "X-WX-Encrypt-Data: "+encrypted, "X-WX-IV: "+iv)
			var login struct {
				Session struct{ ID, Skey string }
			}
			if err := json.Unmarshal([]byte(a.body), &login); err != nil || login.Session.Skey == "" {
				t.Fatalf("login: %d %s\n%s", a.status, a.body, g.log)
			}
			secrets := []string{code, encrypted, iv, login.Session.ID, login.Session.Skey}
			shown := []string{"X-WX-Id: " + login.Session.ID, "X-WX-Skey: " + login.Session.Skey}
			// Nobody listens behind the gateway: the request fails after it was
			// let through.
			if a := g.get("/orders", shown...); a.status != http.StatusBadGateway {
				t.Fatalf("answer is %d %s", a.status, a.body)
			}
			for _, logger := range []string{`"logger":"http.log.access`, `"logger":"http.log.error`} {
				lines := linesWith(g, logger)
				if lines == "" || !strings.Contains(lines, `"uri":"/orders"`) {
					t.Fatalf("nothing was logged as %s\n%s", logger, g.log)
				}
				if strings.Contains(lines, login.Session.Skey) != test.leaks {
					t.Errorf("the skey stands in %s: %v\n%s", logger, !test.leaks, lines)
				}
			}
			for _, secret := range secrets {
				if strings.Contains(g.log.String(), secret) != test.leaks {
					t.Errorf("%s stands in the log: %v", secret, !test.leaks)
				}
			}
		})
	}
}

// waferCaddyfile returns the Caddyfile with the log filter from the option
// reference, with its site and its platform in this machine.
func waferCaddyfile(t *testing.T) string {
	t.Helper()
	for _, f := range fences(t, optionReference) {
		if f.language == "caddyfile" && strings.Contains(f.code, "(without_wafer_credentials)") {
			return strings.NewReplacer(
				"\n{\n", "\n{\n\tadmin unix//DIR/admin.sock\n",
				"api.example.com", "http://ADDRESS",
				"wx0123456789abcdef", programA,
				"{env.WECHAT_SECRET}", secretA+"\n\t\t\tapi PLATFORM",
				"legacy:8080", freeAddress(t),
			).Replace(f.code)
		}
	}
	t.Fatal("the option reference has no filter")
	return ""
}

// linesWith returns the lines of a gateway's log that contain text, once there
// is one.
func linesWith(g *gateway, text string) string {
	g.t.Helper()
	var found strings.Builder
	eventually(g.t, "a log line with "+text, func() bool {
		found.Reset()
		for line := range strings.Lines(g.log.String()) {
			if strings.Contains(line, text) {
				found.WriteString(line)
			}
		}
		return strings.Contains(found.String(), `"uri":"/orders"`)
	})
	return found.String()
}
