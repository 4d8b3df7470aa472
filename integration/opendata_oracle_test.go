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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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
	before := time.Now().Unix()
	want, accepted, next := "", 0, 0
	for n, more := 0, true; more; n++ { // each user may fail a few times only
		user := fmt.Sprint("user-", n)
		token := g.login(programA, user)
		e := g.encrypt(simulator.Encryption{Program: programA, User: user, Data: json.RawMessage(userInfoData), WithOpenID: true})
		iv, ivErr := base64.StdEncoding.DecodeString(e.IV)
		text, textErr := base64.StdEncoding.DecodeString(e.EncryptedData)
		if ivErr != nil || textErr != nil {
			t.Fatal(ivErr, textErr)
		}
		post := func(iv, text []byte) answer {
			return g.post("/miniprogram/decrypt", object("encryptedData", base64.StdEncoding.EncodeToString(text), "iv", base64.StdEncoding.EncodeToString(iv)), bearer(token))
		}
		if original := post(iv, text); original.status != http.StatusOK {
			t.Fatalf("the original: %d %s", original.status, original.body)
		}
		if want == "" {
			want = post(make([]byte, 16), make([]byte, 64)).withoutID()
		}
		all := mutations(iv, text)
		batch := all[next:min(next+refusalsAllowed-1, len(all))]
		next += len(batch)
		more = next < len(all)
		for _, m := range batch {
			a := post(m.iv, m.text)
			if a.status == http.StatusUnprocessableEntity && a.withoutID() == want {
				continue
			}
			var body openedBody
			mark := &body.Data.Watermark
			switch err := json.Unmarshal([]byte(a.body), &body); {
			case a.status != http.StatusOK || !m.inIV:
				t.Errorf("%s: %d %s", m.name, a.status, a.body)
			case err != nil || mark.AppID != programA || mark.Timestamp < before || body.Data.OpenID != g.openID(programA, user) || body.Data.City != "Guangzhou":
				t.Errorf("%s: the result has more than the first block changed: %s", m.name, a.body)
			default:
				accepted++
			}
		}
	}
	t.Logf("%d mutations", next)
	if accepted == 0 {
		t.Error("no change of the first block went through: the test does not reach what it is about")
	}
}

// refusalsAllowed is how often a user may hand over data that is refused, before
// nothing of his is tried for a while.
const refusalsAllowed = 20

// The attack itself: the last byte of a block is found by 256 guesses at the one
// that makes its padding right. All guesses look the same; and after a few of
// them nobody tries any more, whatever it is. (Without that, a million guesses
// at texts that are read or not read make a phone number of one's choice.)
func TestPaddingOracleAttack(t *testing.T) {
	g := start(t, setup{directive: "decrypt {\npath /api/phone\n}"})
	token := g.login(programA, "mallory")
	good := dataBody(g.handed(programA, "mallory", phoneData))
	e := sealCBC(t, g.sessionKey(programA, "mallory"), watermarked(`"phoneNumber":"13580006666"`, time.Now()))
	text, err := base64.StdEncoding.DecodeString(e.EncryptedData)
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[string]int)
	for guess := range 100 {
		forged := append([]byte("fifteen bytes .."), text[16:32]...)
		forged[15] = byte(guess)
		path := []string{"/miniprogram/decrypt", "/miniprogram/phone", "/api/phone"}[guess%3]
		a := g.post(path, object("encryptedData", base64.StdEncoding.EncodeToString(forged), "iv", e.IV), bearer(token))
		if kinds[fmt.Sprint(a.status, a.header.Get("Content-Length"), a.withoutID())]++; guess >= refusalsAllowed {
			a.expect(t, http.StatusTooManyRequests, "rate_limited")
		}
	}
	if len(kinds) != 2 {
		t.Errorf("answers differ: %v", kinds)
	}
	a := g.post("/miniprogram/decrypt", good, bearer(token))
	a.expect(t, http.StatusTooManyRequests, "rate_limited")
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 600 {
		t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
	}
	again := g.login(programA, "mallory") // is no way out
	g.post("/miniprogram/decrypt", good, bearer(again)).expect(t, http.StatusTooManyRequests, "rate_limited")
	alice := g.login(programA, "alice")
	if a := g.post("/api/phone", dataBody(g.handed(programA, "alice", phoneData)), bearer(alice)); a.status != http.StatusOK {
		t.Errorf("another user: %d %s", a.status, a.body)
	}
}

// What is wrong inside of data that is encrypted rightly is no other answer than
// that it is encrypted wrongly; nor does the log tell whoever can read it more.
func TestRefusalsOfSealedTexts(t *testing.T) {
	g := start(t, setup{})
	now := time.Now()
	good := watermarked(`"a":"b"`, now)
	want, token, key := "", "", ""
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 200 {
		if i%(refusalsAllowed-1) == 0 {
			user := fmt.Sprint("user-", i)
			token = g.login(programA, user)
			key = g.sessionKey(programA, user)
		}
		if want == "" {
			want = g.post("/miniprogram/decrypt", dataBody(sealCBC(t, key, "x")), bearer(token)).withoutID()
		}
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

// Whoever sends his guesses all at once has no more of them.
func TestGuessesAtOnceAreCounted(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "mallory")
	var refused, limited atomic.Int64
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			switch a := g.post("/miniprogram/decrypt", object("encryptedData", "AAAAAAAAAAAAAAAAAAAAAA==", "iv", "AAAAAAAAAAAAAAAAAAAAAA=="), bearer(token)); a.word() {
			case "data_invalid":
				refused.Add(1)
			case "rate_limited":
				limited.Add(1)
			default:
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	all.Wait()
	if refused.Load() != refusalsAllowed || limited.Load() != 200-refusalsAllowed {
		t.Errorf("%d were tried, %d not", refused.Load(), limited.Load())
	}
}
