// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Whoever writes a mini-program finds out about an endpoint or an error word in
// docs/http.md, or when his users run into it.
func TestEndpointsAndErrorsAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	for name, e := range endpoints {
		for _, method := range e.methods {
			if method != "HEAD" && !strings.Contains(doc, "`"+method+" /"+name+"`") {
				t.Errorf("%s /%s is not documented", method, name)
			}
		}
	}
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`newError\(http\.(\w+), "(\w+)"`).FindAllStringSubmatch(string(source), -1)
	if len(words) < 25 {
		t.Fatalf("found %d words", len(words))
	}
	for _, word := range words {
		if !strings.Contains(doc, "`"+word[2]+"`") {
			t.Errorf("error %s is not documented", word[2])
		}
	}
	for _, row := range regexp.MustCompile(`(?m)^\| [0-9]{3} \| (.*?) \|`).FindAllStringSubmatch(doc, -1) {
		for _, word := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
			if !strings.Contains(string(source), `"`+word[1]+`"`) {
				t.Errorf("there is no error %s", word[1])
			}
		}
	}
}

// The same for the calls of the admin endpoint, and the commands that make them.
func TestAdminIsDocumented(t *testing.T) {
	data, err := os.ReadFile("../docs/admin.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	for name, action := range adminActions {
		if !strings.Contains(doc, "| `"+action.method+" "+adminPath+name+"` |") {
			t.Errorf("%s is not documented", name)
		}
	}
	calls := regexp.MustCompile("(?m)^\\| `(?:GET|POST) /miniprogram/([a-z_/]+)` \\|").FindAllStringSubmatch(doc, -1)
	if len(calls) != len(adminActions) {
		t.Errorf("%d calls are documented, there are %d", len(calls), len(adminActions))
	}
	migrations, err := os.ReadFile("../docs/migration.md")
	if err != nil {
		t.Fatal(err)
	}
	for method := range migrationActions {
		if !strings.Contains(string(migrations), "| `"+method+" "+adminPath+migrationAction+"` |") {
			t.Errorf("%s %s is not documented", method, migrationAction)
		}
	}
	for _, phase := range []migrationPhase{migrationCopying, migrationFollowing, migrationMoved, migrationReturning, migrationBroken} {
		if !strings.Contains(string(migrations), "`"+string(phase)+"`") {
			t.Errorf("state %s is not documented", phase)
		}
	}
	for _, newCommand := range []func() *cobra.Command{
		newMigrateCommand, newSessionsCommand, newInspectCommand, newRevokeCommand, newProgramsCommand, newKeysCommand, newCheckCommand, newExportCommand, newEraseCommand,
	} {
		cmd := newCommand()
		if !regexp.MustCompile("(?m)^\\| (`[a-z]+`, )?`" + cmd.Name() + "`(, `[a-z]+`)? \\|").MatchString(doc) {
			t.Errorf("command %s is not documented", cmd.Name())
		}
		for _, flag := range regexp.MustCompile(`(?m)^ +(?:-[a-z], )?(--[a-z-]+)`).FindAllStringSubmatch(cmd.Flags().FlagUsages(), -1) {
			if !strings.Contains(doc, "`"+flag[1]+"`") {
				t.Errorf("flag %s of %s is not documented", flag[1], cmd.Name())
			}
		}
	}
}
