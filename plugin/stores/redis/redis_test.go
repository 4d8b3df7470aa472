// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

const moduleID = "miniprogram.stores.redis"

func TestUnmarshalCaddyfile(t *testing.T) {
	for _, c := range []struct {
		name, input string
		want        string // JSON
		err         string // part of the error
	}{
		{"default", "redis", `{}`, ""},
		{"empty block", "redis {\n}", `{}`, ""},
		{"address", "redis r1:6379", `{"addresses":["r1:6379"]}`, ""},
		{"everything", `redis 10.0.0.1:6379 10.0.0.2:6379 {
			username gate
			password {file./run/secrets/redis}
			db 3
			sentinel mymaster
			sentinel_username watcher
			sentinel_password {env.SENTINEL}
			tls {
				ca /ca.pem
				cert /cert.pem
				key /key.pem
				server_name redis.example.com
			}
			prefix gate1:
			invalidation pubsub
			replicas 1
		}`, `{"addresses":["10.0.0.1:6379","10.0.0.2:6379"],"username":"gate","password":"{file./run/secrets/redis}","db":3,` +
			`"sentinel":"mymaster","sentinel_username":"watcher","sentinel_password":"{env.SENTINEL}",` +
			`"tls":{"ca":"/ca.pem","cert":"/cert.pem","key":"/key.pem","server_name":"redis.example.com"},` +
			`"prefix":"gate1:","invalidation":"pubsub","replicas":1}`, ""},
		{"cluster", "redis a:1 b:1 {\n cluster\n tls\n db 0\n replicas 0\n}", `{"addresses":["a:1","b:1"],"cluster":true,"tls":{}}`, ""},
		{"tls with an empty block", "redis {\n tls {\n }\n cluster\n}", `{"cluster":true,"tls":{}}`, ""},
		{"empty address", `redis ""`, "", "an address must not be empty"},
		{"unknown", "redis {\n sync never\n}", "", `unrecognized option "sync"`},
		{"username missing", "redis {\n username\n}", "", "wrong argument count"},
		{"password surplus", "redis {\n password a b\n}", "", "wrong argument count"},
		{"prefix duplicate", "redis {\n prefix a\n prefix b\n}", "", "prefix is already set"},
		{"sentinel block", "redis {\n sentinel a {\n }\n}", "", "sentinel takes no block"},
		{"sentinel_username duplicate", "redis {\n sentinel_username a\n sentinel_username a\n}", "", "sentinel_username is already set"},
		{"sentinel_password missing", "redis {\n sentinel_password\n}", "", "wrong argument count"},
		{"cluster surplus", "redis {\n cluster yes\n}", "", "wrong argument count"},
		{"db missing", "redis {\n db\n}", "", "wrong argument count"},
		{"db no number", "redis {\n db one\n}", "", `db must be a whole number of at least 0, not "one"`},
		{"db below zero", "redis {\n db -1\n}", "", `db must be a whole number of at least 0, not "-1"`},
		{"db 0 duplicate", "redis {\n db 0\n db 0\n}", "", "db is already set"},
		{"replicas no number", "redis {\n replicas all\n}", "", `replicas must be a whole number of at least 0, not "all"`},
		{"invalidation unknown", "redis {\n invalidation polling\n}", "", `invalidation must be tracking or pubsub, not "polling"`},
		{"invalidation missing", "redis {\n invalidation\n}", "", "wrong argument count"},
		{"tls surplus", "redis {\n tls on\n}", "", "wrong argument count"},
		{"tls duplicate", "redis {\n tls\n tls\n}", "", "tls is already set"},
		{"tls unknown", "redis {\n tls {\n  insecure\n }\n}", "", `unrecognized option "insecure"`},
		{"ca missing", "redis {\n tls {\n  ca\n }\n}", "", "wrong argument count"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := caddyfile.NewTestDispenser(c.input)
			d.Next() // to the store's name, as the global option does
			unm, err := caddyfile.UnmarshalModule(d, moduleID)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), ", at Testfile:") {
					t.Fatalf("error %v, want one with %q and the line", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if encoded, err := json.Marshal(unm); err != nil || string(encoded) != c.want {
				t.Errorf("JSON %s, error %v, want %s", encoded, err, c.want)
			}
		})
	}
}

// load loads a store the way the app does: strictly, from its JSON.
func load(t *testing.T, config string) (*Opener, error) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	loaded, err := ctx.LoadModuleByID(moduleID, json.RawMessage(config))
	if err != nil {
		return nil, err
	}
	return loaded.(*Opener), nil
}

func TestDefaults(t *testing.T) {
	o, err := load(t, `{}`)
	if err != nil {
		t.Fatal(err)
	}
	want := &Opener{Addresses: []string{"127.0.0.1:6379"}, Prefix: "minigate:", Invalidation: "tracking"}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got %+v, want %+v", o, want)
	}
	if !o.Shared() {
		t.Error("several gateways share one Redis")
	}
}

func TestInvalid(t *testing.T) {
	for config, want := range map[string]string{
		`{"addresses":["a:1"],"host":"b"}`:            "unknown field",
		`{"addresses":["localhost"]}`:                 `address "localhost" must be host:port`,
		`{"addresses":[":6379"]}`:                     `address ":6379" must be host:port`,
		`{"addresses":["a:1","b:1"]}`:                 "several addresses need the option sentinel or cluster",
		`{"sentinel":"m","cluster":true}`:             "sentinel and cluster exclude each other",
		`{"sentinel_password":"p"}`:                   "sentinel_username and sentinel_password need the option sentinel",
		`{"username":"gate"}`:                         "a username needs a password",
		`{"sentinel":"m","sentinel_username":"gate"}`: "a username needs a password",
		`{"db":-1}`:                                         "db must not be below zero",
		`{"db":1,"cluster":true}`:                           "a cluster has no db but 0",
		`{"replicas":-1}`:                                   "replicas must not be below zero",
		`{"invalidation":"polling"}`:                        `invalidation must be tracking or pubsub, not "polling"`,
		`{"tls":{"cert":"/c.pem"}}`:                         "tls: cert and key need each other",
		`{"prefix":"a{b"}`:                                  "prefix",
		`{"prefix":"a:lock:"}`:                              "prefix",
		`{"addresses":["a:1"],"tls":{"verify":false}}`:      "unknown field",
		`{"addresses":["a:1"],"sentinel_username":"gate"}`:  "need the option sentinel",
		`{"addresses":["a:1","b:1"],"invalidation":"none"}`: "several addresses",
	} {
		if _, err := load(t, config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("loading %s: error %v, want one with %q", config, err, want)
		}
	}
}

// TestIdentity checks that every option changes the identity, the order of
// addresses does not, and no secret is in it.
func TestIdentity(t *testing.T) {
	identity := func(change func(*Opener)) string {
		o := Opener{Addresses: []string{"a:1", "b:1"}, Sentinel: "m", Username: "gate", Password: "secret1", SentinelPassword: "secret2"}
		change(&o)
		return provisioned(t, o).Identity()
	}
	base := identity(func(*Opener) {})
	if other := identity(func(o *Opener) { o.Addresses = []string{"b:1", "a:1"} }); other != base {
		t.Errorf("identities %q and %q, want the same", base, other)
	}
	for name, change := range map[string]func(*Opener){
		"addresses":         func(o *Opener) { o.Addresses = []string{"a:1"} },
		"username":          func(o *Opener) { o.Username = "other" },
		"password":          func(o *Opener) { o.Password = "other" },
		"db":                func(o *Opener) { o.DB = 1 },
		"sentinel":          func(o *Opener) { o.Sentinel = "other" },
		"sentinel_username": func(o *Opener) { o.SentinelUsername = "other" },
		"sentinel_password": func(o *Opener) { o.SentinelPassword = "other" },
		"cluster":           func(o *Opener) { o.Sentinel, o.SentinelPassword, o.Cluster = "", "", true },
		"tls":               func(o *Opener) { o.TLS = new(TLS) },
		"ca":                func(o *Opener) { o.TLS = &TLS{CA: "/ca.pem"} },
		"prefix":            func(o *Opener) { o.Prefix = "other:" },
		"invalidation":      func(o *Opener) { o.Invalidation = pubsub },
		"replicas":          func(o *Opener) { o.Replicas = 1 },
	} {
		if other := identity(change); other == base || strings.Contains(other, "secret") {
			t.Errorf("%s: identity %q, before %q", name, other, base)
		}
	}
}

// TestZeroValue checks that what was never provisioned answers errors.
func TestZeroValue(t *testing.T) {
	var o Opener
	_ = o.Identity()
	if _, err := o.Open(context.Background()); err == nil {
		t.Error("Open without Provision: no error")
	}
}
