// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package arg

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// config has an option for each reader.
type config struct {
	One   string
	Many  []string
	Count int
	Wait  caddy.Duration
	On    bool
}

// parse reads a Caddyfile block of the options of config, as a module does.
func parse(input string) (c config, err error) {
	d := caddyfile.NewTestDispenser("test {\n" + input + "\n}\n")
	d.Next()
	for d.NextBlock(0) {
		switch d.Val() {
		case "one":
			err = String(d, &c.One)
		case "many":
			err = Strings(d, &c.Many)
		case "count":
			err = Int(d, &c.Count, 2)
		case "wait":
			err = Duration(d, &c.Wait)
		case "on":
			err = Flag(d, &c.On)
		default:
			err = Unrecognized(d)
		}
		if err != nil {
			return c, err
		}
	}
	if d.Nesting() != 0 || d.Next() {
		return c, errors.New("a reader did not stop at the end of its option")
	}
	return c, nil
}

func TestValid(t *testing.T) {
	for _, test := range []struct {
		name, input string
		want        config
	}{
		{"nothing", "", config{}},
		{"String", "one a", config{One: "a"}},
		{"String of several words", `one "a b"`, config{One: "a b"}},
		{"String of a quoted brace", "one \"{\"", config{One: "{"}},
		{"String of a placeholder", "one {env.A}", config{One: "{env.A}"}},
		{"String at the end of a comment", "one a # b", config{One: "a"}},
		{"String over two lines", "one \\\na", config{One: "a"}},
		{"Strings", "many a", config{Many: []string{"a"}}},
		{"Strings of several", "many a b \"c d\"", config{Many: []string{"a", "b", "c d"}}},
		{"Int", "count 12", config{Count: 12}},
		{"Int at the lower end", "count 2", config{Count: 2}},
		{"Duration", "wait 90s", config{Wait: caddy.Duration(90 * time.Second)}},
		{"Duration in days", "wait 1.5d", config{Wait: caddy.Duration(36 * time.Hour)}},
		{"Flag", "on", config{On: true}},
		{"all, one after the other", "on\nmany a b\none c\nwait 1ms\ncount 3", config{"c", []string{"a", "b"}, 3, caddy.Duration(time.Millisecond), true}},
	} {
		got, err := parse(test.input)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, %v, want %+v", test.name, got, err, test.want)
		}
	}
}

// What a reader swallows without a word is an option the operator believes to
// be in force.
func TestRefused(t *testing.T) {
	const (
		wrongCount = "wrong argument count or unexpected line ending after "
		wholeCount = "count must be a whole number of at least 2, not "
		realWait   = "wait must be a duration above zero such as 90s or 30d, not "
	)
	for _, test := range []struct{ name, input, want string }{
		{"String missing", "one", wrongCount + "'one', at Testfile:2"},
		{"String surplus", "one a b", wrongCount + "'b', at Testfile:2"},
		{"String empty", `one ""`, "one must not be empty, at Testfile:2"},
		{"String duplicate", "one a\none b", "one is already set, at Testfile:3"},
		{"String duplicate of the same", "one a\non\none a", "one is already set, at Testfile:4"},
		{"String block", "one a {\n b\n}", "one takes no block, at Testfile:2"},
		{"String empty block", "one a {\n}\non", "one takes no block, at Testfile:2"},
		{"String block in place of the argument", "one {\n b\n}", wrongCount + "'one', at Testfile:2"},

		{"Strings missing", "many", wrongCount + "'many', at Testfile:2"},
		{"Strings empty", `many a "" b`, "many must not be empty, at Testfile:2"},
		{"Strings duplicate", "many a\nmany b", "many is already set, at Testfile:3"},
		{"Strings block", "many a b {\n c\n}", "many takes no block, at Testfile:2"},
		{"Strings empty block", "many a {\n}", "many takes no block, at Testfile:2"},
		{"Strings block in place of the arguments", "many {\n a\n}", wrongCount + "'many', at Testfile:2"},

		{"Int missing", "count", wrongCount + "'count', at Testfile:2"},
		{"Int surplus", "count 2 3", wrongCount + "'3', at Testfile:2"},
		{"Int empty", `count ""`, "count must not be empty, at Testfile:2"},
		{"Int duplicate", "count 2\ncount 3", "count is already set, at Testfile:3"},
		{"Int block", "count 2 {\n 3\n}", "count takes no block, at Testfile:2"},
		{"Int too low", "count 1", wholeCount + `"1", at Testfile:2`},
		{"Int zero, which would pass for unset", "count 0\ncount 5", wholeCount + `"0", at Testfile:2`},
		{"Int negative", "count -5", wholeCount + `"-5", at Testfile:2`},
		{"Int no number", "count five", wholeCount + `"five", at Testfile:2`},
		{"Int no whole number", "count 2.5", wholeCount + `"2.5", at Testfile:2`},
		{"Int too large", "count 99999999999999999999", wholeCount + `"99999999999999999999", at Testfile:2`},

		{"Duration missing", "wait", wrongCount + "'wait', at Testfile:2"},
		{"Duration surplus", "wait 1s 2s", wrongCount + "'2s', at Testfile:2"},
		{"Duration empty", `wait ""`, "wait must not be empty, at Testfile:2"},
		{"Duration duplicate", "wait 1s\nwait 2s", "wait is already set, at Testfile:3"},
		{"Duration block", "wait 1s {\n 2s\n}", "wait takes no block, at Testfile:2"},
		{"Duration zero, which would pass for unset", "wait 0s", realWait + `"0s", at Testfile:2`},
		{"Duration negative", "wait -1s", realWait + `"-1s", at Testfile:2`},
		{"Duration without a unit", "wait 30", realWait + `"30", at Testfile:2`},
		{"Duration in words", "wait soon", realWait + `"soon", at Testfile:2`},

		{"Flag surplus", "on true", wrongCount + "'true', at Testfile:2"},
		{"Flag empty", `on ""`, wrongCount + "'', at Testfile:2"},
		{"Flag duplicate", "on\non", "on is already set, at Testfile:3"},
		{"Flag block", "on {\n a\n}", "on takes no block, at Testfile:2"},
		{"Flag empty block", "on {\n}", "on takes no block, at Testfile:2"},

		{"unrecognized", "one a\nother", `unrecognized option "other", at Testfile:3`},
	} {
		if got, err := parse(test.input); err == nil || err.Error() != test.want {
			t.Errorf("%s: got %+v, %v\nwant %s", test.name, got, err, test.want)
		}
	}
}

// An option at the very end of the input, with no brace after it, is read like
// any other: so a store without a block gives its arguments to String.
func TestAtEndOfInput(t *testing.T) {
	for _, input := range []string{"one a", "one a\n"} {
		d := caddyfile.NewTestDispenser(input)
		d.Next()
		var value string
		if err := String(d, &value); err != nil || value != "a" {
			t.Errorf("%q: got %q, %v", input, value, err)
		}
	}
	d := caddyfile.NewTestDispenser("one a {\n b\n}")
	d.Next()
	var value string
	if err := String(d, &value); err == nil || !strings.Contains(err.Error(), "one takes no block") {
		t.Errorf("a block: got %q, %v", value, err)
	}
}

// A failed reader must not leave half of what it read.
func TestRefusedChangesNothing(t *testing.T) {
	for _, input := range []string{"one a b", "count 1", "count x", "wait 0s", "on {\n}"} {
		if got, err := parse(input); err == nil || !reflect.DeepEqual(got, config{}) {
			t.Errorf("%q: got %+v, %v", input, got, err)
		}
	}
}

func TestParseDuration(t *testing.T) {
	d := caddyfile.NewTestDispenser("limit 5 2h")
	d.Next()
	if got, err := ParseDuration(d, "the time", "2h"); err != nil || got != caddy.Duration(2*time.Hour) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, value := range []string{"", "0", "-2h", "2 h", "h"} {
		want := "the time must be a duration above zero such as 90s or 30d, not "
		if _, err := ParseDuration(d, "the time", value); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v", value, err)
		}
	}
}
