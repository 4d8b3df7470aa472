// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
)

// house is the module's path.
const house = "github.com/minigate/minigate"

// listedPackage is what `go list -deps -json` tells of a package.
type listedPackage struct {
	ImportPath, Name, Dir              string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

// local returns the path of the package in this module: "module/session", and
// "" for the root. ok is false for packages of others.
func local(importPath string) (name string, ok bool) {
	if importPath == house {
		return "", true
	}
	return strings.CutPrefix(importPath, house+"/")
}

// rooms returns the packages of this module by their local paths.
var rooms = sync.OnceValues(func() (map[string]listedPackage, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Name,Dir,GoFiles,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	data, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	found := make(map[string]listedPackage)
	for decoder := json.NewDecoder(strings.NewReader(string(data))); ; {
		var p listedPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		if name, ok := local(p.ImportPath); ok {
			found[name] = p
		}
	}
})

func listed(t *testing.T) map[string]listedPackage {
	t.Helper()
	packages, err := rooms()
	if err != nil || len(packages) == 0 {
		t.Fatalf("go list: %v", err)
	}
	return packages
}

// ours returns those of imports that are in this module, by their local paths.
func ours(imports ...string) []string {
	var names []string
	for _, importPath := range imports {
		if name, ok := local(importPath); ok {
			names = append(names, name)
		}
	}
	return names
}

// plain are the packages that know nothing of Caddy.
var plain = []string{
	"module/session", "module/identity", "module/provider", "module/store", "module/keyring",
	"module/profile", "module/avatar", "module/migrate", "module/websocket",
}

func isPlain(name string) bool {
	return slices.ContainsFunc(plain, func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") })
}

// isGuest reports whether a package is a guest or belongs to one.
func isGuest(name string) bool {
	return strings.HasPrefix(name, "plugin/") && strings.Count(name, "/") >= 2
}

// mayImport reports whether the package called from may import the one called
// to.
func mayImport(from, to string) bool {
	switch {
	case from == "cmd/minigate":
		return to == "" || to == "integration/simulator"
	case from == "":
		return to == "plugin"
	case strings.HasPrefix(from, "integration"):
		return !isGuest(to)
	case from == "plugin":
		return to == "caddyfile" || to == "module" || isGuest(to)
	case isGuest(from):
		own := strings.Join(strings.Split(from, "/")[:3], "/")
		contract := map[string]string{"providers": "module/provider", "stores": "module/store"}[strings.Split(from, "/")[1]]
		return to == contract || to == "caddyfile/arg" || strings.HasPrefix(to, own+"/")
	case from == "caddyfile":
		return to == "caddyfile/arg" || to == "module" || isPlain(to)
	case from == "caddyfile/arg":
		return false
	case from == "module":
		return isPlain(to)
	default:
		return isPlain(from) && isPlain(to)
	}
}

// mayTest reports whether tests of the package called from may import the one
// called to, beyond what it imports itself. A guest is tested by itself, with
// the suite of its contract and the simulator; the rest of the house may be
// tested with guests in it.
func mayTest(from, to string) bool {
	switch {
	case mayImport(from, to), from == to, to == "integration/simulator":
		return true
	case isGuest(from):
		return strings.HasSuffix(to, "/providertest") || strings.HasSuffix(to, "/storetest")
	default:
		return !strings.HasPrefix(to, "integration")
	}
}

// Imports run one way: integration → plugin → caddyfile → module → the plain
// packages. A guest knows its contract and the option readers, nothing else of
// the house, so that a platform is added, and taken away, as one folder.
func TestLayoutImports(t *testing.T) {
	for from, p := range listed(t) {
		for _, to := range ours(p.Imports...) {
			if !mayImport(from, to) {
				t.Errorf("package %q imports %q", from, to)
			}
		}
		for _, to := range ours(slices.Concat(p.TestImports, p.XTestImports)...) {
			if !mayTest(from, to) {
				t.Errorf("a test of package %q imports %q", from, to)
			}
		}
	}
}

// The rules above would hold of nothing, if the packages moved.
func TestLayoutPackages(t *testing.T) {
	packages := listed(t)
	names := append([]string{"", "cmd/minigate", "module", "caddyfile", "caddyfile/arg", "plugin", "integration", "integration/simulator"}, plain...)
	for _, name := range names {
		if _, ok := packages[name]; !ok {
			t.Errorf("there is no package %q", name)
		}
	}
	guests := 0
	for name, p := range packages {
		if isGuest(name) {
			guests++
		}
		if want := path.Base(name); p.Name != want && name != "" && p.Name != "main" {
			t.Errorf("the package in %s is called %s", name, p.Name)
		}
		if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "misc", "shared"}, p.Name) {
			t.Errorf("package %s has a name that says nothing", name)
		}
	}
	if guests < 3 {
		t.Errorf("there are %d guests", guests)
	}
}

// Sessions, tokens, the guard and the contracts can be read, tested and reused
// without knowing Caddy.
func TestLayoutPlainPackagesKnowNoCaddy(t *testing.T) {
	for name, p := range listed(t) {
		if !isPlain(name) {
			continue
		}
		for _, dependency := range p.Deps {
			if strings.HasPrefix(dependency, "github.com/caddyserver/caddy") {
				t.Errorf("package %s depends on %s", name, dependency)
			}
		}
	}
}

// A list of guests that is kept in two places is wrong in one. The compiler is
// told about guests in plugin.go, and nowhere else.
func TestLayoutGuests(t *testing.T) {
	packages := listed(t)
	plugin := packages["plugin"]
	if !slices.Equal(plugin.GoFiles, []string{"plugin.go"}) {
		t.Errorf("package plugin has the files %q", plugin.GoFiles)
	}
	source, err := os.ReadFile("../plugin/plugin.go")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(source), "\nfunc ") || strings.Contains(string(source), "\nvar ") {
		t.Error("plugin.go has more than imports")
	}
	for from, p := range packages {
		for _, to := range ours(p.Imports...) {
			if isGuest(to) && from != "plugin" && !isGuest(from) {
				t.Errorf("package %q imports guest %q", from, to)
			}
		}
	}
	for _, kind := range []string{"providers", "stores"} {
		entries, err := os.ReadDir("../plugin/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			guest := "plugin/" + kind + "/" + entry.Name()
			if !entry.IsDir() {
				t.Errorf("%s is not a folder", guest)
				continue
			}
			if !slices.Contains(plugin.Imports, house+"/"+guest) {
				t.Errorf("%s is not imported in plugin.go", guest)
			}
			if _, err := os.Stat("../" + guest + "/README.md"); err != nil {
				t.Errorf("%s has no README.md", guest)
			}
		}
	}
	entries, err := os.ReadDir("../plugin")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() && entry.Name() != "providers" && entry.Name() != "stores" {
			t.Errorf("plugin has a folder %s, of which this test knows nothing", entry.Name())
		}
	}
}
