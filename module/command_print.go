// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
)

// visible returns text with a mark in the place of what does not show: what a
// server says must not move the cursor of a terminal, or hide or turn around what
// else stands there.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '�'
	}, text)
}

// printJSON writes the JSON of an answer, indented. What does not show is
// escaped, which in JSON says the same.
func printJSON(out io.Writer, data json.RawMessage) error {
	var indented bytes.Buffer
	if err := json.Indent(&indented, data, "", "\t"); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	var b strings.Builder
	for _, r := range indented.String() {
		switch {
		case r == '\n' || r == '\t' || unicode.IsPrint(r): // JSON has no other white space, but for CR, and escapes these in texts
			b.WriteRune(r)
		case r == '\r':
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('\n')
	_, err := io.WriteString(out, b.String())
	return err
}

// table writes rows in columns.
type table struct{ *tabwriter.Writer }

func newTable(out io.Writer) table {
	return table{tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)}
}

// row writes a row; what is empty becomes a dash.
func (t table) row(cells ...string) {
	for i, cell := range cells {
		if cell == "" {
			cell = "-"
		}
		cells[i] = visible(cell)
	}
	fmt.Fprintln(t, strings.Join(cells, "\t"))
}

// when is a time in a table.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
