// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/minigate/minigate/module/provider"
)

// A number of another country has its code before it, so that no two countries'
// numbers are one.
func TestPhoneNumbers(t *testing.T) {
	p := new(Provider)
	for mobile, want := range map[string]provider.PhoneNumber{
		"13800138000":           {Number: "13800138000", CountryCode: "86"},
		"1-1234432112":          {Number: "1234432112", CountryCode: "1"},
		"852-51234567":          {Number: "51234567", CountryCode: "852"},
		"86-13800138000":        {Number: "13800138000", CountryCode: "86"},
		"1684-1234":             {Number: "1234", CountryCode: "1684"},
		"44-123456789012345":    {Number: "123456789012345", CountryCode: "44"},
		"0212345678":            {Number: "0212345678", CountryCode: "86"},
		`\u0031-\u0031234`:      {Number: "1234", CountryCode: "1"},
		"":                      {},
		"123":                   {},
		"1234567890123456":      {},
		"-13800138000":          {},
		"1-":                    {},
		"1-2-3456":              {},
		"12345-13800138000":     {},
		"0086-13800138000":      {},
		"0-13800138000":         {},
		"+86-13800138000":       {},
		"+8613800138000":        {},
		"138****8000":           {},
		"138 0013 8000":         {},
		" 13800138000":          {},
		`13800138000\n`:         {},
		"１３８００１３８０００":           {},
		"1\u20111234432112":     {},
		"tel:13800138000":       {},
		strings.Repeat("1", 90): {},
	} {
		got, err := p.PhoneNumber([]byte(`{"code":"10000","msg":"Success","mobile":"` + mobile + `"}`))
		if got != want || (err == nil) == (want == provider.PhoneNumber{}) || err != nil && !errors.Is(err, provider.ErrData) {
			t.Errorf("%q: got %+v %v", mobile, got, err)
		}
	}
	for _, plain := range []string{
		"", "null", "[]", "{", `{"code":"10000"}`, `{"mobile":null}`, `{"mobile":13800138000}`, `{"mobile":["13800138000"]}`, `{"Mobile":"13800138000"}`,
		`{"mobile":"13800138000","mobile":"13900139000"}`, `{"mobile":"13800138000","MOBILE":"13900139000"}`,
		`{"mobile":"13800138000\ud800"}`, "{\"mobile\":\"13800138000\",\"a\":\"\xff\"}", `{"phoneNumber":"13800138000"}`,
	} {
		if got, err := p.PhoneNumber([]byte(plain)); !errors.Is(err, provider.ErrData) || got != (provider.PhoneNumber{}) {
			t.Errorf("%s: got %+v %v", plain, got, err)
		}
	}
}

// Whatever a client hands over, what opens is signed, and no error shows it.
func FuzzOpenSigned(f *testing.F) {
	p := opener(f)
	for _, seed := range []string{
		"", "{}", handed(goodPhone), handed("{}"), vectors["P1"]["res_response"], vectors["P4"]["res_response"],
		handedText(`{"code":"40003","subCode":"isv.invalid-auth-relations"}`, platformKey), handedText(goodPhone, appKey),
		strings.ReplaceAll(handed(goodPhone), "/", `\/`), strings.ReplaceAll(handed(goodPhone), "+", " "),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := p.OpenSigned(t.Context(), data)
		if err != nil {
			var e *provider.Error
			if got.Plain != nil || got.Signed != nil || errors.Is(err, provider.ErrData) == errors.As(err, &e) {
				t.Fatalf("got %s %v", got.Plain, err)
			}
			return
		}
		var outside struct{ Sign string }
		if err := json.Unmarshal([]byte(strings.TrimPrefix(string(data), "\ufeff")), &outside); err != nil {
			t.Fatal(err)
		}
		if !isSigned(&platformKey.PublicKey, got.Signed, strings.ReplaceAll(outside.Sign, " ", "+")) || !json.Valid(got.Plain) {
			t.Fatalf("got %s over %s", got.Plain, got.Signed)
		}
	})
}

// Behind the signature, whatever the platform encrypts.
func FuzzOpenSignedPlain(f *testing.F) {
	p := opener(f)
	for _, seed := range []string{"", "{}", goodPhone, vectors["P3"]["plaintext"], `{"code":"10000","mobile":"1-1234432112"}`, "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		got, err := p.OpenSigned(t.Context(), []byte(handed(string(plain))))
		if err == nil && (string(got.Plain) != string(plain) || !json.Valid(plain)) {
			t.Fatalf("got %s", got.Plain)
		}
		number, err := p.PhoneNumber(plain)
		switch {
		case err != nil:
			if !errors.Is(err, provider.ErrData) || number != (provider.PhoneNumber{}) {
				t.Fatalf("got %+v %v", number, err)
			}
		case !isDigits(number.Number, 4, 15) || !isDigits(number.CountryCode, 1, 4):
			t.Fatalf("got %+v", number)
		}
	})
}

func BenchmarkOpenSigned(b *testing.B) {
	p := opener(b)
	good := handed(goodPhone)
	for name, data := range map[string]string{
		"good":   good,
		"forged": handedText(`"`+encrypt(testAESKey, []byte(goodPhone), nil)+`"`, appKey),
		"huge":   good + strings.Repeat(" ", 10<<20),
	} {
		b.Run(name, func(b *testing.B) {
			raw := []byte(data)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.OpenSigned(b.Context(), raw); (err == nil) != (name == "good") {
					b.Fatal(fmt.Errorf("%s: %w", name, err))
				}
			}
		})
	}
}
