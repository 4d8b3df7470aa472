// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/module/provider"
)

// The platform's own example, found in its documentation and in every SDK.
const (
	officialAppID = "wx4f4bc4dec97d474b"
	officialKey   = "tiihtNczf5v6AKRyjwEUhQ=="
	officialIV    = "r7BXXKkLb8qrSNn05n0qiA=="
	officialData  = "CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+3hVbJSRgv+4lGOETKUQz6OYStslQ142dNCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6/1Xx1COxFvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn/Hz7saL8xz+W//FRAUid1OksQaQx4CMs8LOddcQhULW4ucetDf96JcR3g0gfRK4PC7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns/8wR2SiRS7MNACwTyrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYVoKlaRv85IfVunYzO0IKXsyl7JCUjCpoG20f0a04COwfneQAGGwd5oa+T8yO5hzuyDb/XcxxmK01EpqOyuxINew=="
	officialPlain = `{"openId":"oGZUI0egBJY1zhBYw2KhdUfwVJJE","nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong","country":"CN","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/aSKcBBPpibyKNicHNTMM0qJVh8Kjgiak2AHWr8MHM4WgMEm7GFhsf8OYrySdbvAMvTsw3mo8ibKicsnfN5pRjl1p8HQ/0","unionId":"ocMvos6NjeKLIBqg5Mr9QjxrP1FA","watermark":{"timestamp":1477314187,"appid":"wx4f4bc4dec97d474b"}}`
)

var officialTime = time.Unix(1477314187, 0)

func TestDecryptOfficialVector(t *testing.T) {
	plain, err := decrypt(officialAppID, officialKey, officialData, officialIV, officialTime)
	if err != nil || string(plain) != officialPlain {
		t.Errorf("%v\n%s", err, plain)
	}
	plain, err = decrypt(officialAppID, officialKey, strings.ReplaceAll(officialData, "+", " "), officialIV, officialTime)
	if err != nil || string(plain) != officialPlain {
		t.Errorf("with + turned into a space: %v\n%s", err, plain)
	}
}

// encrypt is the platform's side, for what it never makes.
func encrypt(t *testing.T, plain string, pad []byte) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(officialKey)
	if err != nil {
		t.Fatal(err)
	}
	iv, err := base64.StdEncoding.DecodeString(officialIV)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append([]byte(plain), pad...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(text, text)
	return base64.StdEncoding.EncodeToString(text)
}

// padding is the right padding of plain.
func padding(plain string) []byte {
	n := aes.BlockSize - len(plain)%aes.BlockSize
	return []byte(strings.Repeat(string(rune(n)), n))
}

// A wrong key, a changed byte, the data of another program or of yesterday:
// lenient decrypters take some of these for text (WxJava#359, easywechat#1312).
func TestDecryptRefuses(t *testing.T) {
	marked := func(appID string, at int64) string {
		return fmt.Sprintf(`{"a":1,"watermark":{"appid":%q,"timestamp":%d}}`, appID, at)
	}
	now := officialTime.Unix()
	good := marked(officialAppID, now)
	wrongPad := padding(good)
	wrongPad[0]++
	for name, test := range map[string]struct{ key, data, iv string }{
		// decrypts to garbage whose last byte is 40, which a lenient one cuts off
		"known negative": {
			"7MG7jbTToVVRWRXVA885rg==",
			"BY6VOgcWbwGcyrunK0ECWI8rnDsT69DucZ+M78tc1aL9aM/3bEAHFYd4fu7kRjWhD4YfjObw44T9vUqKyHIjbKs6hvtEasZZEIW35x4a91xVgN48ZqZ7MTQqUlP13kDUlkuwYh+/8g8yceu4kNbjowYrhihx+SV7CfjKCveJ7TSepr5Z7aLv1o+rfeelfOwn++WN/YoQsuZ6S3L4fWlWe5DAAUnFUI6cJvxxCohVzbrVXhyH2AqQdSjH2WnMYFeaGFIbcoxMznlk7oEwFn+hBj63dyT/swdYQfEdzuyCBmKXy8d6l1RKVX6Y65coTD8kIlbr+FKsqYrXVUIUBSwehqYuOdhYWZ9Bntl5DWU1oqzAPCnMn2cAIoQpQPKP7IGSxMOvCNAMhVXbE7BvnWuVuGF+AM5tXAa9IVUhcMImGwLQqm4iV5uBd+5OcFObh3A4VJk9iBCBWSkBHa/rV9CVoY0bFv2F9/2Hv82++Ybl274=",
			"TarMFjnzHVxy8pdS93wQbw==",
		},
		"another key":       {"tiihtNczf5v6AKRyjwEUhA==", officialData, officialIV},
		"short key":         {"tiihtNczf5v6AKRyjwEU", officialData, officialIV},
		"no key":            {"", officialData, officialIV},
		"short iv":          {officialKey, officialData, base64.StdEncoding.EncodeToString(make([]byte, 15))},
		"no iv":             {officialKey, officialData, ""},
		"no data":           {officialKey, "", officialIV},
		"15 bytes":          {officialKey, base64.StdEncoding.EncodeToString(make([]byte, 15)), officialIV},
		"17 bytes":          {officialKey, base64.StdEncoding.EncodeToString(make([]byte, 17)), officialIV},
		"10 MB":             {officialKey, base64.StdEncoding.EncodeToString(make([]byte, 10<<20)), officialIV},
		"no base64":         {officialKey, "{" + officialData[1:], officialIV},
		"cut":               {officialKey, officialData[:len(officialData)-4], officialIV},
		"another program":   {officialKey, encrypt(t, marked("wx0000000000000000", now), padding(marked("wx0000000000000000", now))), officialIV},
		"a day old":         {officialKey, encrypt(t, marked(officialAppID, now-86400), padding(marked(officialAppID, now-86400))), officialIV},
		"from the future":   {officialKey, encrypt(t, marked(officialAppID, now+86400), padding(marked(officialAppID, now+86400))), officialIV},
		"no watermark":      {officialKey, encrypt(t, `{"a":1}`, padding(`{"a":1}`)), officialIV},
		"no object":         {officialKey, encrypt(t, `[]`, padding(`[]`)), officialIV},
		"no json":           {officialKey, encrypt(t, "{text", padding("{text")), officialIV},
		"only padding":      {officialKey, encrypt(t, "", padding("")), officialIV},
		"padding unequal":   {officialKey, encrypt(t, good, wrongPad), officialIV},
		"padding of zero":   {officialKey, encrypt(t, good+strings.Repeat(" ", aes.BlockSize-1-len(good)%aes.BlockSize), []byte{0}), officialIV},
		"padding too large": {officialKey, encrypt(t, good, []byte(strings.Repeat("\x20", 32-len(good)%aes.BlockSize))), officialIV},
	} {
		t.Run(name, func(t *testing.T) {
			plain, err := decrypt(officialAppID, test.key, test.data, test.iv, officialTime)
			if !errors.Is(err, provider.ErrData) || err.Error() != provider.ErrData.Error() || plain != nil {
				t.Errorf("%q, %v", plain, err)
			}
		})
	}
	if plain, err := decrypt(officialAppID, officialKey, encrypt(t, good, padding(good)), officialIV, officialTime); err != nil || string(plain) != good {
		t.Errorf("the good one: %q, %v", plain, err)
	}
}

func TestVerifyOfficialVector(t *testing.T) {
	const (
		key       = "HyVFkGl5F5OQWJZZaNzBBg=="
		raw       = `{"nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong","country":"CN","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/1vZvI39NWFQ9XM4LtQpFrQJ1xlgZxx3w7bQxKARol6503Iuswjjn6nIGBiaycAjAtpujxyzYsrztuuICqIM5ibXQ/0"}`
		signature = "75e81ceda165f4ffa64f4068af58c64b8f54b88c"
	)
	if err := verify(key, raw, signature); err != nil {
		t.Error(err)
	}
	for _, changed := range [][3]string{
		{officialKey, raw, signature},
		{key, raw + " ", signature},
		{key, raw, strings.ToUpper(signature)},
		{key, raw, ""},
		{key, raw, signature[:39]},
	} {
		if err := verify(changed[0], changed[1], changed[2]); !errors.Is(err, provider.ErrData) {
			t.Errorf("%q: %v", changed, err)
		}
	}
}

// Whatever comes as encrypted data, decrypt neither panics nor returns what
// lacks the watermark.
func FuzzDecrypt(f *testing.F) {
	f.Add(officialData, officialIV)
	f.Add("", "")
	f.Add("AAAA", officialIV)
	f.Fuzz(func(t *testing.T, data, iv string) {
		plain, err := decrypt(officialAppID, officialKey, data, iv, officialTime)
		if err == nil && !strings.Contains(string(plain), officialAppID) {
			t.Errorf("%q", plain)
		}
	})
}

func BenchmarkDecrypt(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decrypt(officialAppID, officialKey, officialData, officialIV, officialTime); err != nil {
			b.Fatal(err)
		}
	}
}
