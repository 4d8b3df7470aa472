// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// sections are the headings of the reference that have a table of options, each
// with the name that its options have in the names of golden files.
var sections = map[string]string{
	"Global option `miniprogram`":          "option",
	"`session`":                            "session",
	"`profile`":                            "profile",
	"`exchange`":                           "exchange",
	"`program wechat`":                     "wechat",
	"`program alipay`":                     "alipay",
	"`store file`":                         "file",
	"`store memory`":                       "memory",
	"`store redis`":                        "redis",
	"`tls` of `store redis`":               "tls",
	"Directive `miniprogram`":              "directive",
	"`assertion`":                          "assertion",
	"Matcher `miniprogram`":                "matcher",
	"Directive `miniprogram_simulator`":    "simulator",
	"`program` of `miniprogram_simulator`": "simulated_program",
}

// option is an option of the reference.
type option struct {
	section, name string
	args          int  // how many it has at least
	more          bool // whether it can have more
	block         bool
	repeatable    bool
}

var (
	heading    = regexp.MustCompile(`(?m)^#+ (.+)$`)
	optionRow  = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.*) \\|[^|]*\\|$")
	optionName = regexp.MustCompile(`^[a-z_]+`)
)

// documented returns the options of the reference, by section and name.
func documented(t *testing.T) map[string]option {
	t.Helper()
	data, err := os.ReadFile("../caddyfile/README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	seen := make(map[string]bool)
	options := make(map[string]option)
	headings := heading.FindAllStringSubmatchIndex(text, -1)
	for i, h := range headings {
		section, ok := sections[text[h[2]:h[3]]]
		if !ok {
			continue
		}
		seen[section] = true
		end := len(text)
		if i+1 < len(headings) {
			end = headings[i+1][0]
		}
		for _, row := range optionRow.FindAllStringSubmatch(text[h[1]:end], -1) {
			syntax, meaning := row[1], row[2]
			name := optionName.FindString(syntax)
			if name == "" {
				continue // an argument of the block itself
			}
			line, _, block := strings.Cut(syntax, "{")
			o := option{
				section: section, name: name, block: block,
				args: strings.Count(line, "<"), more: strings.Contains(line, "..."),
				repeatable: strings.Contains(meaning, "Repeat it"),
			}
			if _, twice := options[section+" "+name]; twice {
				t.Errorf("the reference has option %s of %s twice", name, section)
			}
			options[section+" "+name] = o
		}
	}
	for title, section := range sections {
		if !seen[section] {
			t.Errorf("the reference has no heading %q", title)
		}
	}
	return options
}

// used returns the options which the valid golden files use, by section and
// name.
func used(t *testing.T) map[string]bool {
	t.Helper()
	options := make(map[string]bool)
	for _, g := range goldens(t) {
		if g.isError() {
			continue
		}
		tokens, err := caddyfile.Tokenize([]byte(g.caddyfile), g.name)
		if err != nil {
			t.Fatal(err)
		}
		var blocks [][]string // the first words of the lines that opened a block
		for len(tokens) > 0 {
			n := 1
			for n < len(tokens) && tokens[n].Line == tokens[0].Line {
				n++
			}
			words := make([]string, n)
			for i, token := range tokens[:n] {
				words[i] = token.Text
			}
			tokens = tokens[n:]
			if words[0] == "}" {
				blocks = blocks[:len(blocks)-1]
				continue
			}
			if section := sectionOf(blocks); section != "" && words[0] != "import" {
				options[section+" "+words[0]] = true
			}
			if words[n-1] == "{" {
				blocks = append(blocks, words[:n-1])
			}
		}
	}
	return options
}

// sectionOf returns the section to which lines in the innermost of blocks
// belong.
func sectionOf(blocks [][]string) string {
	depth := len(blocks) - 1
	if depth < 1 || len(blocks[depth]) == 0 {
		return ""
	}
	words, outer := blocks[depth], sectionOf(blocks[:depth])
	switch {
	case words[0] == "miniprogram" && len(blocks[0]) == 0:
		return "option"
	case words[0] == "miniprogram" && depth == 1, words[0] == "miniprogram" && blocks[depth-1][0] == "route":
		return "directive"
	case words[0] == "miniprogram":
		return "matcher"
	case words[0] == "miniprogram_simulator":
		return "simulator"
	case outer == "simulator":
		return "simulated_program"
	case outer == "redis" && words[0] == "tls":
		return "tls"
	case outer == "directive" && words[0] == "assertion":
		return "assertion"
	case outer == "option" && (words[0] == "program" || words[0] == "store"):
		return words[1]
	case outer == "option":
		return words[0]
	}
	return ""
}

// An option that is only in the code is one nobody finds; one that is only in
// the reference sends people looking for what is not there. (The complaint about
// another plugin: four options missing, one "planned" that had been shipped.)
func TestAdaptReference(t *testing.T) {
	known, tried := documented(t), used(t)
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if !tried[key] {
			t.Errorf("option %q of the reference is in no golden file", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(tried)) {
		if _, ok := known[key]; !ok {
			t.Errorf("option %q of the golden files is not in caddyfile/README.md", key)
		}
	}
}

// Every option must refuse what does not belong to it: input that is swallowed
// is a site that is not configured as its operator believes.
func TestAdaptEveryOptionHasItsErrors(t *testing.T) {
	exists := make(map[string]bool)
	for _, g := range goldens(t) {
		exists[g.name] = true
	}
	need := func(format string, args ...any) {
		if name := errorPrefix + fmt.Sprintf(format, args...); !exists[name] {
			t.Errorf("there is no golden file %s%s", name, goldenSuffix)
		}
	}
	for _, o := range documented(t) {
		if o.args > 0 {
			need("%s_%s_missing", o.section, o.name)
		}
		if !o.more && (o.args > 0 || !o.repeatable) {
			need("%s_%s_surplus", o.section, o.name)
		}
		if !o.repeatable {
			need("%s_%s_duplicate", o.section, o.name)
		}
		if !o.block {
			need("%s_%s_block", o.section, o.name)
		}
	}
	for _, section := range sections {
		need("%s_unknown", section)
	}
}

// A member that was added to a module's configuration and not to the Caddyfile
// is within reach of those only who write JSON.
func TestAdaptReachesEveryMember(t *testing.T) {
	var configs strings.Builder
	for _, g := range goldens(t) {
		if !g.isError() {
			configs.WriteString(g.want)
		}
	}
	ours := 0
	for _, id := range caddy.Modules() {
		jsonOnly := strings.HasPrefix(id, "http.authentication.") || strings.HasPrefix(id, "admin.")
		if !strings.Contains(id, "miniprogram") || jsonOnly {
			continue
		}
		info, err := caddy.GetModule(id)
		if err != nil {
			t.Fatal(err)
		}
		ours++
		for name := range members(reflect.TypeOf(info.New())) {
			if !strings.Contains(configs.String(), `"`+name+`": `) {
				t.Errorf("no golden file has member %q of module %s", name, id)
			}
		}
	}
	if ours < 7 {
		t.Errorf("there are %d modules of ours", ours)
	}
}

// members returns the names that the exported fields of a type have in JSON.
func members(typ reflect.Type) map[string]bool {
	names := make(map[string]bool)
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return names
	}
	for field := range typ.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() || name == "" || name == "-" {
			continue
		}
		names[name] = true
		maps.Copy(names, members(field.Type))
	}
	return names
}
