// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/module/provider"
)

// Everyone is signed out when somebody says so in full, not when he hits a key.
func TestConfirmation(t *testing.T) {
	for input, want := range map[string]bool{"yes\n": true, " yes \n": true, "y\n": false, "\n": false, "": false, "yes": false, "no\nyes\n": false, "YES\n": false} {
		if err := ask(strings.NewReader(input), io.Discard, "Sure?"); (err == nil) != want {
			t.Errorf("%q: %v", input, err)
		}
	}
	if isTerminal(strings.NewReader("yes\n")) {
		t.Error("a file is taken for somebody who can be asked")
	}
}

// An openid in the place of a name is not in the error, which Caddy logs.
func TestStrictBodies(t *testing.T) {
	const openID = "oaYkyJdFj0OqVZhV8RrCyZgKO1cA"
	for body, want := range map[string]string{
		`{"program":"wx","openid":"o"}`:             "",
		`{"program":"wx","OpenID":"o"}`:             "",
		`{}`:                                        "",
		`{"programs":"wx"}`:                         `there is no member "programs"`,
		`{"` + openID + `":"x"}`:                    "there is no member of that name",
		`{"\u001b[2J":"x"}`:                         "there is no member of that name",
		`{"program":7}`:                             "has the wrong type",
		`{"program":["` + openID + `"]}`:            "has the wrong type",
		`{"all":"` + openID + `"}`:                  `member "all" has the wrong type`,
		`{"session":null}`:                          `member "session" is empty`,
		`{"session": "" }`:                          `member "session" is empty`,
		`{"session":"","program":"` + openID + `"}`: `member "session" is empty`,
	} {
		err := decodeStrict([]byte(body), new(revokeRequest))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), openID)) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"":                          {},
		"24h":                       now.Add(-24 * time.Hour),
		"7d":                        now.Add(-7 * 24 * time.Hour),
		"0s":                        now,
		"2026-01-31T08:00:00Z":      time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC),
		"2026-01-31T08:00:00+08:00": time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := parseTime("since", text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"-1h", "yesterday", "2026-01-31", "5", "h", "24 h"} {
		if _, err := parseTime("since", text, now); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// JSON for a terminal says the same as it did before.
func TestPrintJSON(t *testing.T) {
	const raw = `{"a":"张三 \u001b\n` + "\u009b\u202e\U000e0041\x7f" + `","b":[1,2.50,{}],` + "\r\n" + `"c":null}`
	var b strings.Builder
	if err := printJSON(&b, json.RawMessage(raw)); err != nil {
		t.Fatal(err)
	}
	var before, after any
	if err := errors.Join(json.Unmarshal([]byte(raw), &before), json.Unmarshal([]byte(b.String()), &after)); err != nil {
		t.Fatal(err)
	}
	same, _ := json.Marshal(before)
	if got, _ := json.Marshal(after); string(got) != string(same) || strings.ContainsAny(b.String(), "\u009b\u202e\x7f\r\x1b") || !strings.Contains(b.String(), "张三") {
		t.Errorf("%q", b.String())
	}
	if err := printJSON(io.Discard, json.RawMessage("{")); err == nil {
		t.Error("what is no JSON is printed")
	}
}

// How a program does is told by what platform and operator do, not by what clients
// send.
func TestHealth(t *testing.T) {
	for name, test := range map[string]struct {
		err              error
		answered, failed bool
	}{
		"success":       {nil, true, false},
		"bad code":      {&provider.Error{Reason: provider.CodeInvalid, PlatformCode: "40029"}, true, false},
		"stale key":     {&provider.Error{Reason: provider.KeyStale}, true, false},
		"rubbish":       {&provider.Error{Reason: provider.CodeMalformed}, false, false},
		"stale token":   {&provider.Error{Reason: provider.TokenRejected, PlatformCode: "40001"}, false, false},
		"gone client":   {&provider.Error{Reason: provider.Unavailable, Err: context.Canceled}, false, false},
		"no answer":     {&provider.Error{Reason: provider.Unavailable}, false, true},
		"wrong secret":  {&provider.Error{Reason: provider.Misconfigured, PlatformCode: "40125"}, false, true},
		"too many":      {&provider.Error{Reason: provider.RateLimited}, false, true},
		"garbage":       {&provider.Error{Reason: provider.PlatformFault}, false, true},
		"anything else": {errors.New("x"), false, true},
	} {
		h := new(health)
		h.note(test.err)
		if answered, failed := !h.lastAnswer().IsZero(), h.failed.Load() != nil; answered != test.answered || failed != test.failed {
			t.Errorf("%s: answered %v, failed %v", name, answered, failed)
		}
	}
}
