// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// unmarshal parses a directive.
func unmarshal(text string) (*Handler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text))
}

func TestCaddyfile(t *testing.T) {
	handler, err := unmarshal(`miniprogram_simulator {
		program wechat wx1 {env.SECRET} {
			code_lifetime 10s
			session_key_period 1m
			session_key_lifetime 1d
			no_unionid
		}
		program wechat wx2 secret
		program wechat wx3 secret {
		}
		program alipay 2021000000000001 demo
		program alipay 2021000000000002 {file./run/secrets/app_public_key} {
			code_lifetime 1h
			no_unionid
			migration both
			certificates
			sandbox
			seed {env.SEED}
			aes_key AAECAwQFBgcICQoLDA0ODw==
		}
		recorded_calls 50
	}`)
	if err != nil {
		t.Fatal(err)
	}
	want := &Handler{
		Programs: []HandlerProgram{
			{
				Platform: "wechat", AppID: "wx1", Secret: "{env.SECRET}",
				CodeLifetime:       caddy.Duration(10 * time.Second),
				SessionKeyPeriod:   caddy.Duration(time.Minute),
				SessionKeyLifetime: caddy.Duration(24 * time.Hour),
				NoUnionID:          true,
			},
			{Platform: "wechat", AppID: "wx2", Secret: "secret"},
			{Platform: "wechat", AppID: "wx3", Secret: "secret"},
			{Platform: "alipay", AppID: "2021000000000001", Secret: "demo"},
			{
				Platform: "alipay", AppID: "2021000000000002", Secret: "{file./run/secrets/app_public_key}",
				CodeLifetime: caddy.Duration(time.Hour),
				NoUnionID:    true,
				Migration:    MigrationBoth,
				Certificates: true,
				Sandbox:      true,
				Seed:         "{env.SEED}",
				AESKey:       "AAECAwQFBgcICQoLDA0ODw==",
			},
		},
		RecordedCalls: 50,
	}
	if !reflect.DeepEqual(handler, want) {
		t.Errorf("handler is %+v, want %+v", handler, want)
	}
}

// Whatever is misspelt, missing or too much is an error with its line.
func TestCaddyfileErrors(t *testing.T) {
	program := func(options string) string {
		return "miniprogram_simulator {\nprogram wechat wx1 secret {\n" + options + "\n}\n}"
	}
	alipay := func(options string) string {
		return "miniprogram_simulator {\nprogram alipay 2021000000000001 demo {\n" + options + "\n}\n}"
	}
	for name, test := range map[string]struct{ text, want string }{
		"no key of Alipay":       {"miniprogram_simulator {\nprogram alipay 2021000000000001\n}", "wrong argument count"},
		"session keys of Alipay": {alipay("session_key_period 1m"), `unrecognized option "session_key_period"`},
		"migration of WeChat":    {program("migration both"), `unrecognized option "migration"`},
		"no migration":           {alipay("migration"), "wrong argument count"},
		"unknown migration":      {alipay("migration openid"), "migration must be user_id, both or open_id"},
		"two migrations":         {alipay("migration both open_id"), "wrong argument count"},
		"migration twice":        {alipay("migration both\nmigration both"), "already set"},
		"migration with a block": {alipay("migration both {\nx\n}"), "takes no block"},
		"certificates what":      {alipay("certificates on"), "wrong argument count"},
		"certificates twice":     {alipay("certificates\ncertificates"), "already set"},
		"sandbox twice":          {alipay("sandbox\nsandbox"), "already set"},
		"sandbox of what":        {alipay("sandbox new"), "wrong argument count"},
		"empty seed":             {alipay(`seed ""`), "must not be empty"},
		"seed twice":             {alipay("seed a\nseed b"), "already set"},
		"no aes key":             {alipay("aes_key"), "wrong argument count"},
		"two aes keys":           {alipay("aes_key a b"), "wrong argument count"},

		"no block":            {"miniprogram_simulator", "at least one program"},
		"empty block":         {"miniprogram_simulator {\n}", "at least one program"},
		"argument":            {"miniprogram_simulator wechat {\nprogram wechat wx1 s\n}", "wrong argument count"},
		"unknown option":      {"miniprogram_simulator {\nprogramm wechat wx1 s\n}", `unrecognized option "programm"`},
		"no arguments":        {"miniprogram_simulator {\nprogram\n}", "wrong argument count"},
		"no secret":           {"miniprogram_simulator {\nprogram wechat wx1\n}", "wrong argument count"},
		"empty secret":        {"miniprogram_simulator {\nprogram wechat wx1 \"\"\n}", "wrong argument count"},
		"surplus argument":    {"miniprogram_simulator {\nprogram wechat wx1 s s\n}", "wrong argument count"},
		"unknown platform":    {"miniprogram_simulator {\nprogram wechta wx1 s\n}", `unknown platform "wechta"`},
		"same program twice":  {"miniprogram_simulator {\nprogram wechat wx1 s\nprogram wechat wx1 t\n}", `program "wx1" is already set`},
		"unknown sub-option":  {program("code_life 5m"), `unrecognized option "code_life"`},
		"no duration":         {program("code_lifetime"), "wrong argument count"},
		"bad duration":        {program("code_lifetime soon"), "must be a duration"},
		"zero duration":       {program("session_key_period 0s"), "must be a duration"},
		"two durations":       {program("session_key_lifetime 1h 2h"), "wrong argument count"},
		"duplicate option":    {program("code_lifetime 1m\ncode_lifetime 1m"), "already set"},
		"duplicate flag":      {program("no_unionid\nno_unionid"), "already set"},
		"flag with argument":  {program("no_unionid true"), "wrong argument count"},
		"flag with block":     {program("no_unionid {\nx\n}"), "takes no block"},
		"bad number":          {"miniprogram_simulator {\nprogram wechat wx1 s\nrecorded_calls many\n}", "whole number"},
		"number of zero":      {"miniprogram_simulator {\nprogram wechat wx1 s\nrecorded_calls 0\n}", "whole number"},
		"duplicate number":    {"miniprogram_simulator {\nprogram wechat wx1 s\nrecorded_calls 1\nrecorded_calls 1\n}", "already set"},
		"number with a block": {"miniprogram_simulator {\nprogram wechat wx1 s\nrecorded_calls 1 {\nx\n}\n}", "takes no block"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unmarshal(test.text)
			if err == nil {
				t.Fatal("it was accepted")
			}
			if message := strings.ToLower(err.Error()); !strings.Contains(message, test.want) ||
				!strings.Contains(message, "testfile:") {
				t.Errorf("error is %v, want one with %q and a line", err, test.want)
			}
		})
	}
}

// The directive works in a site without an `order` option, and comes before
// respond.
func TestDirectiveOrder(t *testing.T) {
	adapter := caddyconfig.GetAdapter("caddyfile")
	config, warnings, err := adapter.Adapt([]byte(`:9801 {
	respond "after"
	miniprogram_simulator {
		program wechat wx1 secret
	}
}
`), nil)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("error is %v, warnings %v", err, warnings)
	}
	text := string(config)
	ours, respond := strings.Index(text, `"handler":"miniprogram_simulator"`), strings.Index(text, `"static_response"`)
	if ours < 0 || respond < ours {
		t.Errorf("config is %s", text)
	}
}

// provision makes a handler as Caddy does.
func provision(t testing.TB, config string) (*Handler, error) {
	t.Helper()
	handler := new(Handler)
	if err := json.Unmarshal([]byte(config), handler); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	return handler, handler.Provision(ctx)
}

const handlerConfig = `{"programs":[{"platform":"wechat","app_id":"` + testApp + `","secret":"` + testSecret + `"}]}`

// A user who obtained a code before a reload signs in after it, and his session
// key goes on: the new config is loaded before the old one is cleaned up.
func TestStateSurvivesReload(t *testing.T) {
	before, err := provision(t, handlerConfig)
	if err != nil {
		t.Fatal(err)
	}
	key := signIn(t, before.simulator, "alice")
	target := loginURL(login(t, before.simulator, testApp, "bob"))
	for range 20 {
		after, err := provision(t, handlerConfig)
		if err != nil {
			t.Fatal(err)
		}
		if err := before.Cleanup(); err != nil {
			t.Fatal(err)
		}
		before = after
	}
	recorder := httptest.NewRecorder()
	err = before.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, target, nil), nil)
	if err != nil || !strings.Contains(recorder.Body.String(), "session_key") {
		t.Errorf("answer is %s, error %v", recorder.Body, err)
	}
	if now, err := before.simulator.SessionKey(testApp, "alice"); err != nil || now != key {
		t.Errorf("session key is %q, error %v, want %q", now, err, key)
	}
	if err := before.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if refs, held := simulators.References(before.key); held {
		t.Errorf("%d references are left", refs)
	}
}

// A new secret must take effect: state of the old configuration is not reused.
func TestChangedConfigurationIsAnotherSimulator(t *testing.T) {
	one, err := provision(t, handlerConfig)
	if err != nil {
		t.Fatal(err)
	}
	two, err := provision(t, strings.Replace(handlerConfig, testSecret, "rotated", 1))
	if err != nil {
		t.Fatal(err)
	}
	if one.simulator == two.simulator {
		t.Error("two configurations share one simulator")
	}
	for _, handler := range []*Handler{one, two} {
		if strings.Contains(handler.key, testSecret) || strings.Contains(handler.key, "rotated") {
			t.Error("the key of the pool holds a secret")
		}
		if err := handler.Cleanup(); err != nil {
			t.Error(err)
		}
	}
}

// Caddy calls Cleanup after a failed Provision too, and on whatever it has: it
// must release what this instance holds and nothing else.
func TestCleanupReleasesOnlyItsOwn(t *testing.T) {
	if err := new(Handler).Cleanup(); err != nil {
		t.Errorf("cleaning up nothing: %v", err)
	}
	live, err := provision(t, handlerConfig)
	if err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]string{
		"no program":          `{}`,
		"bad program":         `{"programs":[{"platform":"wechat","app_id":"` + testApp + `"}]}`,
		"negative duration":   strings.Replace(handlerConfig, `"platform"`, `"code_lifetime":-1,"platform"`, 1),
		"unknown placeholder": strings.Replace(handlerConfig, testSecret, "{no.such.placeholder}", 1),
		"empty placeholder":   strings.Replace(handlerConfig, testSecret, "{env.MINIGATE_TEST_NOT_SET}", 1),
	} {
		failed, err := provision(t, config)
		if err == nil {
			t.Errorf("%s: it was accepted", name)
		}
		for range 2 {
			if err := failed.Cleanup(); err != nil {
				t.Errorf("%s: cleaning up: %v", name, err)
			}
		}
	}
	if refs, held := simulators.References(live.key); !held || refs != 1 {
		t.Errorf("the live simulator has %d references, want 1", refs)
	}
	if err := live.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if err := live.Cleanup(); err != nil {
		t.Fatal(err)
	}
}

func TestPlaceholdersAreResolved(t *testing.T) {
	t.Setenv("MINIGATE_TEST_SECRET", testSecret)
	handler, err := provision(t, strings.Replace(handlerConfig, testSecret, "{env.MINIGATE_TEST_SECRET}", 1))
	if err != nil {
		t.Fatal(err)
	}
	signIn(t, handler.simulator, "alice")
	if err := handler.Cleanup(); err != nil {
		t.Error(err)
	}
}

// The ID is public: configs name it.
func TestModuleID(t *testing.T) {
	info, err := caddy.GetModule("http.handlers.miniprogram_simulator")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := info.New().(caddyhttp.MiddlewareHandler); !ok {
		t.Errorf("the module is a %T", info.New())
	}
}
