// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
)

// openOpenData decrypts what sealOpenData encrypts, and refuses padding that is
// not exactly right.
func openOpenData(sessionKey, iv, data string) ([]byte, error) {
	var parts [3][]byte
	for i, text := range []string{sessionKey, iv, data} {
		part, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, err
		}
		parts[i] = part
	}
	key, start, text := parts[0], parts[1], parts[2]
	if len(start) != aes.BlockSize || len(text) == 0 || len(text)%aes.BlockSize != 0 {
		return nil, errors.New("wrong length")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	cipher.NewCBCDecrypter(block, start).CryptBlocks(text, text)
	padding := int(text[len(text)-1])
	if padding < 1 || padding > aes.BlockSize ||
		!bytes.HasSuffix(text, bytes.Repeat([]byte{byte(padding)}, padding)) {
		return nil, errors.New("wrong padding")
	}
	return text[:len(text)-padding], nil
}

// WeChat's own sample of open data, from its page on signatures and encryption.
const (
	vectorKey   = "tiihtNczf5v6AKRyjwEUhQ=="
	vectorIV    = "r7BXXKkLb8qrSNn05n0qiA=="
	vectorPlain = `{"openId":"oGZUI0egBJY1zhBYw2KhdUfwVJJE","nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong","country":"CN","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/aSKcBBPpibyKNicHNTMM0qJVh8Kjgiak2AHWr8MHM4WgMEm7GFhsf8OYrySdbvAMvTsw3mo8ibKicsnfN5pRjl1p8HQ/0","unionId":"ocMvos6NjeKLIBqg5Mr9QjxrP1FA","watermark":{"timestamp":1477314187,"appid":"wx4f4bc4dec97d474b"}}`
	vectorData  = "CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+3hVbJSRgv+4lGOETKUQz6OYStslQ142dNCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6/1Xx1COxFvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn/Hz7saL8xz+W//FRAUid1OksQaQx4CMs8LOddcQhULW4ucetDf96JcR3g0gfRK4PC7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns/8wR2SiRS7MNACwTyrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYVoKlaRv85IfVunYzO0IKXsyl7JCUjCpoG20f0a04COwfneQAGGwd5oa+T8yO5hzuyDb/XcxxmK01EpqOyuxINew=="
)

// What the simulator encrypts is, byte for byte, what WeChat encrypts.
func TestOpenDataVector(t *testing.T) {
	sealed, err := sealOpenData(vectorKey, vectorIV, []byte(vectorPlain))
	if err != nil || sealed != vectorData {
		t.Errorf("encrypted data is %q, error %v", sealed, err)
	}
	plain, err := openOpenData(vectorKey, vectorIV, vectorData)
	if err != nil || string(plain) != vectorPlain {
		t.Errorf("decrypted data is %q, error %v", plain, err)
	}
	if padding := 400 - len(vectorPlain); padding != 7 {
		t.Errorf("padding is %d", padding)
	}
}

// The watermark is put where WeChat puts it, so that the whole sample can be
// made through the front door.
func TestOpenDataIsComposedLikeVector(t *testing.T) {
	s, _ := newTest(t)
	data, _, found := strings.Cut(vectorPlain, `,"watermark"`)
	if !found {
		t.Fatal("the sample has no watermark")
	}
	composed := s.programs[testApp].(*weChat).openData(Encryption{
		Program:   testApp,
		Data:      json.RawMessage(data + "}"),
		Watermark: Watermark{Timestamp: 1477314187, AppID: "wx4f4bc4dec97d474b"},
	})
	if string(composed) != vectorPlain {
		t.Errorf("plain text is %s", composed)
	}
}

// Data that is whole blocks long gets a block of padding more.
func TestPaddingOfWholeBlocks(t *testing.T) {
	for n := range 33 {
		plain := bytes.Repeat([]byte{'x'}, n)
		sealed, err := sealOpenData(vectorKey, vectorIV, plain)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := openOpenData(vectorKey, vectorIV, sealed)
		if err != nil || !bytes.Equal(opened, plain) {
			t.Errorf("%d bytes became %q, error %v", n, opened, err)
		}
	}
}

// The check of the tests themselves: this data decrypts to noise that ends in
// the byte 40, which lenient decoders let pass.
func TestOpenDataNegativeVector(t *testing.T) {
	plain, err := openOpenData("7MG7jbTToVVRWRXVA885rg==", "TarMFjnzHVxy8pdS93wQbw==",
		"BY6VOgcWbwGcyrunK0ECWI8rnDsT69DucZ+M78tc1aL9aM/3bEAHFYd4fu7kRjWhD4YfjObw44T9vUqKyHIjbKs6hvtEasZZEIW35x4a91xVgN48ZqZ7MTQqUlP13kDUlkuwYh+/8g8yceu4kNbjowYrhihx+SV7CfjKCveJ7TSepr5Z7aLv1o+rfeelfOwn++WN/YoQsuZ6S3L4fWlWe5DAAUnFUI6cJvxxCohVzbrVXhyH2AqQdSjH2WnMYFeaGFIbcoxMznlk7oEwFn+hBj63dyT/swdYQfEdzuyCBmKXy8d6l1RKVX6Y65coTD8kIlbr+FKsqYrXVUIUBSwehqYuOdhYWZ9Bntl5DWU1oqzAPCnMn2cAIoQpQPKP7IGSxMOvCNAMhVXbE7BvnWuVuGF+AM5tXAa9IVUhcMImGwLQqm4iV5uBd+5OcFObh3A4VJk9iBCBWSkBHa/rV9CVoY0bFv2F9/2Hv82++Ybl274=")
	if err == nil {
		t.Errorf("it decrypted to %q", plain)
	}
}

// WeChat's own sample of a rawData signature.
func TestRawDataSignatureVector(t *testing.T) {
	const rawData = `{"nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong","country":"CN","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/1vZvI39NWFQ9XM4LtQpFrQJ1xlgZxx3w7bQxKARol6503Iuswjjn6nIGBiaycAjAtpujxyzYsrztuuICqIM5ibXQ/0"}`
	const want = "75e81ceda165f4ffa64f4068af58c64b8f54b88c"
	if got := rawDataSignature(rawData, "HyVFkGl5F5OQWJZZaNzBBg=="); got != want {
		t.Errorf("signature is %s, want %s", got, want)
	}
}

func TestEncrypt(t *testing.T) {
	s, clock := newTest(t)
	key := signIn(t, s, "alice")
	identity, _ := s.Identity(testApp, "alice")
	now := strconv.FormatInt(clock.Now().Unix(), 10)
	for name, test := range map[string]struct {
		encryption Encryption
		plain, raw string
	}{
		"with the right watermark": {
			encryption: Encryption{Data: json.RawMessage(`{ "b": 1, "a": "<&>" }`)},
			plain:      `{"b":1,"a":"<&>","watermark":{"timestamp":` + now + `,"appid":"` + testApp + `"}}`,
		},
		"of nothing, for another program, in 2016": {
			encryption: Encryption{
				Data:      json.RawMessage(`{}`),
				Watermark: Watermark{Timestamp: 1477314187, AppID: "wx4f4bc4dec97d474b"},
			},
			plain: `{"watermark":{"timestamp":1477314187,"appid":"wx4f4bc4dec97d474b"}}`,
		},
		"without a watermark": {
			encryption: Encryption{Data: json.RawMessage(`{"a":1}`), Watermark: Watermark{Omit: true}},
			plain:      `{"a":1}`,
		},
		"as phones tell of everybody": {
			encryption: Encryption{Data: json.RawMessage(`{ }`), UserInfo: true, Watermark: Watermark{Omit: true}},
			plain:      weChatNobody,
			raw:        weChatNobody,
		},
		"as user information": {
			encryption: Encryption{
				Data: json.RawMessage(`{"nickName":"微信用户"}`), UserInfo: true, WithOpenID: true,
				Watermark: Watermark{Omit: true},
			},
			plain: `{"nickName":"微信用户","openId":"` + identity.OpenID + `","unionId":"` + identity.UnionID + `"}`,
			raw:   `{"nickName":"微信用户"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.encryption.Program, test.encryption.User = testApp, "alice"
			encrypted, err := s.Encrypt(test.encryption)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := openOpenData(key, encrypted.IV, encrypted.EncryptedData)
			if err != nil || string(plain) != test.plain {
				t.Errorf("plain text is %s, error %v, want %s", plain, err, test.plain)
			}
			if encrypted.RawData != test.raw {
				t.Errorf("raw data is %q, want %q", encrypted.RawData, test.raw)
			}
			if test.raw != "" && encrypted.Signature != rawDataSignature(test.raw, key) {
				t.Errorf("signature is %q", encrypted.Signature)
			}
		})
	}
}

// Data encrypted before the next sign-in is under the old key: the race that
// makes servers keep the previous key for a while.
func TestEncryptFollowsRotation(t *testing.T) {
	s, _ := newTest(t)
	encryption := Encryption{Program: testApp, User: "alice", Data: json.RawMessage(`{}`)}
	if _, err := s.Encrypt(encryption); !errors.Is(err, ErrNoSessionKey) {
		t.Errorf("error before the first sign-in is %v, want %v", err, ErrNoSessionKey)
	}
	first := signIn(t, s, "alice")
	before, err := s.Encrypt(encryption)
	if err != nil {
		t.Fatal(err)
	}
	second := signIn(t, s, "alice")
	if _, err := openOpenData(first, before.IV, before.EncryptedData); err != nil {
		t.Errorf("the first key does not open its data: %v", err)
	}
	after, err := s.Encrypt(encryption)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openOpenData(second, after.IV, after.EncryptedData); err != nil {
		t.Errorf("the second key does not open its data: %v", err)
	}
}
