// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// weChatWatermark is the last member of open data.
type weChatWatermark struct {
	Timestamp int64  `json:"timestamp"`
	AppID     string `json:"appid"`
}

// weChatNobody is the user information that phones hand out of everybody since
// 2022-10-25: one nickname and one grey picture. It says of itself that it is
// demoted, which the documentation does not tell
// (https://developers.weixin.qq.com/community/develop/doc/00022c683e8a80b29bed2142b56c01).
const weChatNobody = `{"nickName":"微信用户","gender":0,"language":"","city":"","province":"","country":"",` +
	`"avatarUrl":"https://thirdwx.qlogo.cn/mmopen/vi_32/POgEwh4mIHO4nibH0KlMECNjjGxQUq24ZEaGT4poC6icRiccVGKSyXwibcPq4BWmiaIGuG1icwxaQX6grC9VemZoJ8rg/132",` +
	`"is_demote":true}`

// encrypt implements platform. User information that is empty is that of
// weChatNobody. It does what the open data interfaces of the client do
// (https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html).
func (w *weChat) encrypt(e Encryption) (Encrypted, error) {
	if e.Form != "" {
		return Encrypted{}, fmt.Errorf("%w: open data of WeChat has no form", ErrInvalid)
	}
	if e.UserInfo && string(e.Data) == "{}" {
		e.Data = json.RawMessage(weChatNobody)
	}
	key, err := w.sessionKey(e.Program, e.User)
	if err != nil {
		return Encrypted{}, err
	}
	iv := base64.StdEncoding.EncodeToString(randomBytes(aes.BlockSize))
	data, err := sealOpenData(key, iv, w.openData(e))
	if err != nil {
		return Encrypted{}, err
	}
	result := Encrypted{EncryptedData: data, IV: iv}
	if e.UserInfo {
		result.RawData = string(e.Data)
		result.Signature = rawDataSignature(result.RawData, key)
	}
	return result, nil
}

// openData returns the plain text: the data with what the platform adds.
func (w *weChat) openData(e Encryption) []byte {
	data := bytes.Clone(e.Data)
	if e.WithOpenID {
		identity := w.identity(e.Program, e.User)
		data = appendMember(data, "openId", identity.OpenID)
		if identity.UnionID != "" {
			data = appendMember(data, "unionId", identity.UnionID)
		}
	}
	if e.Watermark.Omit {
		return data
	}
	return appendMember(data, "watermark", weChatWatermark{
		Timestamp: orDefault(e.Watermark.Timestamp, w.now().Unix()),
		AppID:     orDefault(e.Watermark.AppID, e.Program),
	})
}

// appendMember adds a member at the end of a compact JSON object.
func appendMember(object []byte, name string, value any) []byte {
	object = bytes.TrimSuffix(object, []byte("}"))
	if len(object) > len("{") {
		object = append(object, ',')
	}
	object = append(object, encodeJSON(name)...)
	object = append(object, ':')
	object = append(object, encodeJSON(value)...)
	return append(object, '}')
}

// sealOpenData encrypts with AES-128-CBC and PKCS#7 padding to the block of 16
// bytes. Key, iv and result are base64.
func sealOpenData(sessionKey, iv string, plain []byte) (string, error) {
	key, err := base64.StdEncoding.DecodeString(sessionKey)
	if err != nil {
		return "", fmt.Errorf("decoding the session key: %w", err)
	}
	start, err := base64.StdEncoding.DecodeString(iv)
	if err != nil || len(start) != aes.BlockSize {
		return "", fmt.Errorf("the iv must be base64 of %d bytes", aes.BlockSize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", fmt.Errorf("using the session key: %w", err)
	}
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	padded := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, start).CryptBlocks(padded, padded)
	return base64.StdEncoding.EncodeToString(padded), nil
}

// rawDataSignature signs user information that is handed out in plain: SHA-1
// of the data followed by the base64 text of the session key, in hex.
func rawDataSignature(rawData, sessionKey string) string {
	sum := sha1.Sum([]byte(rawData + sessionKey))
	return hex.EncodeToString(sum[:])
}
