// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
)

func TestDecodeFields(t *testing.T) {
	nested := func(n int) string {
		return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}"
	}
	for body, want := range map[string]string{
		"{}":                       "",
		" \r\n{\"a\":1}\n ":        "",
		"\xef\xbb\xbf{\"a\":1}":    "",
		`{"a":"[[[[[[{{{{\"[[["}`:  "",
		nested(deepest - 1):        "",
		nested(deepest):            "decoding JSON: nested deeper than 32",
		strings.Repeat("[", 60000): "decoding JSON: nested deeper than 32",
		"":                         "decoding JSON: not an object",
		"null":                     "decoding JSON: not an object",
		"[]":                       "decoding JSON: not an object",
		`"a"`:                      "decoding JSON: not an object",
		"12":                       "decoding JSON: not an object",
		"<html>":                   "decoding JSON: not an object",
		"{":                        "decoding JSON: broken",
		`{"a"`:                     "decoding JSON: broken",
		`{"a":`:                    "decoding JSON: broken",
		`{"a":1`:                   "decoding JSON: broken",
		`{"a":1,}`:                 "decoding JSON: broken",
		`{"a":1]`:                  "decoding JSON: broken",
		`{a:1}`:                    "decoding JSON: broken",
		`{"a":1,"A":2,"b":3}`:      "",
		`{"a":1,"a":1}`:            "decoding JSON: a name stands twice",
		`{"a":1,"\u0061":2}`:       "decoding JSON: a name stands twice",
		`{"a":1}{"a":2}`:           "decoding JSON: broken",
		`{"a":1} x`:                "decoding JSON: broken",
	} {
		_, err := DecodeFields([]byte(body))
		switch {
		case want == "" && err != nil:
			t.Errorf("%.40q: %v", body, err)
		case want != "" && (err == nil || err.Error() != "platform fault: "+want):
			t.Errorf("%.40q: got %v, want %s", body, err, want)
		}
	}
}

func TestFields(t *testing.T) {
	f, err := DecodeFields([]byte(`{"s":"öpen","n":40029,"q":"40029","minus":-1,"space":" 7 ","z":null,"f":1.5,"e":4e4,"big":12345678901234567890,
		"o":{"x":"y"},"l":[1],"b":true,"empty":"","half":"\ud800","bad":"` + "\xff" + `","twice":{"a":1,"a":2}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		read func(string) (any, error)
		name string
		want string
	}{
		{text(f), "s", "öpen"},
		{text(f), "z", ""},
		{text(f), "none", ""},
		{text(f), "S", ""},
		{text(f), "n", `decoding field "n": not a string`},
		{text(f), "o", `decoding field "o": not a string`},
		{text(f), "b", `decoding field "b": not a string`},
		{text(f), "half", `decoding field "half": not valid Unicode`},
		{text(f), "bad", `decoding field "bad": not valid Unicode`},
		{number(f), "n", "40029"},
		{number(f), "q", "40029"},
		{number(f), "minus", "-1"},
		{number(f), "space", "7"},
		{number(f), "z", "0"},
		{number(f), "none", "0"},
		{number(f), "s", `decoding field "s": not a whole number`},
		{number(f), "bad", `decoding field "bad": not valid Unicode`},
		{number(f), "empty", `decoding field "empty": not a whole number`},
		{number(f), "f", `decoding field "f": not a whole number`},
		{number(f), "e", `decoding field "e": not a whole number`},
		{number(f), "big", `decoding field "big": not a whole number`},
		{number(f), "b", `decoding field "b": not a whole number`},
		{number(f), "l", `decoding field "l": not a whole number`},
		{object(f), "o", `map[x:"y"]`},
		{object(f), "z", "map[]"},
		{object(f), "none", "map[]"},
		{object(f), "s", `decoding field "s": decoding JSON: not an object`},
		{object(f), "l", `decoding field "l": decoding JSON: not an object`},
		{object(f), "twice", `decoding field "twice": decoding JSON: a name stands twice`},
	} {
		value, err := test.read(test.name)
		got := fmt.Sprintf("%s", value)
		if err != nil {
			got = strings.TrimPrefix(err.Error(), "platform fault: ")
		}
		if got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
	if f.Message("s") != "öpen" || f.Message("n") != "" || f.Message("none") != "" || Fields(nil).Message("s") != "" {
		t.Error("message is wrong")
	}
	if !f.Has("s") || f.Has("z") || f.Has("none") || Fields(nil).Has("s") {
		t.Error("has is wrong")
	}
}

func text(f Fields) func(string) (any, error) {
	return func(name string) (any, error) { return f.Text(name) }
}

func object(f Fields) func(string) (any, error) {
	return func(name string) (any, error) { return f.Object(name) }
}

func number(f Fields) func(string) (any, error) {
	return func(name string) (any, error) {
		n, err := f.Int(name)
		return fmt.Sprint(n), err
	}
}

func TestAnswerFields(t *testing.T) {
	for status, want := range map[int]string{
		200: "platform fault: answer with status 200: decoding JSON: not an object",
		404: "platform fault: answer with status 404: decoding JSON: not an object",
		502: "unavailable: answer with status 502: decoding JSON: not an object",
	} {
		if _, err := (&Answer{Status: status, Body: []byte("<html>")}).Fields(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if f, err := (&Answer{Status: status, Body: []byte(`{"a":"b"}`)}).Fields(); err != nil || !f.Has("a") {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func TestClean(t *testing.T) {
	for _, test := range []struct {
		text    string
		secrets []string
		want    string
	}{
		{"invalid code", nil, "invalid code"},
		{"错误 \x00\r\n\x1b[31m\u200b\u202e\xff!", nil, "错误 [31m!"},
		{"secret s3cr3t-value here", []string{"s3cr3t-value"}, "secret [redacted] here"},
		{"s3cr3t\x00-value", []string{"s3cr3t-value"}, "[redacted]"},
		{"a+b%2Fc/d a%20b%2Fc%2Fd a b/c/d", []string{"a b/c/d"}, "a+b%2Fc/d [redacted] [redacted]"},
		{"invalid code", []string{"code", ""}, "invalid code"},
		{strings.Repeat("x", 256), nil, strings.Repeat("x", 256)},
		{strings.Repeat("x", 257), nil, strings.Repeat("x", 253) + "…"},
		{strings.Repeat("错", 100), nil, strings.Repeat("错", 84) + "…"},
		{strings.Repeat("x", 250) + "s3cr3t-value", []string{"s3cr3t-value"}, strings.Repeat("x", 250) + "[re…"},
	} {
		if got := Clean(test.text, test.secrets...); got != test.want {
			t.Errorf("%q:\n got %q\nwant %q", test.text, got, test.want)
		}
	}
}

func FuzzDecodeFields(f *testing.F) {
	for _, seed := range []string{
		"{}", `{"errcode":"40029","errmsg":"x"}`, "\xef\xbb\xbf{\"a\":null}", `{"a":{"a":[{}]}}`, `{"a":"\ud800"}`, "[[[[",
		`{ "a" : 1 , "b":[1,{"c":"}"}] ,"d":"\\"","e" :true}`, `{"\u0061":1,"a":2}`, "{\"\xff\":1}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fields, err := DecodeFields(data)
		var want map[string]json.RawMessage
		if err == nil {
			if err := json.Unmarshal(bytes.TrimPrefix(data, byteOrderMark), &want); err != nil {
				t.Fatalf("encoding/json refuses it: %v", err)
			}
			if !maps.EqualFunc(fields, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
				t.Fatalf("got %q, encoding/json gets %q", fields, want)
			}
		}
		if err != nil {
			if reasonOf(t, err) != PlatformFault || fields != nil {
				t.Fatalf("got %v %v", fields, err)
			}
			return
		}
		for name := range fields {
			if value, err := fields.Text(name); err == nil && strings.ContainsRune(value, '\uFFFD') {
				t.Fatal("text is not what the platform sent")
			}
			if message := fields.Message(name); len(message) > longestText {
				t.Fatalf("message of %d bytes", len(message))
			}
			_, _ = fields.Int(name)
			_, _ = fields.Object(name)
		}
	})
}
