// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func TestUnmarshalCaddyfile(t *testing.T) {
	for _, test := range []struct{ name, input, json, err string }{
		{
			"least",
			"wechat wx01 {\n secret s\n}",
			`{"app_id":"wx01","secret":"s"}`, "",
		},
		{
			"everything",
			"wechat wx01 {\n api https://a.example https://b.example\n secret {env.S}\n}",
			`{"app_id":"wx01","secret":"{env.S}","api":["https://a.example","https://b.example"]}`, "",
		},
		{"no block", "wechat wx01", `{"app_id":"wx01"}`, ""},
		{"no app id", "wechat {\n secret s\n}", "", "wrong argument count or unexpected line ending after 'wechat', at Testfile:1"},
		{"nothing", "wechat", "", "wrong argument count or unexpected line ending after 'wechat', at Testfile:1"},
		{"two app ids", "wechat wx01 wx02 {\n}", "", "wrong argument count or unexpected line ending after 'wx01', at Testfile:1"},
		{"secret missing", "wechat wx01 {\n secret\n}", "", "wrong argument count or unexpected line ending after 'secret', at Testfile:2"},
		{"secret empty", "wechat wx01 {\n secret \"\"\n}", "", "secret must not be empty, at Testfile:2"},
		{"secret surplus", "wechat wx01 {\n secret s t\n}", "", "wrong argument count or unexpected line ending after 't', at Testfile:2"},
		{"secret twice", "wechat wx01 {\n secret s\n secret t\n}", "", "secret is already set, at Testfile:3"},
		{"secret with a block", "wechat wx01 {\n secret s {\n  x\n }\n}", "", "secret takes no block, at Testfile:2"},
		{"api missing", "wechat wx01 {\n api\n}", "", "wrong argument count or unexpected line ending after 'api', at Testfile:2"},
		{"api empty", "wechat wx01 {\n api https://a.example \"\"\n}", "", "api must not be empty, at Testfile:2"},
		{"api twice", "wechat wx01 {\n api https://a.example\n api https://b.example\n}", "", "api is already set, at Testfile:3"},
		{"api with a block", "wechat wx01 {\n api https://a.example {\n  x\n }\n}", "", "api takes no block, at Testfile:2"},
		{"typo", "wechat wx01 {\n secrte s\n}", "", `unrecognized option "secrte", at Testfile:2`},
		{"app id as an option", "wechat wx01 {\n app_id wx02\n}", "", `unrecognized option "app_id", at Testfile:2`},
	} {
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

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name     string
		provider Provider
		err      string
	}{
		{"least", Provider{ID: "wx01", Secret: "s"}, ""},
		{"longest", Provider{ID: strings.Repeat("x", 64), Secret: "s"}, ""},
		{"other platform's id", Provider{ID: "2021_A-z", Secret: "s"}, ""},
		{"nothing", Provider{}, "app_id is required"},
		{"no app id", Provider{Secret: "s"}, "app_id is required"},
		{"app id with a space", Provider{ID: "wx 01", Secret: "s"}, "app_id must have 1 to 64 letters, digits, _ or -"},
		{"app id too long", Provider{ID: strings.Repeat("x", 65), Secret: "s"}, "app_id must have 1 to 64 letters, digits, _ or -"},
		{"no secret", Provider{ID: "wx01"}, "secret is required"},
		{"secret with a line break", Provider{ID: "wx01", Secret: "s\n"}, "secret must have visible ASCII characters only, without spaces and line breaks"},
	} {
		if err := test.provider.Provision(caddy.Context{}); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		err := test.provider.Validate()
		if test.err == "" && err != nil || test.err != "" && (err == nil || err.Error() != test.err) {
			t.Errorf("%s: got %v, want %s", test.name, err, test.err)
		}
		if err := test.provider.Cleanup(); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestProvision(t *testing.T) {
	p := &Provider{ID: "wx01", Secret: "s"}
	if err := p.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.API, " "); got != "https://api.weixin.qq.com https://api2.weixin.qq.com" {
		t.Errorf("api defaults to %s", got)
	}
	p.API[0] = "changed"
	if defaultAPI[0] != "https://api.weixin.qq.com" {
		t.Error("an instance can change the default of others")
	}
	p = &Provider{ID: "wx01", Secret: "s", API: []string{"http://api.example"}}
	err := p.Provision(caddy.Context{})
	want := `setting up api: reading base URL 1: host "api.example": plain http goes to a loopback host only, use https`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if err := p.Cleanup(); err != nil {
		t.Errorf("cleaning up after a failed Provision: %v", err)
	}
}

func TestModule(t *testing.T) {
	info, err := caddy.GetModule("miniprogram.providers.wechat")
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
