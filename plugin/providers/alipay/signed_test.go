// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/minigate/minigate/module/provider"
)

const (
	goodPhone = `{"code":"10000","msg":"Success","mobile":"13800138000"}`
	notOurs   = "the data is not what the platform gave: "
)

// opener is a provider that opens what the keys of the vectors made, and calls
// nobody.
func opener(t testing.TB) *Provider {
	t.Helper()
	return start(t, &Provider{ID: testAppID, PrivateKey: appKeyText, AlipayPublicKey: platformText, AESKey: testAESKey})
}

// encrypt encrypts as the platform does. pad is the padding, if not the right one.
func encrypt(key string, plain, pad []byte) string {
	block, err := parseAESKey(key)
	if err != nil {
		panic(err)
	}
	if pad == nil {
		n := aes.BlockSize - len(plain)%aes.BlockSize
		pad = bytes.Repeat([]byte{byte(n)}, n)
	}
	text := append(bytes.Clone(plain), pad...)
	cipher.NewCBCEncrypter(block, make([]byte, aes.BlockSize)).CryptBlocks(text, text)
	return base64.StdEncoding.EncodeToString(text)
}

// signedBy is the signature of a text by a key.
func signedBy(key *rsa.PrivateKey, text string) string {
	signature, err := sign(key, text)
	if err != nil {
		panic(err)
	}
	return signature
}

// handed is what my.getPhoneNumber gives for a plain text.
func handed(plain string) string {
	return handedText(`"`+encrypt(testAESKey, []byte(plain), nil)+`"`, platformKey)
}

// handedText is a response in JSON with the signature of a key, as it is given.
func handedText(response string, key *rsa.PrivateKey) string {
	return fmt.Sprintf(`{"response":%s,"sign":%q,"sign_type":"RSA2","encrypt_type":"AES","charset":"UTF-8"}`, response, signedBy(key, response))
}

// The vectors open as they do in the platform's own SDK.
func TestPhoneVectors(t *testing.T) {
	p := opener(t)
	want := vectors["P1"]
	got, err := p.OpenSigned(t.Context(), []byte(want["res_response"]))
	if err != nil || string(got.Plain) != want["plaintext"] || string(got.Signed) != want["string_to_verify"] {
		t.Fatalf("P1: got %s over %s, %v", got.Plain, got.Signed, err)
	}
	if number, err := p.PhoneNumber(got.Plain); err != nil || number != (provider.PhoneNumber{Number: "13800138000", CountryCode: "86"}) {
		t.Errorf("P1: got %+v %v", number, err)
	}
	if handed(want["plaintext"]) != want["res_response"] {
		t.Error("P1: these tests encrypt otherwise")
	}
	refused := fmt.Sprintf(`{"response":%q,"sign":%q}`, vectors["P3"]["ciphertext"], vectors["P3"]["sign"])
	_, err = p.OpenSigned(t.Context(), []byte(refused))
	if e := errorOf(t, err); e.Reason != provider.ConsentMissing || e.PlatformCode != "isv.invalid-auth-relations" || e.PlatformMessage != "无效的授权关系" {
		t.Errorf("P3: got %v", err)
	}
	for name, test := range map[string]struct{ data, err string }{
		"P2": {
			fmt.Sprintf(`{"response":%q,"sign":%q,"sign_type":"RSA2","encrypt_type":"AES"}`, want["ciphertext"], vectors["P2"]["sign"]),
			"it is not signed with the key that alipay_public_key or alipay_cert holds",
		},
		"P4": {
			vectors["P4"]["res_response"],
			"it is not signed; does the console have the app's public key, the AES key and the app gateway?; it says isv.missing-encrypt-key",
		},
	} {
		got, err := p.OpenSigned(t.Context(), []byte(test.data))
		if !errors.Is(err, provider.ErrData) || err.Error() != notOurs+test.err || got.Plain != nil || got.Signed != nil {
			t.Errorf("%s: got %s %v", name, got.Plain, err)
		}
	}
	block, err := parseAESKey(vectors["A1"]["key"])
	if err != nil {
		t.Fatal(err)
	}
	text, err := base64.StdEncoding.DecodeString(vectors["A1"]["ciphertext"])
	if err != nil {
		t.Fatal(err)
	}
	cipher.NewCBCDecrypter(block, make([]byte, aes.BlockSize)).CryptBlocks(text, text)
	if plain, ok := unpad(text); !ok || string(plain) != vectors["A1"]["plaintext"] {
		t.Errorf("A1: got %q", plain)
	}
}

// An encrypted answer to a call has the same form, key and signature. It opens, and
// has no telephone number.
func TestAnswersAreNoPhoneNumbers(t *testing.T) {
	p := opener(t)
	r := &reply{Answer: &provider.Answer{Status: 200, Body: []byte(vectors["E1"]["body"])}, method: "alipay.open.auth.token.app.query"}
	e, err := r.open()
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.OpenSigned(t.Context(), fmt.Appendf(nil, `{"response":%s,"sign":%q}`, e.node, e.sign))
	if err != nil {
		t.Fatal(err)
	}
	if number, err := p.PhoneNumber(got.Plain); !errors.Is(err, provider.ErrData) {
		t.Errorf("got %+v %v", number, err)
	}
	// Nor is one in plain, as that of alipay.user.info.share is, mobile and all.
	plain, err := p.OpenSigned(t.Context(), []byte(handedText(goodPhone, platformKey)))
	if !errors.Is(err, provider.ErrData) || plain.Plain != nil {
		t.Errorf("got %s %v", plain.Plain, err)
	}
}

// The same data is handed over in many spellings: through forms that make spaces of
// plus signs, and JSON libraries that escape slashes. For what is remembered against
// its being brought by another user, it is one.
func TestSpellingsOfSignedData(t *testing.T) {
	p := opener(t)
	// A text with all that can be respelled.
	var text string
	for i := range 1000 {
		text = encrypt(testAESKey, fmt.Appendf(nil, `{"code":"10000","mobile":"13800138000","n":%d}`, i), nil)
		if strings.Contains(text, "+") && strings.Contains(text, "/") {
			break
		}
	}
	data := handedText(`"`+text+`"`, platformKey)
	response, seal := `"`+text+`"`, signedBy(platformKey, `"`+text+`"`)
	for name, data := range map[string]string{
		"as it is":            data,
		"spaces":              strings.ReplaceAll(data, "+", " "),
		"escaped slashes":     strings.ReplaceAll(data, "/", `\/`),
		"escaped characters":  strings.ReplaceAll(data, "+", `\u002b`),
		"in lines":            strings.ReplaceAll(strings.ReplaceAll(data, ",", " ,\r\n\t"), ":", " : "),
		"other order":         fmt.Sprintf(`{"sign":%q,"charset":"utf-8","response":%s}`, seal, response),
		"least":               fmt.Sprintf(`{"response":%s,"sign":%q}`, response, seal),
		"nothing in the rest": fmt.Sprintf(`{"response":%s,"sign":%q,"sign_type":null,"encrypt_type":"","charset":null}`, response, seal),
		"more":                fmt.Sprintf(`{"response":%s,"sign":%q,"new":7,"subCode":"isv.x"}`, response, seal),
		"byte order mark":     "\xef\xbb\xbf" + data,
		"sign in lines":       strings.Replace(data, `"sign":"`, `"sign":"\r\n`, 1),
	} {
		got, err := p.OpenSigned(t.Context(), []byte(data))
		if err != nil || string(got.Signed) != response {
			t.Errorf("%s: got %s %v", name, got.Signed, err)
		}
	}
}

// Whatever a client makes up or changes is one and the same to it.
func TestForgedSignedData(t *testing.T) {
	p := opener(t)
	good := handed(goodPhone)
	text := encrypt(testAESKey, []byte(goodPhone), nil)
	flip := func(at int) string {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		raw[at] ^= 1
		return base64.StdEncoding.EncodeToString(raw)
	}
	refusal := `{"code":"40003","msg":"m","subCode":"isv.invalid-auth-relations","subMsg":"s"}`
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	signedText := func(response string) string { return handedText(response, platformKey) }
	for name, data := range map[string]string{
		"nothing":                         "",
		"no JSON":                         "encryptedData",
		"null":                            "null",
		"text":                            `"` + text + `"`,
		"a list":                          "[" + good + "]",
		"empty":                           "{}",
		"two objects":                     good + good,
		"cut":                             good[:len(good)-1],
		"not UTF-8":                       strings.Replace(good, `"charset"`, "\"x\xff\":1,\"charset\"", 1),
		"10 MB":                           strings.Repeat(" ", 10<<20) + good,
		"10 MB of braces":                 strings.Repeat("{", 10<<20),
		"64 KiB and a byte":               strings.Repeat(" ", largestData-len(good)+1) + good,
		"no response":                     strings.Replace(good, "response", "reponse", 1),
		"empty response":                  signedText(`""`),
		"response a number":               signedText("7"),
		"response a list":                 signedText("[]"),
		"response null":                   signedText("null"),
		"response no Unicode":             strings.Replace(good, `"response":"`, `"response":"\ud800`, 1),
		"sign a number":                   fmt.Sprintf(`{"response":%q,"sign":7}`, text),
		"sign no base64":                  fmt.Sprintf(`{"response":%q,"sign":"%%"}`, text),
		"sign of the app":                 handedText(`"`+text+`"`, appKey),
		"sign of another platform":        handedText(`"`+text+`"`, testCertificates().nextKey),
		"sign of another text":            fmt.Sprintf(`{"response":%q,"sign":%q}`, text, signedBy(platformKey, `"x"`)),
		"sign without the quotes":         fmt.Sprintf(`{"response":%q,"sign":%q}`, text, signedBy(platformKey, text)),
		"not signed":                      fmt.Sprintf(`{"response":%q}`, text),
		"sign empty":                      fmt.Sprintf(`{"response":%q,"sign":""}`, text),
		"sign null":                       fmt.Sprintf(`{"response":%q,"sign":null}`, text),
		"first block changed":             strings.Replace(good, text, flip(0), 1),
		"last block changed":              strings.Replace(good, text, flip(63), 1),
		"block left out":                  strings.Replace(good, text, text[:64], 1),
		"SHA-1":                           strings.Replace(good, "RSA2", "RSA", 1),
		"SM2":                             strings.Replace(good, "RSA2", "SM2", 1),
		"no signature by name":            strings.Replace(good, "RSA2", "none", 1),
		"sign_type a number":              strings.Replace(good, `"RSA2"`, "2", 1),
		"other cipher":                    strings.Replace(good, `"AES"`, `"SM4"`, 1),
		"other charset":                   strings.Replace(good, "UTF-8", "GBK", 1),
		"response twice":                  strings.Replace(good, "{", `{"response":"eA==",`, 1),
		"response again at the end":       strings.TrimSuffix(good, "}") + `,"response":"eA=="}`,
		"response escaped":                strings.TrimSuffix(good, "}") + `,"\u0072esponse":"eA=="}`,
		"response in another case":        strings.TrimSuffix(good, "}") + `,"Response":"eA=="}`,
		"response with a long s":          strings.TrimSuffix(good, "}") + `,"reſponse":"eA=="}`,
		"sign in another case":            strings.TrimSuffix(good, "}") + `,"SIGN":"eA=="}`,
		"sign twice":                      strings.TrimSuffix(good, "}") + `,"sign":"eA=="}`,
		"an object beside it":             strings.TrimSuffix(good, "}") + `,"data":{}}`,
		"a list beside it":                strings.TrimSuffix(good, "}") + `,"data":[]}`,
		"deep":                            strings.TrimSuffix(good, "}") + `,"data":` + deep + "}",
		"in another object":               `{"encryptedData":` + good + "}",
		"plain, not signed":               `{"response":` + goodPhone + "}",
		"plain, signed by the app":        handedText(goodPhone, appKey),
		"plain, signed":                   signedText(goodPhone),
		"plain as text, signed":           signedText(`"{}"`),
		"plain, signed, deep":             signedText(deep),
		"plain refusal, not signed":       `{"response":` + refusal + "}",
		"plain refusal, signed by others": handedText(refusal, appKey),
		"plain refusal, changed":          strings.Replace(signedText(refusal), "40003", "40004", 1),
		"plain refusal, not flat":         signedText(strings.Replace(refusal, "{", `{"a":[],`, 1)),
		"plain refusal, code twice":       signedText(strings.Replace(refusal, "{", `{"code":"40003",`, 1)),
		"plain refusal, code of no form":  signedText(`{"code":{"a":1}}`),
	} {
		got, err := p.OpenSigned(t.Context(), []byte(data))
		if !errors.Is(err, provider.ErrData) || got.Plain != nil || got.Signed != nil {
			t.Errorf("%s: got %s %v", name, got.Plain, err)
		}
		if err != nil && (strings.Contains(err.Error(), "13800138000") || strings.Contains(err.Error(), text) || len(err.Error()) > 256) {
			t.Errorf("%s: the error shows the data: %v", name, err)
		}
	}
}

// What is signed and cannot be opened is the platform's, with another key than
// aes_key. The operator has to see that, and the client nothing.
func TestSignedDataThatDoesNotOpen(t *testing.T) {
	p := opener(t)
	block := func(text string) []byte { return []byte(text + strings.Repeat(" ", 16-len(text)%16)) }
	for name, text := range map[string]string{
		"another app's key":  encrypt("EBESExQVFhcYGRobHB0eHw==", []byte(goodPhone), nil),
		"padding of zero":    encrypt(testAESKey, block(goodPhone), bytes.Repeat([]byte{0}, 16)),
		"padding of 17":      encrypt(testAESKey, block(goodPhone), bytes.Repeat([]byte{17}, 32)),
		"padding unequal":    encrypt(testAESKey, block(goodPhone), append([]byte{16, 16, 16, 15}, bytes.Repeat([]byte{16}, 12)...)),
		"padding only":       encrypt(testAESKey, nil, nil),
		"no padding":         encrypt(testAESKey, []byte(`{"code":"10000"}`), []byte{}),
		"no JSON":            encrypt(testAESKey, []byte("13800138000"), nil),
		"broken JSON":        encrypt(testAESKey, []byte(goodPhone[:20]), nil),
		"two objects":        encrypt(testAESKey, []byte(goodPhone+goodPhone), nil),
		"a list":             encrypt(testAESKey, []byte("["+goodPhone+"]"), nil),
		"text":               encrypt(testAESKey, []byte(`"13800138000"`), nil),
		"deep JSON":          encrypt(testAESKey, []byte(`{"a":`+strings.Repeat("[", 10000)+strings.Repeat("]", 10000)+"}"), nil),
		"name twice":         encrypt(testAESKey, []byte(`{"code":"10000","mobile":"13800138000","mobile":"13900139000"}`), nil),
		"name in other case": encrypt(testAESKey, []byte(`{"code":"10000","mobile":"13800138000","Mobile":"13900139000"}`), nil),
		"not UTF-8":          encrypt(testAESKey, []byte("{\"code\":\"10000\",\"msg\":\"\xff\"}"), nil),
		"byte order mark":    encrypt(testAESKey, []byte("\xef\xbb\xbf"+goodPhone), nil),
		"not whole blocks":   base64.StdEncoding.EncodeToString(make([]byte, 17)),
		"no base64":          "%%%%",
		"no padding of it":   strings.TrimRight(encrypt(testAESKey, []byte(goodPhone), nil), "="),
		"base64 for URLs":    "__--",
	} {
		got, err := p.OpenSigned(t.Context(), []byte(handedText(`"`+text+`"`, platformKey)))
		if !errors.Is(err, provider.ErrData) || err.Error() != notOurs+"it is signed, but aes_key does not open it" || got.Plain != nil {
			t.Errorf("%s: got %s %v", name, got.Plain, err)
		}
	}
}

// Without the key nothing can be opened, and whose fault that is only what is
// signed can say.
func TestSignedDataWithoutKey(t *testing.T) {
	p := newProvider(t, nil)
	_, err := p.OpenSigned(t.Context(), []byte(handed(goodPhone)))
	if e := errorOf(t, err); e.Reason != provider.Misconfigured || err.Error() != "misconfigured: opening a telephone number: aes_key is missing" {
		t.Errorf("got %v", err)
	}
	if _, err := p.OpenSigned(t.Context(), []byte(vectors["P4"]["res_response"])); !errors.Is(err, provider.ErrData) {
		t.Errorf("got %v", err)
	}
	_, err = p.OpenSigned(t.Context(), []byte(handedText(`{"code":"40001","subCode":"isv.missing-encrypt-key"}`, platformKey)))
	if e := errorOf(t, err); e.Reason != provider.Misconfigured || e.PlatformCode != "isv.missing-encrypt-key" {
		t.Errorf("got %v", err)
	}
}

func TestPhoneRefusals(t *testing.T) {
	p := opener(t)
	secret := testAESKey
	node := func(code, subCode, message string) string {
		data, err := json.Marshal(map[string]string{"code": code, "msg": "Insufficient Conditions", "subCode": subCode, "subMsg": message})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for _, test := range []struct {
		node, code, message string
		want                provider.Reason
	}{
		{node("40003", "isv.invalid-auth-relations", "无效的授权关系"), "isv.invalid-auth-relations", "无效的授权关系", provider.ConsentMissing},
		{node("40003", "invalid-auth-relations", ""), "invalid-auth-relations", "Insufficient Conditions", provider.ConsentMissing},
		{node("40001", "isv.missing-encrypt-key", "a"), "isv.missing-encrypt-key", "a", provider.Misconfigured},
		{node("40001", "isv.missing-default-signature-type", "a"), "isv.missing-default-signature-type", "a", provider.Misconfigured},
		{node("40002", "isv.invalid-encrypt", "key "+secret), "isv.invalid-encrypt", "key [redacted]", provider.Misconfigured},
		{node("40006", "isv.insufficient-isv-permissions", "a"), "isv.insufficient-isv-permissions", "a", provider.Misconfigured},
		{node("20000", "aop.unknow-error", "a"), "aop.unknow-error", "a", provider.Unavailable},
		{node("20000", "", "a"), "20000", "a", provider.Unavailable},
		{`{"code":20000}`, "20000", "", provider.Unavailable},
		{node("40004", "isv.new-in-2030", "a\r\n\x1b[31m"), "isv.new-in-2030", "a[31m", provider.PlatformFault},
		{node("40002", "isv.code-invalid", "a"), "isv.code-invalid", "a", provider.PlatformFault}, // there is no code
		{node("10000", "isv.invalid-auth-relations", "a"), "isv.invalid-auth-relations", "a", provider.ConsentMissing},
		{`{"code":"40004","mobile":"13800138000"}`, "40004", "", provider.PlatformFault},
		{`{"mobile":"13800138000"}`, "", "", provider.PlatformFault},
		{`{"Code":"10000","mobile":"13800138000"}`, "", "", provider.PlatformFault},
		{`{}`, "", "", provider.PlatformFault},
	} {
		for _, data := range []string{handed(test.node), handedText(test.node, platformKey)} {
			got, err := p.OpenSigned(t.Context(), []byte(data))
			e := errorOf(t, err)
			if e.Reason != test.want || e.PlatformCode != test.code || e.PlatformMessage != test.message || got.Plain != nil || errors.Is(err, provider.ErrData) {
				t.Errorf("%s: got %s %v", test.node, got.Plain, err)
			}
			if strings.Contains(err.Error(), "13800138000") || len(err.Error()) < len("platform fault: x") {
				t.Errorf("%s: the error is %v", test.node, err)
			}
		}
	}
}

// What nobody signed is shown only if it can be a code.
func TestUnsignedRefusals(t *testing.T) {
	const unsigned = notOurs + "it is not signed; does the console have the app's public key, the AES key and the app gateway?"
	p := opener(t)
	for response, want := range map[string]string{
		`{"code":"40003","subCode":"isv.invalid-auth-relations"}`: "; it says isv.invalid-auth-relations",
		`{"code":"40001"}`:                              "; it says 40001",
		`{"code":40001,"subCode":""}`:                   "; it says 40001",
		`{"subCode":"a\nb","code":"40001"}`:             "; it says 40001",
		`{"subCode":"13800138000 is here"}`:             "",
		`{"subCode":"` + strings.Repeat("x", 65) + `"}`: "",
		`{"subCode":7,"mobile":"13800138000"}`:          "; it says 7",
		`{"subCode":true}`:                              "",
		`{}`:                                            "",
		`"` + encrypt(testAESKey, []byte(`{"subCode":"isv.made-up"}`), nil) + `"`: "", // never decrypted
	} {
		_, err := p.OpenSigned(t.Context(), []byte(`{"response":`+response+"}"))
		if !errors.Is(err, provider.ErrData) || err.Error() != unsigned+want {
			t.Errorf("%s: got %v", response, err)
		}
	}
}
