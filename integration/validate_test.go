// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// validation is a place where configurations are validated, as `minigate
// validate` does: everything is provisioned, nothing is started.
type validation struct {
	// dir holds Caddy's storage and data directory, and nothing else.
	dir string
	// secrets is a folder with files for the placeholder {file.*}.
	secrets string
}

func newValidation(t *testing.T) *validation {
	t.Helper()
	v := &validation{dir: t.TempDir(), secrets: t.TempDir()}
	t.Setenv("HOME", v.dir)
	t.Setenv("XDG_DATA_HOME", filepath.Join(v.dir, "data"))
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(v.dir, "config"))
	key := func(fill byte, size int) string {
		return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, size)) + "\n"
	}
	for name, content := range map[string]string{
		"secret": "canary-secret\n", "empty": "", "blank": " \n\n", "two-lines": "canary\nsecret\n",
		"key": key(1, 32), "key-again": key(1, 32), "key-old": key(2, 32), "key-short": key(3, 31), "key-text": "canary: no base64\n",
	} {
		if err := os.WriteFile(filepath.Join(v.secrets, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// caddyfile returns a Caddyfile from lines of the global option and of the
// directive; SECRETS in them is the folder of secrets. Without lines of the
// global option it has none.
func (v *validation) caddyfile(option, directive string) string {
	global := ""
	if option != "" {
		global = "miniprogram {\n" + option + "\n}\n"
	}
	text := "{\nadmin off\nauto_https off\nlog {\noutput discard\n}\nstorage file_system DIR/storage\n" + global + "}\n" +
		"http://localhost {\nlog\nminiprogram {\n" + directive + "\n}\nrespond ok\n}\n"
	return strings.NewReplacer("DIR", v.dir, "SECRETS", v.secrets).Replace(text)
}

// validate adapts and validates a Caddyfile.
func (v *validation) validate(text string) error {
	config, _, err := adapt("Caddyfile", text)
	if err != nil {
		return err
	}
	return validateJSON(config)
}

// validateJSON does what `caddy validate` does.
func validateJSON(text string) error {
	config := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON([]byte(text), config); err != nil {
		return err
	}
	return caddy.Validate(config)
}

// files returns what was written while configurations were validated.
func (v *validation) files(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(v.dir, func(path string, _ fs.DirEntry, err error) error {
		if path != v.dir {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

const oneProgram = "program wechat " + programA + " {\nsecret {file.SECRETS/secret}\n}\n"

// A configuration that cannot work must be found out when it is loaded, not by
// the first user; and the operator must be told which option is at fault, but
// never shown a secret, because errors are pasted into tickets.
func TestValidateRefuses(t *testing.T) {
	program := func(lines string) string { return "program wechat " + programA + " {\n" + lines + "\n}\n" }
	for _, test := range []struct{ name, option, directive, want string }{
		// The global option.
		{"the same app id twice", oneProgram + oneProgram, "", "program 2: " + programA + " is already configured"},
		{"no secret", program(""), "", "secret is required"},
		{"secret not in the environment", program("secret {env.NOPE}"), "", "program 1: wechat: secret: evaluated placeholder {env.NOPE} is empty"},
		{"placeholder unknown", program("secret {nope.secret}"), "", "program 1: wechat: secret: unrecognized placeholder {nope.secret}"},
		{"secret file empty", program("secret {file.SECRETS/empty}"), "", "program 1: wechat: secret: evaluated placeholder {file.SECRETS/empty} is empty"},
		{"secret file blank", program("secret {file.SECRETS/blank}"), "", "program 1: wechat: secret: is empty"},
		{"secret file missing", program("secret {file.SECRETS/nope}"), "", "program 1: wechat: secret: evaluated placeholder {file.SECRETS/nope} is empty"},
		{"secret of two lines", program("secret {file.SECRETS/two-lines}"), "", "secret must have visible ASCII characters only"},
		{"api not https", program("secret s\napi http://api.weixin.qq.com"), "", `plain http goes to a loopback host only`},
		{"api not in the environment", program("secret s\napi {env.NOPE}"), "", "program 1: wechat: api[0]: evaluated placeholder {env.NOPE} is empty"},
		{"app id with a space", "program wechat \"wx 01\" {\nsecret s\n}", "", "app_id must have 1 to 64 letters, digits, _ or -"},
		{"store path not in the environment", oneProgram + "store file {env.NOPE}", "", "store: path: evaluated placeholder {env.NOPE} is empty"},
		{"seal key not in the environment", oneProgram + "seal_key {env.NOPE}", "", "seal_key 1: evaluated placeholder {env.NOPE} is empty"},
		{"seal key too short", oneProgram + "seal_key {file.SECRETS/key-short}", "", "seal_key 1: a key must be 32 bytes in base64, this one has 31"},
		{"seal key not base64", oneProgram + "seal_key {file.SECRETS/key} {file.SECRETS/key-text}", "", "seal_key 2: a key must be base64"},
		{"the same seal key twice", oneProgram + "seal_key {file.SECRETS/key} {file.SECRETS/key-again}", "", "seal_key: key 2: the same key is given twice"},

		// The directive.
		{"directive without the global option", "", "", "global option miniprogram"},
		{"program that is not configured", oneProgram, "programs " + programB, "program " + programB + " is not configured"},
		{"preset unknown", oneProgram, "headers users", `there is no header preset "users"; there are cloudrun, forwarded_user, remote_user, user`},
		{"preset twice", oneProgram, "headers user user", "header X-User-Id is set twice"},
		{"header that a preset sends", oneProgram, "header x-user-id {http.auth.user.unionid}", "header X-User-Id is set twice"},
		{"header name with an underscore", oneProgram, "header X_Tenant a", `header name "X_Tenant" must have letters, digits and hyphens only`},
		{"header name with a colon", oneProgram, "header X-Tenant: a", `header name "X-Tenant:" must have letters, digits and hyphens only`},
		{"header name with a space", oneProgram, "header \"X Tenant\" a", `header name "X Tenant" must have letters, digits and hyphens only`},
		{"header of the connection", oneProgram, "header connection a", "header connection cannot carry an identity"},
		{"header of the host", oneProgram, "header Host a", "header Host cannot carry an identity"},
		{"header of the proxy", oneProgram, "header X-Forwarded-For a", "header X-Forwarded-For cannot carry an identity"},
		{"user_id misspelt", oneProgram, "user_id open_id", `user_id must be one of openid, unionid, pseudonym, not "open_id"`},
		{"endpoints everywhere", oneProgram, "endpoints /", `endpoints must be a path such as /miniprogram, not "/"`},
		{"endpoints without a slash", oneProgram, "endpoints miniprogram", `endpoints must be a path such as /miniprogram, not "miniprogram"`},
		{"endpoints with a wildcard", oneProgram, "endpoints /miniprogram/*", `endpoints must be a path such as /miniprogram, not "/miniprogram/*"`},
		{"endpoints with a placeholder", oneProgram, "endpoints /{env.NOPE}", `endpoints must be a path such as /miniprogram, not "/{env.NOPE}"`},
		{"endpoints that no request reaches", oneProgram, "endpoints /a/../b", `endpoints must be a path such as /miniprogram, not "/a/../b"`},
		{"clients misspelt", oneProgram, "clients waver", `clients must be wafer, not "waver"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newValidation(t)
			want := strings.ReplaceAll(test.want, "SECRETS", v.secrets)
			checkRefusal(t, v.validate(v.caddyfile(test.option, test.directive)), want)
		})
	}
}

// What the Caddyfile cannot say, JSON can, and a config API sends it.
func TestValidateRefusesJSON(t *testing.T) {
	const program = `{"provider":"wechat","app_id":"wx01","secret":"canary-secret"}`
	app := func(rest string) string { return `"miniprogram":{"programs":[` + program + `]` + rest + `}` }
	site := func(handler string) string {
		return app("") + `,"http":{"servers":{"s":{"listen":["127.0.0.1:9"],"routes":[{"handle":[{"handler":"miniprogram",` + handler + `}]}]}}}`
	}
	for _, test := range []struct{ name, apps, want string }{
		{"no program", `"miniprogram":{}`, "no program is configured"},
		{"program without a provider", `"miniprogram":{"programs":[{"app_id":"wx01"}]}`, `program 1: "provider", the name of the module, is missing`},
		{"program of an unknown provider", `"miniprogram":{"programs":[{"provider":"weixin"}]}`, "miniprogram.providers.weixin"},
		{"program with an unknown member", `"miniprogram":{"programs":[{"provider":"wechat","appid":"wx01"}]}`, `unknown field "appid"`},
		{"store without a name", app(`,"store":{}`), `store: "store", the name of the module, is missing`},
		{"store unknown", app(`,"store":{"store":"fiel"}`), "miniprogram.stores.fiel"},
		{"store with an unknown member", app(`,"store":{"store":"file","paht":"/tmp/x"}`), `unknown field "paht"`},
		{"lifetime below zero", app(`,"session":{"lifetime":"-1h"}`), "durations must be above zero"},
		{"idle below zero", app(`,"session":{"idle":-1}`), "durations must be above zero"},
		{"keep below a day", app(`,"session":{"idle":"1h"},"profile":{"keep":"23h"}`), "at least one day"},
		{"keep below idle", app(`,"session":{"idle":"9d"},"profile":{"keep":"8d"}`), "at least the idle time"},
		{"keep below the idle time that holds without an option", app(`,"profile":{"keep":"6d"}`), "at least the idle time"},
		{"recheck below zero", app(`,"session":{"recheck":"-1h"}`), "recheck and keep must be above zero"},
		{"per_user below zero", app(`,"session":{"per_user":-1}`), "per_user and concurrency must be above zero"},
		{"timeout below zero", app(`,"exchange":{"timeout":"-5s"}`), "durations must be above zero"},
		{"concurrency below zero", app(`,"exchange":{"concurrency":-1}`), "per_user and concurrency must be above zero"},
		{"app with an unknown member", app(`,"seal_key":"x"`), `unknown field "seal_key"`},
		{"seal key empty", app(`,"seal_keys":[""]`), "seal_key 1: "},
		{"login_limit without a time", site(`"login_limit":{"events":5}`), "login_limit needs a number of at least 1 and a duration above zero"},
		{"login_limit of a time below zero", site(`"login_limit":{"events":5,"window":"-1m"}`), "login_limit needs a number of at least 1 and a duration above zero"},
		{"login_limit of nothing", site(`"login_limit":{"window":"1m"}`), "login_limit needs a number of at least 1 and a duration above zero"},
		{"header without a name", site(`"extra_headers":[{"value":"x"}]`), "a header needs a name"},
		{"header twice", site(`"extra_headers":[{"name":"X-A","value":"x"},{"name":"x-a","value":"y"}]`), "header X-A is set twice"},
		{"everything public", site(`"public":[{}]`), "public: set 1 has no matcher"},
		{"public by an unknown matcher", site(`"public":[{"paht":["/x"]}]`), "http.matchers.paht"},
		{"handler with an unknown member", site(`"user-id":"openid"`), `unknown field "user-id"`},
		{
			"authentication provider of an unknown program",
			app("") + `,"http":{"servers":{"s":{"routes":[{"handle":[{"handler":"authentication","providers":{"miniprogram":{"programs":["wx02"]}}}]}]}}}`,
			"program wx02 is not configured",
		},
		{
			"authentication provider with user_id misspelt",
			app("") + `,"http":{"servers":{"s":{"routes":[{"handle":[{"handler":"authentication","providers":{"miniprogram":{"user_id":"open_id"}}}]}]}}}`,
			`user_id must be one of openid, unionid, pseudonym, not "open_id"`,
		},
		{
			"authentication provider without the app",
			`"http":{"servers":{"s":{"routes":[{"handle":[{"handler":"authentication","providers":{"miniprogram":{}}}]}]}}}`,
			"global option miniprogram",
		},
		{
			"expression with a criterion misspelt",
			app("") + `,"http":{"servers":{"s":{"routes":[{"match":[{"expression":"miniprogram({'platfrom': ['wechat']})"}]}]}}}`,
			`unrecognized criterion "platfrom"`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			newValidation(t)
			checkRefusal(t, validateJSON(`{"admin":{"disabled":true},"logging":{"logs":{"default":{"writer":{"output":"discard"}}}},"apps":{`+test.apps+`}}`), test.want)
		})
	}
}

func checkRefusal(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("is valid, want the error\n%s", want)
	case !strings.Contains(err.Error(), want):
		t.Errorf("the error is\n%v\nwant\n%s", err, want)
	case strings.Contains(err.Error(), "canary"):
		t.Errorf("the error shows a secret: %v", err)
	}
}

// `validate` runs in build pipelines and as another user than the gateway: what
// it left behind would be a store that the gateway may not open, or a seal key
// that signs everybody out.
func TestValidateLeavesNothingBehind(t *testing.T) {
	v := newValidation(t)
	for _, test := range []struct{ name, option, directive string }{
		{"all defaults", oneProgram, ""},
		{"file elsewhere", oneProgram + "store file DIR/elsewhere/sessions.db", ""},
		{"memory", oneProgram + "store memory", ""},
		{"seal keys", oneProgram + "seal_key {file.SECRETS/key} {file.SECRETS/key-old}", "user_id pseudonym"},
		{
			"all options", oneProgram + "session {\nlifetime 1h\nidle 1m\nper_user 1\n}\nexchange {\ntimeout 1s\nconcurrency 1\n}",
			"programs " + programA + "\nendpoints /gate/\npublic path /healthz\noptional\nuser_id unionid\n" +
				"headers user cloudrun remote_user forwarded_user\nheader X-Tenant {http.auth.user.program}\nclients wafer\nlogin_limit 1 1m",
		},
		{"refused", oneProgram, "user_id nobody"},
	} {
		err := v.validate(v.caddyfile(test.option, test.directive))
		if (err != nil) != (test.name == "refused") {
			t.Errorf("%s: %v", test.name, err)
		}
		if found := v.files(t); found != nil {
			t.Fatalf("%s: validation wrote %q", test.name, found)
		}
	}
}
