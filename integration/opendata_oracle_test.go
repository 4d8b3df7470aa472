// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"crypto/aes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/simulator"
)

// openedBody is what POST /decrypt answers.
type openedBody struct {
	Data struct {
		NickName  string `json:"nickName"`
		City      string `json:"city"`
		OpenID    string `json:"openId"`
		Watermark struct {
			Timestamp int64  `json:"timestamp"`
			AppID     string `json:"appid"`
		} `json:"watermark"`
	} `json:"data"`
}

// mutation is encrypted data that somebody changed. inIV says that nothing but
// the iv differs.
type mutation struct {
	name     string
	iv, text []byte
	inIV     bool
}

// mutations are changes to encrypted data by one who has no key: each byte of it
// with another bit, cut, doubled, swapped and foreign blocks, random noise.
func mutations(iv, text []byte) []mutation {
	random := rand.New(rand.NewPCG(1, 2))
	var all []mutation
	changed := func(data []byte, i int, mask byte) []byte {
		result := append([]byte{}, data...)
		result[i] ^= mask
		return result
	}
	for i := range iv {
		for range 3 {
			mask := byte(1 + random.IntN(255))
			all = append(all, mutation{fmt.Sprintf("iv byte %d by %02x", i, mask), changed(iv, i, mask), text, true})
		}
	}
	for i := range text {
		mask := byte(1) << random.IntN(8)
		all = append(all, mutation{fmt.Sprintf("byte %d by %02x", i, mask), iv, changed(text, i, mask), false})
	}
	for i := len(text) - 2*aes.BlockSize; i < len(text); i++ {
		mask := byte(1 + random.IntN(255))
		all = append(all, mutation{fmt.Sprintf("byte %d by %02x", i, mask), iv, changed(text, i, mask), false})
	}
	noise := func(n int) []byte {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		return data
	}
	for i := aes.BlockSize; i < len(text); i += aes.BlockSize {
		all = append(all,
			mutation{fmt.Sprintf("cut before %d", i), iv, text[:i], false},
			mutation{fmt.Sprintf("cut up to %d", i), text[i-aes.BlockSize : i], text[i:], false},
			mutation{fmt.Sprintf("%d bytes of noise", i), noise(aes.BlockSize), noise(i), false},
			mutation{fmt.Sprintf("noise before %d", i), iv, append(append(append([]byte{}, text[:i]...), noise(aes.BlockSize)...), text[i:]...), false},
		)
	}
	return append(all,
		mutation{"doubled", iv, append(append([]byte{}, text...), text...), false},
		mutation{"two swapped", iv, append(append(append([]byte{}, text[16:32]...), text[:16]...), text[32:]...), false},
		mutation{"last block doubled", iv, append(append([]byte{}, text...), text[len(text)-16:]...), false},
	)
}

// A client that learns anything of what was wrong can decrypt with the gateway as
// an oracle (Vaudenay, 2002): a bad key, padding, text or watermark are one
// answer, to the byte.
//
// What CBC cannot protect is the first block: whoever changes the iv changes it
// bit by bit. There the platform has the first member's name and the beginning
// of its value. What must hold is that the result is an object with the
// watermark and the openId that the platform put in.
func TestDecryptIsNoOracle(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	before := time.Now().Unix()
	e := g.encrypt(simulator.Encryption{Program: programA, User: "alice", Data: json.RawMessage(userInfoData), WithOpenID: true})
	iv, ivErr := base64.StdEncoding.DecodeString(e.IV)
	text, textErr := base64.StdEncoding.DecodeString(e.EncryptedData)
	if ivErr != nil || textErr != nil {
		t.Fatal(ivErr, textErr)
	}
	post := func(iv, text []byte) answer {
		return g.post("/miniprogram/decrypt", object("encryptedData", base64.StdEncoding.EncodeToString(text), "iv", base64.StdEncoding.EncodeToString(iv)), bearer(token))
	}
	original := post(iv, text)
	want := post(make([]byte, 16), make([]byte, 64))
	if original.status != http.StatusOK || want.status != http.StatusUnprocessableEntity {
		t.Fatalf("the original: %d %s; noise: %d %s", original.status, original.body, want.status, want.body)
	}
	all := mutations(iv, text)
	t.Logf("%d mutations", len(all))
	accepted := 0
	for _, m := range all {
		a := post(m.iv, m.text)
		if a.status == http.StatusUnprocessableEntity && a.withoutID() == want.withoutID() && len(a.body) == len(want.body) {
			continue
		}
		var body openedBody
		mark := &body.Data.Watermark
		switch err := json.Unmarshal([]byte(a.body), &body); {
		case a.status != http.StatusOK || !m.inIV:
			t.Errorf("%s: %d %s", m.name, a.status, a.body)
		case err != nil || mark.AppID != programA || mark.Timestamp < before || body.Data.OpenID != g.openID(programA, "alice") || body.Data.City != "Guangzhou":
			t.Errorf("%s: the result has more than the first block changed: %s", m.name, a.body)
		default:
			accepted++
		}
	}
	if accepted == 0 {
		t.Error("no change of the first block went through: the test does not reach what it is about")
	}
}

// The attack itself: the last byte of a block is found by 256 guesses at the one
// that makes its padding right. All guesses look the same.
func TestPaddingOracleAttack(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	key := g.sessionKey(programA, "alice")
	e := sealCBC(t, key, watermarked(`"phoneNumber":"13580006666"`, time.Now()))
	text, err := base64.StdEncoding.DecodeString(e.EncryptedData)
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range [][]byte{text[16:32], text[len(text)-16:]} {
		kinds := make(map[string]int)
		for guess := range 256 {
			forged := append([]byte("fifteen bytes .."), target...)
			forged[15] = byte(guess)
			a := g.post("/miniprogram/decrypt", object("encryptedData", base64.StdEncoding.EncodeToString(forged), "iv", e.IV), bearer(token))
			kinds[fmt.Sprint(a.status, a.header.Get("Content-Length"), a.withoutID())]++
		}
		if len(kinds) != 1 {
			t.Errorf("answers differ: %v", kinds)
		}
	}
}

// What is wrong inside of data that is encrypted rightly is no other answer than
// that it is encrypted wrongly; nor does the log tell whoever can read it more.
func TestRefusalsOfSealedTexts(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	key, now := g.sessionKey(programA, "alice"), time.Now()
	good := watermarked(`"a":"b"`, now)
	want := g.post("/miniprogram/decrypt", dataBody(sealCBC(t, key, "x")), bearer(token)).withoutID()
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 200 {
		bad := []byte(good)
		switch i % 4 {
		case 0: // not JSON
			bad[random.IntN(len(bad))] = byte(random.IntN(32))
		case 1: // another watermark
			bad = []byte(strings.Replace(good, programA[:2+i%14+1], programB[:2+i%14+1], 1))
		case 2: // cut
			bad = bad[:random.IntN(len(bad)-1)]
		case 3: // another time
			bad = []byte(watermarked(`"a":"b"`, now.Add(time.Duration(i-100)*time.Hour)))
		}
		a := g.post("/miniprogram/decrypt", dataBody(sealCBC(t, key, string(bad))), bearer(token))
		if a.status != http.StatusUnprocessableEntity || a.withoutID() != want {
			t.Errorf("%q: %d %s", bad, a.status, a.body)
		}
	}
}
