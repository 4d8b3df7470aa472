// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"encoding/json"
	"strings"
	"testing"
)

// A code goes into a request to the platform, an id into a header to the upstream:
// neither may bring anything along.
func TestForms(t *testing.T) {
	for s, want := range map[string]struct{ word, id bool }{
		"0712cDoV0cfty22AeloV":  {true, true},
		"a_b-c":                 {true, true},
		"":                      {false, false},
		"a b":                   {false, true},
		"abc&appid=x":           {false, true},
		"a\r\nX-User-Id: b":     {false, false},
		"a\x00":                 {false, false},
		"\xff":                  {false, false},
		"李":                     {false, true},
		"a\u202eb":              {false, false},
		strings.Repeat("a", 64): {true, true},
		strings.Repeat("a", 65): {false, true},
		strings.Repeat("李", 43): {false, false},
	} {
		if got := IsWord(s, 64); got != want.word {
			t.Errorf("%q is a word: %v", s, got)
		}
		if got := IsID(s); got != want.id {
			t.Errorf("%q is an id: %v", s, got)
		}
	}
}

// A nickname is shown to other people, by apps that trust the gateway.
func TestLine(t *testing.T) {
	for text, want := range map[string]string{
		`"Band"`: "Band", `"李 100%"`: "李 100%", `"👩‍👩‍👧"`: "👩‍👩‍👧", `""`: "", `null`: "", `7`: "", `["a"]`: "",
		`"a\nb"`: "", `"a\u0000"`: "", `"a\u202eb"`: "", `"a\u2066b"`: "", `"\ud800"`: "",
		`"` + strings.Repeat("李", 128) + `"`: strings.Repeat("李", 128), `"` + strings.Repeat("a", 129) + `"`: "",
	} {
		if got := (Fields{"f": json.RawMessage(text)}).Line("f"); got != want {
			t.Errorf("%s is %q", text, got)
		}
	}
	if got := Fields(nil).Line("f"); got != "" {
		t.Errorf("nothing is %q", got)
	}
}
