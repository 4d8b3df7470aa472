// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/session"
)

const optionReference = "../caddyfile/README.md"

// pages are the documents whose code is run.
var pages = []string{"../README.md", "../README.zh-CN.md", "../caddyfile/README.md", "../docs/*.md", "../plugin/*/*/README.md", "simulator/README.md"}

// fence is a block of code in a document.
type fence struct {
	page, language, code string
	line                 int
}

func (f fence) String() string { return fmt.Sprintf("%s:%d", f.page, f.line) }

var fenced = regexp.MustCompile("(?ms)^```([a-z]*)[^\n]*\n(.*?)^```$")

// fences returns the blocks of code in the documents that exist.
func fences(t *testing.T, patterns ...string) []fence {
	t.Helper()
	var all []fence
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range fenced.FindAllSubmatchIndex(data, -1) {
				all = append(all, fence{
					page: path, language: string(data[at[2]:at[3]]), code: string(data[at[4]:at[5]]),
					line: 1 + bytes.Count(data[:at[0]], []byte("\n")),
				})
			}
		}
	}
	return all
}

// What stands in the documents is copied and run; it must not greet its reader
// with an error, nor with `caddy fmt`.
func TestDocsAdapt(t *testing.T) {
	adapted := 0
	for _, f := range fences(t, pages...) {
		if f.language != "caddyfile" {
			continue
		}
		adapted++
		_, warnings, err := adapt("Caddyfile", f.code)
		if err != nil {
			t.Errorf("%s: %v", f, err)
		}
		for _, warning := range warnings {
			t.Errorf("%s: warning: %v", f, warning)
		}
	}
	if adapted == 0 {
		t.Error("no Caddyfile found in the documents")
	}
}

// The reference shows whole configurations: all of them would start, and its
// JSON is what its Caddyfile becomes.
func TestDocsReferenceIsValid(t *testing.T) {
	v := newValidation(t)
	t.Setenv("WECHAT_SECRET", "secret-of-the-environment")
	local := strings.NewReplacer(
		"/run/secrets/wechat", filepath.Join(v.secrets, "secret"),
		"/run/secrets/seal.key", filepath.Join(v.secrets, "key"),
		"/run/secrets/old.key", filepath.Join(v.secrets, "key-old"),
	)
	previous, equal := "", 0
	for _, f := range fences(t, optionReference) {
		config := f.code
		switch f.language {
		case "caddyfile":
			var err error
			if config, _, err = adapt("Caddyfile", f.code); err != nil {
				t.Errorf("%s: %v", f, err)
				continue
			}
			previous = config
		case "json":
			if sameJSON(t, previous, config) {
				equal++
			}
		default:
			t.Errorf("%s: no test runs code in language %q", f, f.language)
		}
		if err := validateJSON(local.Replace(config)); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	if equal != 1 {
		t.Errorf("%d blocks of JSON equal the Caddyfile before them, want 1", equal)
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var left, right any
	if err := json.Unmarshal([]byte(a), &left); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(b), &right); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(left, right)
}

// The author of an upstream programs against the table of headers. One that is
// sent and not in it is not known to be trustworthy, one that is in it and not
// sent can be forged.
func TestDocsHeaders(t *testing.T) {
	data, err := os.ReadFile(optionReference)
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| (?:`([a-z_]+)`)? ?\\| `([A-Za-z-]+)` \\| .* \\| .* \\|$")
	told := make(map[string][]string)
	preset := ""
	for _, match := range row.FindAllStringSubmatch(string(data), -1) {
		if match[1] != "" {
			preset = match[1]
		}
		told[preset] = append(told[preset], strings.ToLower(match[2]))
	}
	if len(told) != len(identity.PresetNames()) {
		t.Errorf("the table has the presets %v, there are %v", told, identity.PresetNames())
	}
	for _, preset := range identity.PresetNames() {
		headers, _ := identity.Preset(preset)
		var sent []string
		for _, header := range headers {
			sent = append(sent, strings.ToLower(header.Name))
		}
		if !slices.Equal(sent, told[preset]) {
			t.Errorf("preset %s sends %v, the table has %v", preset, sent, told[preset])
		}
	}
	if encoded := identity.EncodeValue("李 100%"); !strings.Contains(string(data), "`李 100%`\narrives as `"+encoded+"`") {
		t.Errorf("the example of an encoded value is not %s", encoded)
	}
}

func TestDocsPlaceholders(t *testing.T) {
	data, err := os.ReadFile(optionReference)
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `\\{http\\.auth\\.user\\.([a-z0-9_]+)\\}` \\|").FindAllStringSubmatch(string(data), -1)
	if len(rows) != 11 {
		t.Errorf("the table has %d placeholders", len(rows))
	}
	for _, row := range rows {
		if _, known := (*identity.Claims)(nil).Lookup(row[1]); !known {
			t.Errorf("there is no placeholder for %s", row[1])
		}
	}
	for _, field := range identity.UserInfoFields {
		if !strings.Contains(string(data), "`"+field+"`") {
			t.Errorf("field %s of user information is not documented", field)
		}
	}
}

// How long sessions last is what a security review looks up.
func TestDocsSessionDefaults(t *testing.T) {
	data, err := os.ReadFile(optionReference)
	if err != nil {
		t.Fatal(err)
	}
	defaultOf := func(name string) string {
		match := regexp.MustCompile("(?m)^\\| `" + name + " <[a-z]+>` \\| .* \\| `([^`]+)` \\|$").FindSubmatch(data)
		if match == nil {
			t.Fatalf("option %s has no default", name)
		}
		return string(match[1])
	}
	for name, want := range map[string]time.Duration{"lifetime": session.DefaultLifetime, "idle": session.DefaultIdle} {
		if got, err := caddy.ParseDuration(defaultOf(name)); err != nil || got != want {
			t.Errorf("the default of %s is %v, documented is %v (%v)", name, want, got, err)
		}
	}
	if got := defaultOf("per_user"); got != fmt.Sprint(session.DefaultPerUser) {
		t.Errorf("the default of per_user is %d, documented is %s", session.DefaultPerUser, got)
	}
}
