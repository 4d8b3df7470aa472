// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// readmes say the same in two languages.
var readmes = []string{"../README.md", "../README.zh-CN.md"}

// example is a gateway that runs Caddyfile.example, with ports of its own.
func example(t *testing.T) (g *gateway, ownPorts *strings.Replacer) {
	t.Helper()
	data, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	g = prepare(t, setup{})
	port := func(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
	ownPorts = strings.NewReplacer("8080", port(g.address), "9801", port(freeAddress(t)), "9802", port(freeAddress(t)))
	g.setup.caddyfile = strings.Replace(ownPorts.Replace(string(data)), "\n{\n", "\n{\n\tadmin unix//DIR/admin.sock\n", 1)
	g.run()
	return g, ownPorts
}

// A newcomer copies the commands of the README, and sees what it says.
func TestReadmeConsole(t *testing.T) {
	if !installed(t, "bash", "curl") {
		return
	}
	for _, readme := range readmes {
		t.Run(filepath.Base(readme), func(t *testing.T) {
			g, ownPorts := example(t)
			ran := 0
			for _, block := range fences(t, readme) {
				if block.language == "console" {
					runConsole(t, g.dir, ownPorts.Replace(block.code), block.String())
					ran++
				}
			}
			if ran != 3 {
				t.Errorf("%d blocks of commands were run", ran)
			}
		})
	}
}

// runConsole runs the commands of a block, the lines that begin with "$ ", in
// one shell, and compares what each prints with the lines below it. There, "…"
// stands for anything within a line, and on a line of its own for any lines.
func runConsole(t *testing.T, dir, block, where string) {
	t.Helper()
	const separator = "--- end of command ---"
	var script strings.Builder
	var expected []string
	for line := range strings.SplitSeq(strings.TrimSuffix(block, "\n"), "\n") {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			fmt.Fprintf(&script, "%s\necho\necho '%s'\n", command, separator)
			expected = append(expected, "")
			continue
		}
		expected[len(expected)-1] += line + "\n"
	}
	shell := exec.Command("bash", "-eu", "-o", "pipefail", "-c", script.String())
	shell.Dir = dir
	output, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", where, err, output)
	}
	printed := strings.Split(string(output), separator+"\n")
	for i, want := range expected {
		got := strings.TrimSpace(strings.ReplaceAll(printed[i], "\r", ""))
		if !consolePattern(want).MatchString(got) {
			t.Errorf("%s: command %d prints\n%s\nwant\n%s", where, i+1, got, want)
		}
	}
}

// consolePattern matches the output that a document shows.
func consolePattern(shown string) *regexp.Regexp {
	pattern := regexp.QuoteMeta(strings.TrimSpace(shown))
	pattern = regexp.MustCompile(`(?m)^…\n?`).ReplaceAllString(pattern, "(?s:.*?)")
	pattern = strings.ReplaceAll(pattern, "…", `[^\n]*`)
	return regexp.MustCompile(`\A` + pattern + `\s*\z`)
}

// The commands to start and to test are the ones that CI runs, and the two
// languages show the same code.
func TestReadmesShowTheSame(t *testing.T) {
	code := func(readme string) (blocks []string) {
		for _, block := range fences(t, readme) {
			if block.language != "" {
				blocks = append(blocks, block.language+"\n"+block.code)
			}
		}
		return blocks
	}
	english, chinese := code(readmes[0]), code(readmes[1])
	if !slices.Equal(english, chinese) {
		t.Errorf("the READMEs show different code:\n%q\n%q", english, chinese)
	}
	for _, command := range []string{"go run ./cmd/minigate run --config Caddyfile.example\n", "go test ./...\n"} {
		if !slices.ContainsFunc(english, func(block string) bool { return strings.HasPrefix(block, "sh\n") && strings.HasSuffix(block, command) }) {
			t.Errorf("no block ends with %q", command)
		}
	}
}

// The snippet for the mini-program signs in by itself, keeps the token, and
// signs in again when the session ends.
func TestReadmeSnippet(t *testing.T) {
	if !installed(t, "node") {
		return
	}
	g := start(t, setup{directive: "programs " + programA})
	wx, err := filepath.Abs("wafer/wx.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range fences(t, readmes[0]) {
		if block.language != "js" {
			continue
		}
		script := fmt.Sprintf(`
const { Phone } = require(%q)
const phone = new Phone({ simulator: %q, program: %q, user: 'alice' })
const wx = phone.wx
%s
async function main() {
  const url = %q
  for (const path of ['/a', '/b', '/miniprogram/logout', '/c', '/d']) {
    const res = await request({ url: url + path, method: path.endsWith('logout') ? 'POST' : 'GET' })
    console.log(path, res.statusCode, phone.logins)
  }
}
main().catch(error => { console.error(error); process.exit(1) }).then(() => process.exit(0))
`, wx, g.platURL, programA, block.code, "http://"+g.address)
		output, err := exec.Command("node", "-e", script).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		want := fmt.Sprintf("/a %d 1\n/b %d 1\n/miniprogram/logout %d 1\n/c %d 2\n/d %d 2\n",
			http.StatusOK, http.StatusOK, http.StatusNoContent, http.StatusOK, http.StatusOK)
		if string(output) != want {
			t.Errorf("it prints\n%s\nwant\n%s", output, want)
		}
		if n := g.upstream.count(); n != 4 {
			t.Errorf("%d requests reached the upstream", n)
		}
	}
}
