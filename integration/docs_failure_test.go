// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// failureRow is a row of docs/failure-modes.md.
type failureRow struct {
	what, users, log, metric, ends string
	tests                          []string
}

var quoted = regexp.MustCompile("`([^`]+)`")

// quotes returns what stands in backquotes.
func quotes(text string) []string {
	var all []string
	for _, match := range quoted.FindAllStringSubmatch(text, -1) {
		all = append(all, match[1])
	}
	return all
}

// failureRows returns the rows of the tables that have a test in each.
func failureRows(t *testing.T) []failureRow {
	t.Helper()
	data, err := os.ReadFile("../docs/failure-modes.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []failureRow
	inTable := false
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		switch {
		case strings.HasPrefix(line, "| What | Users see |"):
			inTable = true
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case inTable && !strings.HasPrefix(line, "|---"):
			if len(cells) != 6 {
				t.Fatalf("a row has %d cells: %s", len(cells), line)
			}
			rows = append(rows, failureRow{cells[0], cells[1], cells[2], cells[3], cells[4], quotes(cells[5])})
		}
	}
	if len(rows) < 20 {
		t.Fatalf("found %d rows", len(rows))
	}
	return rows
}

// Every row says what was tried, and everything that is tried has its row.
func TestDocsFailureTests(t *testing.T) {
	declared := make(map[string]bool)
	isTest := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\) \{`)
	for name, source := range sources(t) {
		if strings.HasPrefix(name, "integration/") && strings.HasSuffix(name, "_test.go") {
			for _, match := range isTest.FindAllSubmatch(source, -1) {
				declared[string(match[1])] = true
			}
		}
	}
	var named []string
	for _, row := range failureRows(t) {
		if len(row.tests) == 0 {
			t.Errorf("%q has no test", row.what)
		}
		for _, test := range row.tests {
			if !declared[test] {
				t.Errorf("%q: there is no %s", row.what, test)
			}
		}
		named = append(named, row.tests...)
	}
	for test := range declared {
		if strings.HasPrefix(test, "TestFailure") && !slices.Contains(named, test) {
			t.Errorf("%s is in no row", test)
		}
	}
}

// The operator searches his log for the message in the table, and makes an alarm of
// the metric in it: they must be those that the gateway has.
func TestDocsFailureWords(t *testing.T) {
	var gateway strings.Builder
	for name, source := range sources(t) {
		if strings.HasPrefix(name, "module/") || strings.HasPrefix(name, "plugin/") {
			gateway.Write(source)
		}
	}
	endpoints, err := os.ReadFile("../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	answer := regexp.MustCompile("([45][0-9]{2}) `([a-z_]+)`")
	for _, row := range failureRows(t) {
		for _, message := range quotes(row.log) {
			if strings.Contains(message, " ") && !strings.Contains(gateway.String(), `"`+message+`"`) {
				t.Errorf("%q: nothing logs %q", row.what, message)
			}
		}
		for _, metric := range quotes(row.metric) {
			name := regexp.MustCompile(`^[a-z_]+`).FindString(metric)
			if !strings.Contains(gateway.String(), `("`+name+`", "`) {
				t.Errorf("%q: there is no metric %s", row.what, name)
			}
			if _, result, ok := strings.Cut(metric, `result="`); ok && !strings.Contains(string(endpoints), "`"+strings.TrimSuffix(result, `"}`)+"`") {
				t.Errorf("%q: %s has no such result", row.what, metric)
			}
		}
		for _, match := range answer.FindAllStringSubmatch(row.users+row.ends, -1) {
			if !regexp.MustCompile("(?m)^\\| " + match[1] + " \\|.*`" + match[2] + "`").Match(endpoints) {
				t.Errorf("%q: docs/http.md knows no %s %s", row.what, match[1], match[2])
			}
		}
	}
}
