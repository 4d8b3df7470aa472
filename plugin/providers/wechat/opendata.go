// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/minigate/minigate/module/provider"
)

const (
	// largestData is the most bytes of encrypted data that are looked at. What
	// the platform makes has a few hundred; a month of steps has some thousand.
	largestData = 64 << 10

	// oldestData is how long encrypted data is good. It is used as soon as the
	// mini-program has it.
	oldestData = 10 * time.Minute

	// clockSkew is how far the platform's clock may be ahead of ours.
	clockSkew = 5 * time.Minute
)

// watermark is the platform's statement of whom it made data for, and when.
type watermark struct {
	Watermark struct {
		AppID     string `json:"appid"`
		Timestamp int64  `json:"timestamp"`
	} `json:"watermark"`
}

// decrypt opens data that the platform's client interfaces encrypted:
// AES-128-CBC with the session key, PKCS #7 padding, a JSON object inside with
// the watermark of its program and time.
//
// CBC says nothing about who made the text, and the client chooses data and iv:
// all that holds is what the watermark and the use of the key suggest. That is
// why every check is strict and every failure is the same.
//
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html
func decrypt(appID, sessionKey, data, iv string, now time.Time) ([]byte, error) {
	key, keyErr := decodeBase64(sessionKey)
	vector, ivErr := decodeBase64(iv)
	text, dataErr := decodeBase64(data)
	if keyErr != nil || ivErr != nil || dataErr != nil ||
		len(key) != sessionKeySize || len(vector) != aes.BlockSize ||
		len(text) == 0 || len(text) > largestData || len(text)%aes.BlockSize != 0 {
		return nil, provider.ErrData
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, provider.ErrData
	}
	cipher.NewCBCDecrypter(block, vector).CryptBlocks(text, text)
	plain, ok := unpad(text)
	if !ok || !utf8.Valid(plain) || len(plain) == 0 || plain[0] != '{' {
		return nil, provider.ErrData
	}
	var mark watermark
	if err := json.Unmarshal(plain, &mark); err != nil {
		return nil, provider.ErrData
	}
	age := now.Sub(time.Unix(mark.Watermark.Timestamp, 0))
	if mark.Watermark.AppID != appID || age > oldestData || age < -clockSkew {
		return nil, provider.ErrData
	}
	return plain, nil
}

// unpad removes PKCS #7 padding to blocks of 16 bytes (RFC 5652, section 6.3).
// All bytes of the padding count: a decrypter that trusts the last one takes
// the garbage of a wrong key for text.
func unpad(text []byte) (plain []byte, ok bool) {
	n := int(text[len(text)-1])
	if n == 0 || n > aes.BlockSize {
		return nil, false
	}
	plain, padding := text[:len(text)-n], text[len(text)-n:]
	return plain, bytes.Equal(padding, bytes.Repeat([]byte{byte(n)}, n))
}

// decodeBase64 decodes what the platform encoded. A plus sign becomes a space
// where somebody put it into a form without escaping it, which is the commonest
// accident on its way.
func decodeBase64(text string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(strings.ReplaceAll(text, " ", "+"))
}

// verify checks the signature of raw data: SHA-1 of the data and the session
// key, which takes part as the text it came as.
//
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html
func verify(sessionKey, rawData, signature string) error {
	sum := sha1.Sum([]byte(rawData + sessionKey))
	want := hex.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(want), []byte(signature)) != 1 {
		return provider.ErrData
	}
	return nil
}
