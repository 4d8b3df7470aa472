// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
)

// The forms in which open data of Alipay is handed out.
const (
	// FormSigned is encrypted and signed. It is the default.
	FormSigned = "signed"
	// FormUnsigned is encrypted; the program has no signing key in Alipay's
	// console.
	FormUnsigned = "unsigned"
	// FormPlain is neither, as Alipay says what is wrong with the configuration.
	FormPlain = "plain"
	// FormWrongSignature is encrypted with a signature that is broken.
	FormWrongSignature = "wrong_signature"
	// FormUnquoted is encrypted with a signature of the text without the quotes
	// around it, which is wrong.
	FormUnquoted = "unquoted"
)

// alipayForms are the forms above.
var alipayForms = []string{FormSigned, FormUnsigned, FormPlain, FormWrongSignature, FormUnquoted}

// alipayOpenData is what my.getPhoneNumber hands out as a text
// (https://opendocs.alipay.com/mini/api/getphonenumber).
type alipayOpenData struct {
	Response    any    `json:"response"`
	Sign        string `json:"sign,omitempty"`
	SignType    string `json:"sign_type,omitempty"`
	EncryptType string `json:"encrypt_type,omitempty"`
	Charset     string `json:"charset,omitempty"`
}

// alipayPhone is what is encrypted where all is well.
type alipayPhone struct {
	Code   string `json:"code"`
	Msg    string `json:"msg"`
	Mobile string `json:"mobile"`
}

// sharePhone implements platform. There is no code: the number itself is handed
// out, encrypted. One of China has no country code
// (https://opendocs.alipay.com/mini/api/getphonenumber).
func (a *alipay) sharePhone(phone Phone) (string, error) {
	number := phone.Number
	if phone.CountryCode != "86" {
		number = phone.CountryCode + "-" + phone.Number
	}
	data := alipayPhone{"10000", alipayMessages["10000"], number}
	return a.programs[phone.Program].openData(encodeJSON(data), FormSigned), nil
}

// encrypt implements platform.
func (a *alipay) encrypt(e Encryption) (Encrypted, error) {
	form := orDefault(e.Form, FormSigned)
	switch {
	case !slices.Contains(alipayForms, form):
		return Encrypted{}, fmt.Errorf("%w: unknown form %q", ErrInvalid, form)
	case e.UserInfo || e.WithOpenID || e.Watermark != Watermark{}:
		return Encrypted{}, fmt.Errorf("%w: open data of Alipay has no user_info, with_openid or watermark", ErrInvalid)
	}
	return Encrypted{Response: a.programs[e.Program].openData(e.Data, form)}, nil
}

// openData hands data out in a form. The signature is over the encrypted text
// with the quotes around it (https://opendocs.alipay.com/common/02mse3).
func (p *alipayProgram) openData(data []byte, form string) string {
	if form == FormPlain {
		return string(appendMember([]byte("{}"), "response", json.RawMessage(data)))
	}
	result := alipayOpenData{Response: sealAlipay(p.aesKey, data), SignType: "RSA2", EncryptType: "AES", Charset: "UTF-8"}
	signed := encodeJSON(result.Response)
	if form == FormUnquoted {
		signed = signed[1 : len(signed)-1]
	}
	if form != FormUnsigned {
		result.Sign = signAlipay(p.currentSigner().key, signed)
	}
	if form == FormWrongSignature {
		result.Sign = breakSignature(encodeJSON(result.Sign))
	}
	return string(encodeJSON(result))
}

// sealAlipay encrypts with AES-128-CBC, PKCS#7 padding and an IV of zeros
// (https://opendocs.alipay.com/common/02mse3).
func sealAlipay(key, plain []byte) string {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("encrypting as Alipay: " + err.Error())
	}
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	sealed := append([]byte{}, plain...)
	for range padding {
		sealed = append(sealed, byte(padding))
	}
	cipher.NewCBCEncrypter(block, make([]byte, aes.BlockSize)).CryptBlocks(sealed, sealed)
	return base64.StdEncoding.EncodeToString(sealed)
}
