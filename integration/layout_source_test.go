// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	longestFile = 400
	spdxHeader  = "// SPDX-FileCopyrightText: The Minigate Authors\n// SPDX-License-Identifier: Apache-2.0\n\n"
)

// sources returns the Go files of the repository, with their paths from its
// root.
func sources(t *testing.T) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != ".." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "node_modules"):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		name, err := filepath.Rel("..", path)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	if err != nil || len(files) < 50 {
		t.Fatalf("found %d Go files: %v", len(files), err)
	}
	return files
}

// What the complaints about other plugins have in common: files of a thousand
// lines, linters that were silenced, tests that are skipped and work that is
// announced instead of done.
func TestLayoutSources(t *testing.T) {
	// In two parts each, so that this file does not hold them.
	banned := regexp.MustCompile(`\bno` + `lint\b|\bTO` + `DO\b|\bFIX` + `ME\b|\b[tb]\.Skip` + `(Now|f)?\(`)
	for name, source := range sources(t) {
		if !bytes.HasPrefix(source, []byte(spdxHeader)) {
			t.Errorf("%s does not begin with the two lines of SPDX and an empty one", name)
		}
		if lines := bytes.Count(source, []byte("\n")); lines > longestFile {
			t.Errorf("%s has %d lines", name, lines)
		}
		if found := banned.Find(source); found != nil {
			t.Errorf("%s has %q", name, found)
		}
	}
}

// Every package says what it is for, once.
func TestLayoutPackageComments(t *testing.T) {
	comments := make(map[string]int)
	for name, source := range sources(t) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Error(err)
			continue
		}
		folder := filepath.Dir(name)
		comments[folder] += 0
		if file.Doc == nil {
			continue
		}
		comments[folder]++
		if begin := "Package " + file.Name.Name + " "; !strings.HasPrefix(file.Doc.Text(), begin) && file.Name.Name != "main" {
			t.Errorf("the package comment in %s does not begin with %q", name, begin)
		}
	}
	for folder, n := range comments {
		if n != 1 {
			t.Errorf("%s has %d package comments", folder, n)
		}
	}
}

// The half of a provider that speaks HTTP can be read and tested without
// knowing Caddy.
func TestLayoutClientsKnowNoCaddy(t *testing.T) {
	clients := 0
	for name, source := range sources(t) {
		matched, err := filepath.Match("plugin/providers/*/client*.go", name)
		if err != nil {
			t.Fatal(err)
		}
		if !matched {
			continue
		}
		clients++
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			if strings.Contains(spec.Path.Value, "/caddy") {
				t.Errorf("%s imports %s", name, spec.Path.Value)
			}
		}
	}
	if clients == 0 {
		t.Error("no provider has a client.go")
	}
}

// The documentation of exported names is the reference page of the module.
func TestLayoutExportedNamesAreDocumented(t *testing.T) {
	for name, source := range sources(t) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, declaration := range file.Decls {
			switch d := declaration.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && isExportedMethod(d) {
					t.Errorf("%s: %s has no comment", name, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if s, ok := spec.(*ast.TypeSpec); ok && s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
						t.Errorf("%s: type %s has no comment", name, s.Name.Name)
					}
				}
			}
		}
	}
}

// isExportedMethod reports whether a function, or the type that it is a method
// of, can be seen from other packages.
func isExportedMethod(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	name, ok := typ.(*ast.Ident)
	return ok && name.IsExported()
}
