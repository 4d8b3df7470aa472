// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/simulator"
)

// withAlipayData is withAlipay with the key that opens telephone numbers.
var withAlipayData = strings.TrimSuffix(withAlipay, "}") + "aes_key " + simulator.DemoAlipayAESKey + "\n}"

// Open data as the platform's client interfaces hand it out.
const (
	userInfoData = `{"nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong","country":"CN","avatarUrl":"https://wx.qlogo.cn/mmopen/vi_32/aSKcBBPpibyKNicHNTMM0qJVh8Kjgiak2AHWr8MHM4WgMEm7GFhsf8OYrySdbvAMvTsw3mo8ibKicsnfN5pRjl1p8HQ/0"}`
	phoneData    = `{"phoneNumber":"13580006666","purePhoneNumber":"13580006666","countryCode":"86"}`
	stepsData    = `{"stepInfoList":[{"timestamp":1445866601,"step":100},{"timestamp":1445876601,"step":120}]}`
	groupData    = `{"openGId":"GRABCDEFGHIJKLMNOPQRSTUVWXYZ"}`
)

// object is a JSON object whose members are texts, names and values in turn.
func object(pairs ...string) string {
	members := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		members[pairs[i]] = pairs[i+1]
	}
	text, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// encrypt returns what the platform's client hands out to a mini-program.
func (g *gateway) encrypt(e simulator.Encryption) simulator.Encrypted {
	g.t.Helper()
	result, err := g.platform.Encrypt(e)
	if err != nil {
		g.t.Fatal(err)
	}
	return result
}

// handed is encrypt for data as it usually comes.
func (g *gateway) handed(program, user, data string) simulator.Encrypted {
	g.t.Helper()
	return g.encrypt(simulator.Encryption{Program: program, User: user, Data: json.RawMessage(data)})
}

// dataBody is the body of a request with encrypted data.
func dataBody(e simulator.Encrypted) string {
	return object("encryptedData", e.EncryptedData, "iv", e.IV)
}

// sessionKey returns a user's session key in force.
func (g *gateway) sessionKey(program, user string) string {
	g.t.Helper()
	key, err := g.platform.SessionKey(program, user)
	if err != nil {
		g.t.Fatal(err)
	}
	return key
}

// sealCBC encrypts any text at all under a session key, as whoever has the key
// could. The padding is PKCS #7 unless another one is given.
func sealCBC(t *testing.T, sessionKey, plain string, padding ...byte) simulator.Encrypted {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(sessionKey)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	if padding == nil {
		n := aes.BlockSize - len(plain)%aes.BlockSize
		padding = bytes.Repeat([]byte{byte(n)}, n)
	}
	text := append([]byte(plain), padding...)
	iv := []byte("sixteen bytes iv")
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(text, text)
	return simulator.Encrypted{EncryptedData: base64.StdEncoding.EncodeToString(text), IV: base64.StdEncoding.EncodeToString(iv)}
}

// watermarked is a JSON object with these members and a watermark of programA.
func watermarked(members string, at time.Time) string {
	return fmt.Sprintf(`{%s,"watermark":{"timestamp":%d,"appid":%q}}`, members, at.Unix(), programA)
}

var requestIDs = regexp.MustCompile(`"request_id":"[^"]*"`)

// withoutID is the body of an answer without the one thing that may differ
// between two answers of the same kind.
func (a answer) withoutID() string { return requestIDs.ReplaceAllString(a.body, "") }

// What the platform hands out arrives as it was: of every kind, under the names
// of both spellings, encrypted or in plain with a signature; and is not kept.
func TestDecrypt(t *testing.T) {
	g := start(t, setup{options: withAlipayData})
	token := g.login(programA, "alice")
	for name, data := range map[string]string{"user information": userInfoData, "phone": phoneData, "steps": stepsData, "group": groupData} {
		t.Run(name, func(t *testing.T) {
			e := g.encrypt(simulator.Encryption{Program: programA, User: "alice", Data: json.RawMessage(data), UserInfo: true, WithOpenID: true})
			members := strings.TrimSuffix(data, "}")
			for form, test := range map[string]struct{ body, want string }{
				"as in wx":       {object("encryptedData", e.EncryptedData, "iv", e.IV), members + `,"openId":"` + g.openID(programA, "alice") + `"`},
				"as in Go":       {object("encrypted_data", e.EncryptedData, "iv", e.IV), members + `,"openId":"`},
				"signed":         {object("rawData", e.RawData, "signature", e.Signature), members + "}"},
				"signed, snake":  {object("raw_data", e.RawData, "signature", e.Signature), members + "}"},
				"all that is":    {object("rawData", e.RawData, "signature", e.Signature, "encryptedData", e.EncryptedData, "iv", e.IV), members + `,"openId":"`},
				"both spellings": {object("encryptedData", e.EncryptedData, "encrypted_data", e.EncryptedData, "iv", e.IV), members + `,"openId":"`},
				"plus to space":  {strings.ReplaceAll(dataBody(e), "+", " "), members + `,"openId":"`},
			} {
				a := g.post("/miniprogram/decrypt", test.body, bearer(token))
				if a.status != http.StatusOK || !strings.HasPrefix(a.body, `{"data":`+test.want) || a.header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s: %d %v %s", form, a.status, a.header, a.body)
				}
			}
		})
	}
	if p := g.profile(token); p.Version != 0 {
		t.Errorf("the data was kept: %+v", p)
	}

	alipay := g.login(programC, "alice")
	response, err := g.platform.SharePhone(simulator.Phone{Program: programC, User: "alice", Number: "13580006666"})
	if err != nil {
		t.Fatal(err)
	}
	a := g.post("/miniprogram/decrypt", response, bearer(alipay))
	if a.status != http.StatusOK || a.body != `{"data":{"code":"10000","msg":"Success","mobile":"13580006666"}}` {
		t.Errorf("Alipay: %d %s", a.status, a.body)
	}
	g.post("/miniprogram/decrypt", dataBody(g.handed(programA, "alice", phoneData)), bearer(alipay)).expect(t, 400, "invalid_request")
	g.post("/miniprogram/decrypt", response, bearer(token)).expect(t, 400, "invalid_request")
}

// A plus sign that a form made a space is the commonest accident on the way of
// base64: here in data and iv for sure.
func TestDecryptPlusAsSpace(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	for range 10_000 {
		e := g.handed(programA, "alice", phoneData)
		if !strings.Contains(e.EncryptedData, "+") || !strings.Contains(e.IV, "+") {
			continue
		}
		body := strings.ReplaceAll(dataBody(e), "+", " ")
		if a := g.post("/miniprogram/decrypt", body, bearer(token)); a.status != http.StatusOK || !strings.Contains(a.body, "13580006666") {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
		return
	}
	t.Error("the simulator makes no plus signs")
}

// The list of what can be wrong with data: everything that depends on a
// secret is one answer, to the byte; what anybody can see for himself has its
// own word.
func TestDecryptRefuses(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	g.login(programA, "bob")
	g.login(programB, "alice")
	key := g.sessionKey(programA, "alice")
	good := g.handed(programA, "alice", phoneData)
	cut := func(bytes int) string {
		return object("encryptedData", base64.StdEncoding.EncodeToString(make([]byte, bytes)), "iv", good.IV)
	}
	sealed := func(plain string, padding ...byte) string { return dataBody(sealCBC(t, key, plain, padding...)) }
	marked := func(mark simulator.Watermark) string {
		return dataBody(g.encrypt(simulator.Encryption{Program: programA, User: "alice", Data: json.RawMessage(phoneData), Watermark: mark}))
	}
	now := time.Now()
	base := watermarked(`"a":1`, now)
	whole := watermarked(`"a":"`+strings.Repeat("x", aes.BlockSize-len(watermarked(`"a":""`, now))%aes.BlockSize)+`"`, now)
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	userInfo := g.encrypt(simulator.Encryption{Program: programA, User: "alice", Data: json.RawMessage(userInfoData), UserInfo: true})
	ofBob := g.encrypt(simulator.Encryption{Program: programA, User: "bob", Data: json.RawMessage(userInfoData), UserInfo: true})
	if a := g.post("/miniprogram/decrypt", sealed(base), bearer(token)); a.status != http.StatusOK {
		t.Fatalf("what is sealed here is not accepted at all: %d %s", a.status, a.body)
	}
	refusals, failed := make(map[string]bool), 0
	for name, test := range map[string]struct {
		body   string
		status int
		word   string
	}{
		"15 bytes":                {cut(15), 422, "data_invalid"},
		"17 bytes":                {cut(17), 422, "data_invalid"},
		"16 zeros":                {cut(16), 422, "data_invalid"},
		"not base64":              {object("encryptedData", "%%%%", "iv", good.IV), 422, "data_invalid"},
		"base64 for URLs":         {object("encryptedData", "__--__--__--__--__--_w==", "iv", good.IV), 422, "data_invalid"},
		"line breaks":             {object("encryptedData", good.EncryptedData[:64]+"\r\n"+good.EncryptedData[64:], "iv", good.IV), 422, "data_invalid"},
		"iv of 15 bytes":          {object("encryptedData", good.EncryptedData, "iv", base64.StdEncoding.EncodeToString(make([]byte, 15))), 422, "data_invalid"},
		"iv of 17 bytes":          {object("encryptedData", good.EncryptedData, "iv", base64.StdEncoding.EncodeToString(make([]byte, 17))), 422, "data_invalid"},
		"another iv":              {object("encryptedData", good.EncryptedData, "iv", base64.StdEncoding.EncodeToString(make([]byte, 16))), 422, "data_invalid"},
		"another user's":          {dataBody(g.handed(programA, "bob", phoneData)), 422, "data_invalid"},
		"another program's":       {dataBody(g.handed(programB, "alice", phoneData)), 422, "data_invalid"},
		"watermark of another":    {marked(simulator.Watermark{AppID: programB}), 422, "data_invalid"},
		"watermark a day old":     {marked(simulator.Watermark{Timestamp: now.Add(-24 * time.Hour).Unix()}), 422, "data_invalid"},
		"watermark of an hour":    {marked(simulator.Watermark{Timestamp: now.Add(time.Hour).Unix()}), 422, "data_invalid"},
		"no watermark":            {marked(simulator.Watermark{Omit: true}), 422, "data_invalid"},
		"two watermarks":          {sealed(watermarked(`"watermark":{}`, now)), 422, "data_invalid"},
		"watermark in capitals":   {sealed(strings.Replace(base, "watermark", "Watermark", 1)), 422, "data_invalid"},
		"another user's openId":   {sealed(watermarked(`"openId":"`+g.openID(programA, "bob")+`"`, now)), 422, "data_invalid"},
		"openId a number":         {sealed(watermarked(`"openId":7`, now)), 422, "data_invalid"},
		"deep":                    {sealed(watermarked(`"a":`+deep, now)), 422, "data_invalid"},
		"trailing garbage":        {sealed(base + "x"), 422, "data_invalid"},
		"two objects":             {sealed(base + "{}"), 422, "data_invalid"},
		"trailing NUL":            {sealed(base + "\x00"), 422, "data_invalid"},
		"a list":                  {sealed("[" + watermarked(`"a":1`, now) + "]"), 422, "data_invalid"},
		"not Unicode":             {sealed(watermarked("\"a\":\"\xff\"", now)), 422, "data_invalid"},
		"padding of 0":            {sealed(base, bytes.Repeat([]byte{0}, aes.BlockSize-len(base)%aes.BlockSize)...), 422, "data_invalid"},
		"no padding":              {dataBody(sealCBC(t, key, whole, []byte{}...)), 422, "data_invalid"},
		"padding only":            {sealed(""), 422, "data_invalid"},
		"wrong signature":         {object("rawData", userInfo.RawData, "signature", strings.Repeat("0", 40)), 422, "data_invalid"},
		"signature of another":    {object("rawData", ofBob.RawData, "signature", ofBob.Signature), 422, "data_invalid"},
		"raw data changed":        {object("rawData", strings.Replace(userInfo.RawData, "Band", "Bond", 1), "signature", userInfo.Signature), 422, "data_invalid"},
		"signature in capitals":   {object("rawData", userInfo.RawData, "signature", strings.ToUpper(userInfo.Signature)), 422, "data_invalid"},
		"one of two is bad":       {object("rawData", userInfo.RawData, "signature", ofBob.Signature[1:]+"0", "encryptedData", good.EncryptedData, "iv", good.IV), 422, "data_invalid"},
		"the other of two is bad": {object("rawData", userInfo.RawData, "signature", userInfo.Signature, "encryptedData", good.EncryptedData, "iv", "AAAA"), 422, "data_invalid"},

		"0 bytes":            {cut(0), 400, "invalid_request"},
		"no iv":              {object("encryptedData", good.EncryptedData), 400, "invalid_request"},
		"no signature":       {object("rawData", userInfo.RawData), 400, "invalid_request"},
		"nothing":            {"{}", 400, "invalid_request"},
		"data a number":      {`{"encryptedData":7,"iv":"x"}`, 400, "invalid_request"},
		"name twice":         {`{"iv":"x",` + dataBody(good)[1:], 400, "invalid_request"},
		"spellings disagree": {object("encryptedData", good.EncryptedData, "encrypted_data", "x", "iv", good.IV), 400, "invalid_request"},
		"deep body":          {`{"x":` + deep + "," + dataBody(good)[1:], 400, "invalid_request"},
		"rest":               {dataBody(good) + "x", 400, "invalid_request"},
		"10 MB":              {cut(10 << 20), 413, "request_too_large"},
	} {
		if test.status == 422 {
			if failed++; failed%(refusalsAllowed-1) == 0 { // another process counts anew
				g.stop()
				g.run()
			}
		}
		t.Run(name, func(t *testing.T) {
			a := g.large("/miniprogram/decrypt", "application/json", test.body, token)
			a.expect(t, test.status, test.word)
			checkErrorForm(t, a)
			if test.status == 422 {
				refusals[a.withoutID()] = true
			}
		})
	}
	if len(refusals) != 1 {
		t.Errorf("there are %d kinds of refusals: %v", len(refusals), refusals)
	}
	g.post("/miniprogram/decrypt", dataBody(good)).expect(t, 401, "session_missing")
	g.do(http.MethodPost, "/miniprogram/decrypt", dataBody(good), "Content-Type: text/plain", bearer(token)).expect(t, 415, "unsupported_media_type")
	if a := g.post("/miniprogram/decrypt", dataBody(good), bearer(token)); a.status != http.StatusOK {
		t.Errorf("afterwards: %d %s", a.status, a.body)
	}
}
