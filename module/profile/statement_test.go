// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/minigate/minigate/module/identity"
)

func TestRules(t *testing.T) {
	for _, c := range []struct {
		field, what, value, rule string
	}{
		{"nickname", "plain", "Alice", ""},
		{"nickname", "Chinese with a space", "王 小明", ""},
		{"nickname", "family of emoji, joined", "👩‍👩‍👧‍👦", ""},
		{"nickname", "flag of England, with tags", "🏴\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067\U000E007F", ""},
		{"nickname", "right to left by itself", "שלום", ""},
		{"nickname", "one character", "A", ""},
		{"nickname", "64 characters of 4 bytes", strings.Repeat("😀", 64), ""},
		{"nickname", "65 characters", strings.Repeat("a", 65), ruleName},
		{"nickname", "1 MB", strings.Repeat("a", 1<<20), ruleName},
		{"nickname", "header injection", "Al\r\nX-User-Id: admin", ruleControl},
		{"nickname", "log injection", "Al\nlevel=error", ruleControl},
		{"nickname", "NUL", "Al\x00", ruleControl},
		{"nickname", "terminal escape", "\x1b[2JAl", ruleControl},
		{"nickname", "DEL", "Al\x7f", ruleControl},
		{"nickname", "next line (C1)", "Al\u0085Bo", ruleControl},
		{"nickname", "line separator", "Al\u2028Bo", ruleControl},
		{"nickname", "paragraph separator", "Al\u2029Bo", ruleControl},
		{"nickname", "bidi override", "Al\u202egnp.exe", ruleControl},
		{"nickname", "bidi embedding", "\u202aAl", ruleControl},
		{"nickname", "bidi isolate", "Al\u2066Bo\u2069", ruleControl},
		{"nickname", "not UTF-8", "Al\xff", ruleText},
		{"nickname", "surrogate in UTF-8", "Al\xed\xa0\x80", ruleText},
		{"nickname", "replacement character", "Al\ufffd", ruleText},
		{"nickname", "never a character", "Al\uffff", ruleText},
		{"nickname", "leading space", " Al", ruleEdges},
		{"nickname", "trailing ideographic space", "Al\u3000", ruleEdges},
		{"nickname", "trailing no-break space", "Al\u00a0", ruleEdges},
		{"nickname", "nothing to see", "\u200b\u200d\u2060", ruleVisible},
		{"country", "name", "中国", ""},
		{"province", "65 characters", strings.Repeat("省", 65), ruleName},
		{"city", "bidi override", "\u202eCity", ruleControl},

		{"avatar_url", "plain", "https://thirdwx.qlogo.cn/mmopen/vi_32/abc/132", ""},
		{"avatar_url", "host only", "https://example.com", ""},
		{"avatar_url", "port, query, fragment", "https://img.example.com:8443/a%20b?x=1&y=%22#z", ""},
		{"avatar_url", "1024 bytes", "https://example.com/" + strings.Repeat("a", 1004), ""},
		{"avatar_url", "1025 bytes", "https://example.com/" + strings.Repeat("a", 1005), ruleURL},
		{"avatar_url", "http", "http://example.com/", ruleURL},
		{"avatar_url", "javascript:", "javascript:alert(1)", ruleURL},
		{"avatar_url", "javascript: that looks like https", "javascript://https://example.com/%0aalert(1)", ruleURL},
		{"avatar_url", "data:", "data:image/svg+xml,<svg/>", ruleURL},
		{"avatar_url", "capital scheme", "HTTPS://example.com/", ruleURL},
		{"avatar_url", "no scheme", "//example.com/a", ruleURL},
		{"avatar_url", "no host", "https:///a", ruleURL},
		{"avatar_url", "port without host", "https://:443/", ruleURL},
		{"avatar_url", "empty port", "https://example.com:/", ruleURL},
		{"avatar_url", "opaque", "https:example.com", ruleURL},
		{"avatar_url", "relative", "/a.png", ruleURL},
		{"avatar_url", "user", "https://example.com@evil.example/", ruleURL},
		{"avatar_url", "empty user", "https://@evil.example/", ruleURL},
		{"avatar_url", "backslash", `https://evil.example\@example.com/`, ruleURL},
		{"avatar_url", "out of the attribute, path", `https://example.com/"onerror="x`, ruleURL},
		{"avatar_url", "out of the attribute, query", `https://example.com/?"><script>`, ruleURL},
		{"avatar_url", "space", "https://example.com/a b", ruleURL},
		{"avatar_url", "not ASCII", "https://例え.example/", ruleURL},
		{"avatar_url", "escaped host", "https://example%2ecom/", ruleURL},
		{"avatar_url", "bad escape", "https://example.com/%zz", ruleURL},
		{"avatar_url", "CR LF", "https://example.com/\r\nX-A: b", ruleControl},

		{"gender", "female", "female", ""},
		{"gender", "male", "male", ""},
		{"gender", "code", "1", ruleGender},
		{"gender", "capital", "Male", ruleGender},

		{"language", "WeChat", "zh_CN", ""},
		{"language", "BCP 47", "zh-Hant-TW", ""},
		{"language", "one letter", "z", ruleLanguage},
		{"language", "traversal", "../zh", ruleLanguage},
		{"language", "list", "zh,en", ruleLanguage},
		{"language", "trailing dash", "zh-", ruleLanguage},
		{"language", "35 bytes", "zh" + strings.Repeat("-ab", 11), ""},
		{"language", "38 bytes", "zh" + strings.Repeat("-ab", 12), ruleLanguage},

		{"email", "plain", "alice@example.com", ""},
		{"email", "tag", "alice+tag@mail.example.com", ""},
		{"email", "Chinese", "用户@例え.中国", ""},
		{"email", "display name", "Alice <alice@example.com>", ruleEmail},
		{"email", "angle brackets", "<alice@example.com>", ruleEmail},
		{"email", "comment", "alice@example.com (x)", ruleEmail},
		{"email", "two", "a@example.com, b@example.com", ruleEmail},
		{"email", "quoted", `"a b"@example.com`, ruleEmail},
		{"email", "no dot", "root@localhost", ruleEmail},
		{"email", "address literal", "a@[127.0.0.1]", ruleEmail},
		{"email", "empty label", "a@example..com", ruleEmail},
		{"email", "trailing dot", "a@example.com.", ruleEmail},
		{"email", "dash", "a@-example.com", ruleEmail},
		{"email", "underscore in domain", "a@ex_ample.com", ruleEmail},
		{"email", "no-break space", "a\u00a0b@example.com", ruleEmail},
		{"email", "zero width", "a\u200bb@example.com", ruleEmail},
		{"email", "no at", "example.com", ruleEmail},
		{"email", "local part of 64", strings.Repeat("a", 64) + "@example.com", ""},
		{"email", "local part of 65", strings.Repeat("a", 65) + "@example.com", ruleEmail},
		{"email", "label of 64", "a@" + strings.Repeat("b", 64) + ".com", ruleEmail},
		{"email", "255 bytes", "a@" + strings.Repeat("b.", 125) + "com", ruleEmail},
		{"email", "mail header injection", "a@example.com\r\nBcc: b@example.com", ruleControl},

		{"phone_number", "Chinese", "13580006666", ""},
		{"phone_number", "4 digits", "1234", ""},
		{"phone_number", "3 digits", "123", rulePhone},
		{"phone_number", "16 digits", strings.Repeat("1", 16), rulePhone},
		{"phone_number", "international", "+8613580006666", rulePhone},
		{"phone_number", "line after it", "13580006666\n", ruleControl},
		{"phone_number", "other digits", "١٢٣٤٥", rulePhone},
		{"country_code", "China", "86", ""},
		{"country_code", "plus", "+86", ruleCode},
		{"country_code", "zero", "086", ruleCode},
		{"country_code", "5 digits", "12345", ruleCode},
	} {
		t.Run(c.field+"/"+c.what, func(t *testing.T) {
			if rule := broken(c.field, c.value); rule != c.rule {
				t.Fatalf("breaks %q, want %q", rule, c.rule)
			}
			var info identity.UserInfo
			*info.Field(c.field) = c.value
			if sane := Sane(info); (sane == info) != (c.rule == "") || sane != info && sane != (identity.UserInfo{}) {
				t.Errorf("Sane makes %+v of it", sane)
			}
		})
	}
}

// Every field has rules: one that is added without them is refused.
func TestAllFieldsHaveRules(t *testing.T) {
	for _, field := range identity.UserInfoFields {
		if broken(field, "\x00") == "" || broken(field, "\x00") == ruleUnknown {
			t.Errorf("%s has no rule", field)
		}
	}
	if broken("openid", "x") != ruleUnknown {
		t.Error("a field without rules is accepted")
	}
}

func TestSane(t *testing.T) {
	got := Sane(identity.UserInfo{Nickname: "Al\r\n", AvatarURL: "http://example.com/", City: "广州", Gender: "0", CountryCode: "86"})
	if want := (identity.UserInfo{City: "广州", CountryCode: "86"}); got != want {
		t.Errorf("%+v", got)
	}
}

func TestParseStatement(t *testing.T) {
	al, gz := "Al", "广州"
	for input, want := range map[string]Statement{
		`{}`: {},
		` {"nickname":"Al","city":"\u5e7f\u5dde"} `: {"nickname": &al, "city": &gz},
		`{"nickname":null,"city":""}`:               {"nickname": nil, "city": nil},
	} {
		if got, err := ParseStatement([]byte(input)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v", input, got, err)
		}
	}
	for input, want := range map[string]FieldError{
		`{"nickname":1}`:                         {"nickname", ruleType},
		`{"nickname":true}`:                      {"nickname", ruleType},
		`{"nickname":["Al"]}`:                    {"nickname", ruleType},
		`{"nickname":{"a":{}}}`:                  {"nickname", ruleType},
		`{"Nickname":"Al"}`:                      {"Nickname", ruleUnknown},
		`{"openid":"o1"}`:                        {"openid", ruleUnknown},
		`{"verified":{"phone_number":"1"}`:       {"", ""},
		`{"":"Al"}`:                              {"an empty name", ruleUnknown},
		"{\"a\\r\\nb\":\"Al\"}":                  {"a name in it", ruleUnknown},
		`{"` + strings.Repeat("a", 33) + `":""}`: {"a name in it", ruleUnknown},
		`{"nickname":"Al","nickname":"Bo"}`:      {"nickname", ruleTwice},
		`{"nickname":"\ud800"}`:                  {"nickname", ruleText},
		"{\"nickname\":\"\xff\"}":                {"nickname", ruleText},
		`{"city":"x","email":"PLANTED"}`:         {"email", ruleEmail},
		``:                                       {},
		`null`:                                   {},
		`[]`:                                     {},
		`"nickname"`:                             {},
		`{"nickname":"Al"}{}`:                    {},
		`{"nickname":"Al",}`:                     {},
		`{"nickname":"Al"`:                       {},
		`{"nickname":` + strings.Repeat("[", 1<<16): {},
	} {
		got, err := ParseStatement([]byte(input))
		if err == nil || got != nil {
			t.Errorf("%.40s: %v, %v", input, got, err)
			continue
		}
		var field *FieldError
		switch errors.As(err, &field) {
		case true:
			if *field != want || err.Error() != want.Field+" "+want.Rule {
				t.Errorf("%.40s: error %v, want %v", input, err, want)
			}
		case false:
			if want.Rule != "" {
				t.Errorf("%.40s: error %v, want %v", input, err, want)
			}
		}
		if strings.Contains(err.Error(), "PLANTED") {
			t.Errorf("the error shows the value: %v", err)
		}
	}
}

func TestApply(t *testing.T) {
	info := identity.UserInfo{Nickname: "Al", City: "x", Gender: "male"}
	statement, err := ParseStatement([]byte(`{"nickname":"Bo","city":null,"email":"bo@example.com"}`))
	if err != nil {
		t.Fatal(err)
	}
	statement.Apply(&info)
	if want := (identity.UserInfo{Nickname: "Bo", Gender: "male", Email: "bo@example.com"}); info != want {
		t.Errorf("%+v", info)
	}
	Statement{"openid": nil}.Apply(&info) // made by hand
}

func FuzzParseStatement(f *testing.F) {
	for _, seed := range []string{
		`{"nickname":"Al","city":null}`, `{"avatar_url":"https://example.com/a?b#c"}`, `{"email":"a@example.com","gender":"male"}`,
		`{"nickname":{}}`, `{"nickname":"\ud83d\ude00"}`, `[]`, "{\"nickname\":\"\u202e\"}", `{"phone_number":"1358","country_code":"86","language":"zh_CN"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		statement, err := ParseStatement(data)
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) || len(err.Error()) > 200 {
				t.Errorf("error %q", err)
			}
			return
		}
		var info identity.UserInfo
		statement.Apply(&info)
		if Sane(info) != info {
			t.Errorf("%q states what is not sane", data)
		}
		for name := range statement {
			if !slices.Contains(identity.UserInfoFields, name) {
				t.Errorf("field %q", name)
			}
		}
		// What was accepted is read back as it is.
		encoded, err := json.Marshal(statement)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseStatement(encoded); err != nil || !reflect.DeepEqual(again, statement) {
			t.Errorf("%s is %v, %v", encoded, again, err)
		}
	})
}
