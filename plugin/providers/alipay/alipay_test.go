// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/minigate/minigate/module/provider"
)

func TestUnmarshalCaddyfile(t *testing.T) {
	type row struct{ name, input, json, err string }
	rows := []row{
		{
			"keys",
			"alipay 2021 {\n private_key {file./k}\n alipay_public_key {env.P}\n}",
			`{"app_id":"2021","private_key":"{file./k}","alipay_public_key":"{env.P}"}`, "",
		},
		{
			"everything",
			"alipay 2021 {\n api https://a.example/gateway.do https://b.example\n private_key k\n alipay_public_key p\n app_cert a.crt\n alipay_cert b.crt\n alipay_root_cert c.crt\n aes_key e\n app_auth_token t\n}",
			`{"app_id":"2021","private_key":"k","alipay_public_key":"p","app_cert":"a.crt","alipay_cert":"b.crt","alipay_root_cert":"c.crt","aes_key":"e","app_auth_token":"t","api":["https://a.example/gateway.do","https://b.example"]}`, "",
		},
		{"no block", "alipay 2021", `{"app_id":"2021"}`, ""},
		{"no app id", "alipay {\n private_key s\n}", "", "wrong argument count or unexpected line ending after 'alipay', at Testfile:1"},
		{"nothing", "alipay", "", "wrong argument count or unexpected line ending after 'alipay', at Testfile:1"},
		{"two app ids", "alipay 2021 2022 {\n}", "", "wrong argument count or unexpected line ending after '2021', at Testfile:1"},
		{"api missing", "alipay 2021 {\n api\n}", "", "wrong argument count or unexpected line ending after 'api', at Testfile:2"},
		{"api empty", "alipay 2021 {\n api https://a.example \"\"\n}", "", "api must not be empty, at Testfile:2"},
		{"api twice", "alipay 2021 {\n api https://a.example\n api https://b.example\n}", "", "api is already set, at Testfile:3"},
		{"api with a block", "alipay 2021 {\n api https://a.example {\n  x\n }\n}", "", "api takes no block, at Testfile:2"},
		{"typo", "alipay 2021 {\n private_kye s\n}", "", `unrecognized option "private_kye", at Testfile:2`},
		{"app id as an option", "alipay 2021 {\n app_id 2022\n}", "", `unrecognized option "app_id", at Testfile:2`},
		{"option of another platform", "alipay 2021 {\n secret s\n}", "", `unrecognized option "secret", at Testfile:2`},
	}
	for _, name := range []string{"private_key", "alipay_public_key", "app_cert", "alipay_cert", "alipay_root_cert", "aes_key", "app_auth_token"} {
		const after = "wrong argument count or unexpected line ending after "
		rows = append(rows,
			row{name + " missing", "alipay 2021 {\n " + name + "\n}", "", after + "'" + name + "', at Testfile:2"},
			row{name + " empty", "alipay 2021 {\n " + name + " \"\"\n}", "", name + " must not be empty, at Testfile:2"},
			row{name + " surplus", "alipay 2021 {\n " + name + " s t\n}", "", after + "'t', at Testfile:2"},
			row{name + " twice", "alipay 2021 {\n " + name + " s\n " + name + " t\n}", "", name + " is already set, at Testfile:3"},
			row{name + " with a block", "alipay 2021 {\n " + name + " s {\n  x\n }\n}", "", name + " takes no block, at Testfile:2"},
		)
	}
	for _, test := range rows {
		t.Run(test.name, func(t *testing.T) {
			var p Provider
			err := p.UnmarshalCaddyfile(caddyfile.NewTestDispenser(test.input))
			if test.err != "" {
				if err == nil || err.Error() != test.err {
					t.Errorf("got error %v\nwant %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := json.Marshal(p); err != nil || string(got) != test.json {
				t.Errorf("got %s %v\nwant %s", got, err, test.json)
			}
		})
	}
}

func TestConfigurations(t *testing.T) {
	const own = "alipay_public_key is the app's own public key: it must be Alipay's, which the console shows beside it"
	for _, test := range []struct {
		name   string
		change func(*Provider)
		err    string
	}{
		{"least", func(*Provider) {}, ""},
		{"sandbox", func(p *Provider) { p.API = sandboxAPI }, ""},
		{"aes_key", func(p *Provider) { p.AESKey = testAESKey }, ""},
		{"app_auth_token", func(p *Provider) { p.AppAuthToken = testToken }, ""},
		{"longest app id", func(p *Provider) { p.ID = strings.Repeat("2", 64) }, ""},
		{"no app id", func(p *Provider) { p.ID = "" }, "app_id is required"},
		{"app id with a space", func(p *Provider) { p.ID = "2021 01" }, "app_id must have 1 to 64 letters, digits, _ or -"},
		{"app id too long", func(p *Provider) { p.ID = strings.Repeat("2", 65) }, "app_id must have 1 to 64 letters, digits, _ or -"},
		{"no private key", func(p *Provider) { p.PrivateKey = "" }, "private_key is required"},
		{"private key is a public key", func(p *Provider) { p.PrivateKey = appPublicText }, "reading private_key: it is a public key"},
		{"no public key", func(p *Provider) { p.AlipayPublicKey = "" }, "alipay_public_key is required, or app_cert, alipay_cert and alipay_root_cert"},
		{"public key is a private key", func(p *Provider) { p.AlipayPublicKey = appKeyText }, "reading alipay_public_key: it is a private key"},
		{"public key of the app", func(p *Provider) { p.AlipayPublicKey = appPublicText }, own},
		{"public key of the app, PEM", func(p *Provider) {
			raw, err := base64.StdEncoding.DecodeString(appPublicText)
			if err != nil {
				t.Fatal(err)
			}
			p.AlipayPublicKey = pemOf("PUBLIC KEY", raw)
		}, own},
		{"both modes", func(p *Provider) { p.AppCert = "x" }, "alipay_public_key and certificates exclude one another"},
		{"aes_key of 15 bytes", func(p *Provider) { p.AESKey = "AAECAwQFBgcICQoLDA0O" }, "aes_key must be 16 bytes in base64, this one has 15"},
		{"app_auth_token with a line break", func(p *Provider) { p.AppAuthToken = "a\nb" }, "app_auth_token must have 1 to 128 letters, digits, _ or -"},
		{"api not https", func(p *Provider) { p.API = []string{"http://openapi.alipay.com/gateway.do"} }, `setting up api: reading base URL 1: host "openapi.alipay.com": plain http goes to a loopback host only, use https`},
		{"api with the query", func(p *Provider) { p.API = []string{"https://openapi.alipay.com/gateway.do?charset=utf-8"} }, `setting up api: reading base URL 1: host "openapi.alipay.com": a query or fragment does not belong there`},
		{"sandbox beside production", func(p *Provider) { p.API = append(sandboxAPI[:1:1], defaultAPI...) }, "api must not have the sandbox beside other hosts: its keys are not theirs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &Provider{ID: testAppID, PrivateKey: appKeyText, AlipayPublicKey: platformText}
			test.change(p)
			err := load(t, p)
			if test.err == "" && err != nil || test.err != "" && (err == nil || err.Error() != test.err) {
				t.Errorf("got %v\nwant %s", err, test.err)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	p := start(t, &Provider{ID: testAppID, PrivateKey: appKeyText, AlipayPublicKey: platformText})
	if got := strings.Join(p.API, " "); got != "https://openapi.alipay.com/gateway.do" {
		t.Errorf("api defaults to %s", got)
	}
	p.API[0] = "changed"
	if defaultAPI[0] != "https://openapi.alipay.com/gateway.do" {
		t.Error("an instance can change the default of others")
	}
}

func TestModule(t *testing.T) {
	info, err := caddy.GetModule("miniprogram.providers.alipay")
	if err != nil {
		t.Fatal(err)
	}
	p, ok := info.New().(*Provider)
	if !ok {
		t.Fatalf("the module is a %T", info.New())
	}
	if err := p.Cleanup(); err != nil {
		t.Errorf("cleaning up a zero value: %v", err)
	}
}

// The README says what the code does.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]string)
	for line := range strings.SplitSeq(string(data), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 7 {
			continue
		}
		for code := range strings.SplitSeq(cells[1], ",") {
			if name := strings.Trim(code, " `*"); strings.HasPrefix(strings.TrimSpace(code), "`") {
				documented[strings.TrimSuffix(bare(name), "-")] = strings.Trim(cells[3], " `")
			}
		}
	}
	want := make(map[string]string)
	for name, reason := range reasons {
		want[name] = reason.String()
	}
	for name, reason := range codes {
		want[name] = reason.String()
	}
	delete(want, "unknown-error") // the platform's own spelling is enough
	for name, reason := range want {
		if documented[name] != reason {
			t.Errorf("sub_code %s is %s, the README says %q", name, reason, documented[name])
		}
	}
	for name := range documented {
		if want[name] == "" && name != "sub_code" {
			t.Errorf("the README has sub_code %s", name)
		}
	}
	for title, want := range map[string]map[string]provider.Reason{"alipay.user.info.share": infoReasons, "my.getPhoneNumber": phoneReasons} {
		_, rest, _ := strings.Cut(string(data), "ode` of `"+title+"` |")
		table, _, _ := strings.Cut(rest, "\n\n")
		found := make(map[string]bool)
		for line := range strings.SplitSeq(table, "\n") {
			cells := strings.Split(line, "|")
			for code := range strings.SplitSeq(cells[min(1, len(cells)-1)], ",") {
				name := bare(strings.Trim(code, " `-"))
				reason, ok := want[name]
				if found[name] = ok; ok && (len(cells) < 3 || strings.Trim(cells[2], " `") != reason.String()) {
					t.Errorf("%s of %s is %s, the README says %s", name, title, reason, line)
				}
			}
		}
		for name := range want {
			if !found[name] {
				t.Errorf("the README has no %s of %s", name, title)
			}
		}
	}
	_, example, _ := strings.Cut(string(data), "```json\n")
	example, _, _ = strings.Cut(example, "```")
	p := struct {
		Name string `json:"provider"`
		Provider
	}{}
	decoder := json.NewDecoder(strings.NewReader(example))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		t.Errorf("decoding the JSON of the README: %v", err)
	}
	if p.Name != "alipay" || strings.Join(p.API, " ") != strings.Join(defaultAPI, " ") {
		t.Errorf("the JSON of the README is %+v", p)
	}
}
