// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// update makes TestAdapt write the JSON of its golden files anew. What it wrote
// is to be read before it is kept.
var update = flag.Bool("update", false, "write the JSON of the golden files in adapt anew")

const (
	goldenSuffix = ".caddyfiletest"
	goldenRule   = "----------\n"
	// errorPrefix begins the names of the golden files with an error.
	errorPrefix = "error_"
)

// golden is one golden file: a Caddyfile, and the JSON or the error that comes
// of it.
type golden struct {
	name      string
	caddyfile string
	want      string
}

// goldens returns the golden files.
func goldens(t *testing.T) []golden {
	t.Helper()
	paths, err := filepath.Glob("adapt/*" + goldenSuffix)
	if err != nil || len(paths) == 0 {
		t.Fatalf("found %d golden files: %v", len(paths), err)
	}
	files := make([]golden, len(paths))
	for i, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		input, want, ok := strings.Cut(string(data), goldenRule)
		if !ok || input == "" || want == "" {
			t.Fatalf("%s: it must hold a Caddyfile, a line of dashes and what comes of it", path)
		}
		files[i] = golden{strings.TrimSuffix(filepath.Base(path), goldenSuffix), input, strings.TrimSpace(want)}
	}
	return files
}

// isError reports whether the Caddyfile must be refused.
func (g golden) isError() bool { return strings.HasPrefix(g.name, errorPrefix) }

// adapt turns a Caddyfile into JSON, with tabs.
func adapt(filename, text string) (config string, warnings []caddyconfig.Warning, err error) {
	data, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": filename})
	if err != nil {
		return "", warnings, err
	}
	var indented bytes.Buffer
	err = json.Indent(&indented, data, "", "\t")
	return indented.String(), warnings, err
}

// An option that is parsed and then forgotten, or one that is misspelt and then
// swallowed, shows in no other test: a site believed to be guarded is not.
func TestAdapt(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			got, warnings, err := adapt("Caddyfile", g.caddyfile)
			if g.isError() {
				g.checkError(t, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, warning := range warnings {
				t.Errorf("warning: %v", warning)
			}
			switch {
			case got == g.want:
			case *update:
				g.write(t, got)
			default:
				t.Errorf("adapts to\n%s\nwant\n%s", got, g.want)
			}
		})
	}
}

var lineOfCaddyfile = regexp.MustCompile(`, at Caddyfile:[0-9]+$`)

func (g golden) checkError(t *testing.T, err error) {
	t.Helper()
	switch {
	case !lineOfCaddyfile.MatchString(g.want):
		t.Errorf("the error expected does not name its line: %s", g.want)
	case err == nil:
		t.Errorf("adapts without an error, want\n%s", g.want)
	case !strings.HasSuffix(err.Error(), g.want):
		t.Errorf("the error is\n%v\nwant\n%s", err, g.want)
	}
}

func (g golden) write(t *testing.T, want string) {
	t.Helper()
	err := os.WriteFile("adapt/"+g.name+goldenSuffix, []byte(g.caddyfile+goldenRule+want+"\n"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("written anew")
}

// The first thing that a newcomer runs must not greet him with warnings.
func TestExampleAdapts(t *testing.T) {
	data, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	_, warnings, err := adapt("Caddyfile.example", string(data))
	if err != nil {
		t.Fatal(err)
	}
	for _, warning := range warnings {
		t.Errorf("warning: %v", warning)
	}
	if formatted := caddyfile.Format(data); !bytes.Equal(formatted, data) {
		t.Errorf("caddy fmt would change it to\n%s", formatted)
	}
}
