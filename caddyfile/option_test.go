// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package caddyfile

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/minigate/minigate/caddyfile/arg"
)

// guest is a provider and a store that only has a syntax.
type guest struct {
	id   caddy.ModuleID
	Args []string `json:"args,omitempty"`
	Name string   `json:"name,omitempty"`
}

func (g guest) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: g.id, New: func() caddy.Module { return &guest{id: g.id} }}
}

func (g *guest) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	g.Args = d.RemainingArgs()
	for d.NextBlock(0) {
		if d.Val() != "name" {
			return arg.Unrecognized(d)
		}
		if err := arg.String(d, &g.Name); err != nil {
			return err
		}
	}
	return nil
}

// jsonOnly is a guest without a Caddyfile syntax.
type jsonOnly struct{}

func (jsonOnly) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "miniprogram.stores.test_json", New: func() caddy.Module { return new(jsonOnly) }}
}

func init() {
	caddy.RegisterModule(guest{id: "miniprogram.providers.test"})
	caddy.RegisterModule(guest{id: "miniprogram.stores.test"})
	caddy.RegisterModule(jsonOnly{})
}

// option parses the global option and returns the app's JSON.
func option(t *testing.T, input string, existing any) (string, error) {
	t.Helper()
	value, err := parseOption(caddyfile.NewTestDispenser(input), existing)
	if err != nil {
		return "", err
	}
	app, ok := value.(httpcaddyfile.App)
	if !ok || app.Name != "miniprogram" {
		t.Fatalf("the option is %#v", value)
	}
	data, err := json.Marshal(app.Value)
	if err != nil {
		t.Fatal(err)
	}
	return string(data), nil
}

// A platform that this package has never heard of must be usable from the
// Caddyfile: the host knows its guests by their IDs only.
func TestOptionHandsGuestsWhatIsTheirs(t *testing.T) {
	for _, test := range []struct{ name, input, want string }{
		{"program with arguments", "program test a b", `{"programs":[{"args":["a","b"],"provider":"test"}]}`},
		{"program with a block", "program test {\nname x\n}", `{"programs":[{"name":"x","provider":"test"}]}`},
		{
			"program with an empty block", "program test a {\n}\nsession {\nidle 1h\n}",
			`{"programs":[{"args":["a"],"provider":"test"}],"session":{"idle":3600000000000}}`,
		},
		{
			"the option after a guest is the host's", "program test a\nseal_key k\nprogram test b",
			`{"programs":[{"args":["a"],"provider":"test"},{"args":["b"],"provider":"test"}],"seal_keys":["k"]}`,
		},
		{
			"store", "store test a {\nname x\n}\nprogram test",
			`{"programs":[{"provider":"test"}],"store":{"args":["a"],"name":"x","store":"test"}}`,
		},
		{"empty section", "program test\nexchange {\n}\nsession", `{"programs":[{"provider":"test"}]}`},
	} {
		if got, err := option(t, "miniprogram {\n"+test.input+"\n}", nil); err != nil || got != test.want {
			t.Errorf("%s: got %s, %v\nwant %s", test.name, got, err, test.want)
		}
	}
}

func TestOptionRefused(t *testing.T) {
	for _, test := range []struct{ name, input, want string }{
		{"program of nobody", "program", "wrong argument count or unexpected line ending after 'program', at Testfile:2"},
		{"program unknown", "program\ttset", `there is no provider "tset", at Testfile:2`},
		{"program of a store's name", "program test_json", `there is no provider "test_json", at Testfile:2`},
		{"program of an ID", "program miniprogram.providers.test", `there is no provider "miniprogram.providers.test", at Testfile:2`},
		{"guest's own error", "program test {\nnmae x\n}", `unrecognized option "nmae", at Testfile:3`},
		{"guest's own error, later", "program test\nstore test {\nname x\nname y\n}", "name is already set, at Testfile:5"},
		{"store without a syntax", "store test_json", "module miniprogram.stores.test_json is not a Caddyfile unmarshaler; is *caddyfile.jsonOnly, at Testfile:2"},
		{"store twice", "store test\nstore test", "store is already set, at Testfile:3"},
		{"section twice, once empty", "session\nsession {\n}", "session is already set, at Testfile:3"},
		{"option of another section", "session {\ntimeout 5s\n}", `unrecognized option "timeout", at Testfile:3`},
		{"section's option outside", "lifetime 5s", `unrecognized option "lifetime", at Testfile:2`},
		{"no program", "store test", "the global option miniprogram needs a program, at Testfile:3"},
	} {
		if got, err := option(t, "miniprogram {\n"+test.input+"\n}", nil); err == nil || err.Error() != test.want {
			t.Errorf("%s: got %s, %v\nwant %s", test.name, got, err, test.want)
		}
	}
}

// Two global options, one of them from an imported file: the second must not
// win, nor be merged, without a word.
func TestOptionTwice(t *testing.T) {
	_, err := option(t, "miniprogram {\nprogram test\n}", httpcaddyfile.App{Name: "miniprogram"})
	if err == nil || !strings.HasPrefix(err.Error(), "the global option miniprogram is already set") {
		t.Errorf("got %v", err)
	}
}
