// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

const moduleID = "miniprogram.stores.file"

func TestModule(t *testing.T) {
	info, err := caddy.GetModule(moduleID)
	if err != nil {
		t.Fatalf("the module is not registered: %v", err)
	}
	a, b := info.New(), info.New()
	if _, ok := a.(*Opener); !ok {
		t.Errorf("New returns %T", a)
	}
	if a == b {
		t.Error("New returns the same store twice")
	}
}

func TestUnmarshalCaddyfile(t *testing.T) {
	for _, c := range []struct {
		name, input string
		want        string // JSON
		err         string // part of the error
	}{
		{"default", "file", `{}`, ""},
		{"path", "file /var/lib/gate/sessions.db", `{"path":"/var/lib/gate/sessions.db"}`, ""},
		{"relative path", "file sessions.db", `{"path":"sessions.db"}`, ""},
		{"quoted path", `file "/var/lib/my gate/s.db"`, `{"path":"/var/lib/my gate/s.db"}`, ""},
		{"placeholder", "file {env.DATA}/s.db", `{"path":"{env.DATA}/s.db"}`, ""},
		{"empty block", "file {\n}", `{}`, ""},
		{"path and empty block", "file /s.db {\n}", `{"path":"/s.db"}`, ""},
		{"empty path", `file ""`, "", "file must not be empty"},
		{"surplus", "file /a.db /b.db", "", "wrong argument count or unexpected line ending after '/b.db'"},
		{"path as option", "file {\n\tpath /a.db\n}", "", "file takes no block"},
		{"duplicate as option", "file /a.db {\n\tpath /b.db\n}", "", "file takes no block"},
		{"unknown option", "file /a.db {\n\tsync never\n}", "", "file takes no block"},
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
			encoded, err := json.Marshal(unm)
			if err != nil || string(encoded) != c.want {
				t.Errorf("JSON %s, error %v, want %s", encoded, err, c.want)
			}
			if loaded := load(t, string(encoded)); loaded.Path != unm.(*Opener).Path {
				t.Errorf("path %q after loading the JSON, want %q", loaded.Path, unm.(*Opener).Path)
			}
		})
	}
}

// load loads a store the way the app does: strictly, from its JSON.
func load(t *testing.T, config string) *Opener {
	t.Helper()
	t.Setenv("DATA", t.TempDir())
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	loaded, err := ctx.LoadModuleByID(moduleID, json.RawMessage(config))
	if err != nil {
		t.Fatal(err)
	}
	return loaded.(*Opener)
}

func TestJSONErrors(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	for config, want := range map[string]string{
		`{"file":"/a.db"}`:                          "unknown field",
		`{"path":1}`:                                "cannot unmarshal number",
		`{"path":"{env.MINIGATE_NOT_SET}"}`:         "replacing placeholders in path: ",
		`{"path":"/data/{no.such.placeholder}.db"}`: "replacing placeholders in path: ",
	} {
		if _, err := ctx.LoadModuleByID(moduleID, json.RawMessage(config)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("loading %s: error %v, want one with %q", config, err, want)
		}
	}
}

// TestDefaultPath checks where the file is without configuration, and that it
// is left alone until Open.
func TestDefaultPath(t *testing.T) {
	data, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_DATA_HOME", data)
	o := load(t, `{}`)
	path := filepath.Join(data, "caddy", "miniprogram", "sessions.db")
	if want := "file:" + path; o.Identity() != want {
		t.Errorf("identity %q, want %q", o.Identity(), want)
	}
	if entries, err := os.ReadDir(data); err != nil || len(entries) != 0 {
		t.Errorf("provisioning leaves %v, error %v", entries, err)
	}
	s, err := o.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "key", "value", 0)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if o.Path != "" {
		t.Errorf("the configuration changed: path %q", o.Path)
	}
}

// TestIdentity checks that all paths to one file are one store, whether or not
// the file exists, and others are not.
func TestIdentity(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(base)
	if err := os.MkdirAll("real/sub", 0o700); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"link":        "real",
		"absolute":    filepath.Join(base, "real"),
		"twice":       "link",
		"s.db":        "real/s.db", // to what does not exist yet
		"far.db":      filepath.Join(base, "twice", "s.db"),
		"real/up.db":  "../link/s.db",
		"loop.db":     "loop.db",
		"nowhere":     "no/such/folder",
		"real/sub/up": "..",
	} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	identity := func(path string) string {
		config, err := json.Marshal(map[string]string{"path": path})
		if err != nil {
			t.Fatal(err)
		}
		return load(t, string(config)).Identity()
	}
	same := []string{
		"real/s.db", "./real/../real//s.db", "link/s.db", "absolute/s.db", "twice/s.db", "s.db", "far.db", "real/up.db",
		filepath.Join(base, "real", "s.db"), filepath.Join(base, "twice", "sub", "..", "s.db"), "real/sub/up/s.db",
	}
	want := "file:" + filepath.Join(base, "real", "s.db")
	for _, exists := range []bool{false, true} {
		for _, path := range same {
			if got := identity(path); got != want {
				t.Errorf("identity of %s is %q, want %q; the file exists: %t", path, got, want, exists)
			}
		}
		writeFile(t, "real/s.db", nil)
	}
	for path, want := range map[string]string{
		"real/S.db":           "real/S.db",
		"nowhere/s.db":        "no/such/folder/s.db",
		"real/new/folder/s.b": "real/new/folder/s.b",
	} {
		if got := identity(path); got != "file:"+filepath.Join(base, want) {
			t.Errorf("identity of %s is %q", path, got)
		}
	}
	_ = identity("loop.db") // ends

	// It stays what it was while the configuration is in use.
	config := load(t, `{"path":"link/s.db"}`)
	before := config.Identity()
	if err := os.Remove("link"); err != nil {
		t.Fatal(err)
	}
	if after := config.Identity(); after != before {
		t.Errorf("identity %q, before %q", after, before)
	}
}

// TestOpenThroughLink checks that the file is where its identity says.
func TestOpenThroughLink(t *testing.T) {
	base := t.TempDir()
	t.Chdir(base)
	if err := os.Symlink("data/real.db", "link.db"); err != nil {
		t.Fatal(err)
	}
	s, err := load(t, `{"path":"link.db"}`).Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "key", "value", 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat("data/real.db"); err != nil || !info.Mode().IsRegular() {
		t.Errorf("the file: %v, error %v", info, err)
	}
	if info, err := os.Lstat("link.db"); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link: %v, error %v", info, err)
	}
}

// TestZeroValue checks that what was never provisioned answers errors.
func TestZeroValue(t *testing.T) {
	var o Opener
	_ = o.Identity()
	if _, err := o.Open(context.Background()); err == nil {
		t.Error("Open without Provision: no error")
	}
	if _, err := o.Exists(); err == nil {
		t.Error("Exists without Provision: no error")
	}
}

// TestExists checks that a mistyped path is told from a store, without making one
// of it: a migration from an empty file would sign everybody out.
func TestExists(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, "folder", "s.db")
	o := load(t, fmt.Sprintf(`{"path":%q}`, path))
	if there, err := o.Exists(); there || err != nil {
		t.Errorf("before it is opened: %t, %v", there, err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !os.IsNotExist(err) {
		t.Errorf("asking made the folder: %v", err)
	}
	s, err := o.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if there, err := o.Exists(); !there || err != nil {
		t.Errorf("after it is opened: %t, %v", there, err)
	}
	inside := load(t, fmt.Sprintf(`{"path":%q}`, filepath.Join(path, "below")))
	if there, err := inside.Exists(); there || err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("below a file: %t, %v", there, err)
	}
}
