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

	"github.com/minigate/minigate/module/provider"
)

// The README says what the code does.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(data)

	row := regexp.MustCompile("(?m)^\\| ([-0-9, ]+) \\| [^|]* \\| `([a-z_]+)` \\|")
	for title, table := range map[string]map[int64]provider.Reason{
		"Of every call:": reasons,
		"Of calls with a code, for a login or a telephone number:": codeReasons,
		"Of calls with an access token:":                           appTokenReasons,
		"Of telephone numbers:":                                    programReasons,
		"Of session keys:":                                         signatureReasons,
	} {
		_, section, _ := strings.Cut(readme, "\n"+title+"\n\n")
		section, _, _ = strings.Cut(section, "\n\n")
		documented := make(map[int64]string)
		for _, match := range row.FindAllStringSubmatch(section, -1) {
			for code := range strings.SplitSeq(match[1], ", ") {
				n, err := strconv.ParseInt(code, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				documented[n] = match[2]
			}
		}
		for code, reason := range table {
			if documented[code] != reason.String() {
				t.Errorf("%s error code %d is %s, the README says %q", title, code, reason, documented[code])
			}
		}
		if len(documented) != len(table) {
			t.Errorf("%s the README has %d error codes, want %d", title, len(documented), len(table))
		}
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
