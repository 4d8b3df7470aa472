// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The README says what the code does.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(data)

	documented := make(map[int64]string)
	row := regexp.MustCompile("(?m)^\\| ([-0-9, ]+) \\| [^|]* \\| `([a-z_]+)` \\|")
	for _, match := range row.FindAllStringSubmatch(readme, -1) {
		for code := range strings.SplitSeq(match[1], ", ") {
			n, err := strconv.ParseInt(code, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			documented[n] = match[2]
		}
	}
	for code, reason := range reasons {
		if documented[code] != reason.String() {
			t.Errorf("error code %d is %s, the README says %q", code, reason, documented[code])
		}
	}
	if len(documented) != len(reasons) {
		t.Errorf("the README has %d error codes, want %d", len(documented), len(reasons))
	}

	_, example, _ := strings.Cut(readme, "```json\n")
	example, _, _ = strings.Cut(example, "```")
	p := struct {
		Name string `json:"provider"`
		Provider
	}{}
	decoder := json.NewDecoder(bytes.NewReader([]byte(example)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		t.Errorf("decoding the JSON of the README: %v", err)
	}
	if p.Name != "wechat" || strings.Join(p.API, " ") != strings.Join(defaultAPI, " ") {
		t.Errorf("the JSON of the README is %+v", p)
	}
}
