// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/minigate/minigate/module/provider"
)

// largestData is the most bytes of signed data that are looked at. What the
// platform makes has a few hundred.
const largestData = 64 << 10

// What is wrong with data that a client handed over, for the operator's log. All
// are provider.ErrData, and show nothing of the data.
var (
	errForm       = fmt.Errorf("%w: it does not have the form of my.getPhoneNumber's response", provider.ErrData)
	errNotSigned  = fmt.Errorf("%w: it is not signed; does the console have the app's public key, the AES key and the app gateway?", provider.ErrData)
	errNotAlipay  = fmt.Errorf("%w: it is not signed with the key that alipay_public_key or alipay_cert holds", provider.ErrData)
	errNotOpened  = fmt.Errorf("%w: it is signed, but aes_key does not open it", provider.ErrData)
	errNotEncoded = fmt.Errorf("%w: it is signed, but not encrypted", provider.ErrData)
)

// phoneReasons are the subCodes of my.getPhoneNumber, without the part before the
// first dot.
//
// https://opendocs.alipay.com/mini/api/getphonenumber
var phoneReasons = map[string]provider.Reason{
	// The user did not press the button, or took his consent back.
	"invalid-auth-relations": provider.ConsentMissing,

	"unknow-error": provider.Unavailable, // so spelled

	"insufficient-isv-permissions":   provider.Misconfigured,
	"invalid-encrypt":                provider.Misconfigured,
	"missing-default-signature-type": provider.Misconfigured,
	"missing-encrypt-key":            provider.Misconfigured,
}

// subCodeForm is the form of a subCode that may be shown though nobody signed it.
var subCodeForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// payload is what my.getPhoneNumber gives to the mini-program.
type payload struct {
	text   string          // in base64; empty if it is not encrypted
	plain  provider.Fields // nil if it is encrypted
	signed []byte          // what the platform signs
	sign   string
}

// OpenSigned implements provider.SignedData. The data is res.response of
// my.getPhoneNumber. It names neither user nor time, and nothing of it is believed,
// nor decrypted, before its signature is known to be good: all else that could be
// done to a text in CBC is then out of a client's reach. A plus sign that became a
// space on the way is put back. It makes no call: where the platform changed to
// another certificate, that is known here from the answer of a login.
//
// https://opendocs.alipay.com/common/02mse3
func (p *Provider) OpenSigned(_ context.Context, data []byte) (provider.Signed, error) {
	var none provider.Signed
	load, err := readPayload(data)
	if err != nil {
		return none, err
	}
	if load.sign == "" {
		return none, load.unsigned()
	}
	if !slices.ContainsFunc(p.client.keys.known(), func(key *rsa.PublicKey) bool { return isSigned(key, load.signed, load.sign) }) {
		return none, errNotAlipay
	}
	fields, plain := load.plain, []byte(nil)
	if fields == nil {
		if p.aes == nil {
			return none, &provider.Error{Reason: provider.Misconfigured, Err: errors.New("opening a telephone number: aes_key is missing")}
		}
		if fields, plain, err = decrypt(p.aes, load.text); err != nil {
			return none, err
		}
	}
	refused, err := p.client.phoneRefusal(fields)
	switch {
	case err != nil:
		return none, errForm
	case refused != nil:
		return none, refused
	case plain == nil:
		// The same key signs what the platform answers to calls, in plain.
		return none, errNotEncoded
	}
	return provider.Signed{Plain: plain, Signed: load.signed}, nil
}

// readPayload reads data as a client hands it over. Nothing in it may be read in
// two ways: it is of one level, but for a response that is not encrypted, and no
// name stands twice. The error is provider.ErrData.
func readPayload(data []byte) (*payload, error) {
	if len(data) > largestData {
		return nil, errForm
	}
	fields, err := decodeObject(data)
	if err != nil {
		return nil, errForm
	}
	load := new(payload)
	response := fields["response"]
	delete(fields, "response")
	if !isFlat(fields) || !isUsual(fields, "sign_type", "RSA2") || !isUsual(fields, "encrypt_type", "AES") || !isUsual(fields, "charset", "UTF-8") {
		return nil, errForm
	}
	if load.sign, err = fields.Text("sign"); err != nil {
		return nil, errForm
	}
	load.sign = unspaced(load.sign)
	if bytes.HasPrefix(response, []byte("{")) {
		if load.plain, err = decodeObject(response); err != nil || !isFlat(load.plain) {
			return nil, errForm
		}
		load.signed = response
		return load, nil
	}
	load.text, err = provider.Fields{"response": response}.Text("response")
	if err != nil || load.text == "" {
		return nil, errForm
	}
	// The quotes are signed, too. Escapes are not: a library on the way may have
	// written a slash as \/.
	load.text = unspaced(load.text)
	load.signed = []byte(`"` + load.text + `"`)
	return load, nil
}

// decodeObject decodes a JSON object in UTF-8 without names that differ in nothing
// or in case only.
func decodeObject(data []byte) (provider.Fields, error) {
	fields, err := provider.DecodeFields(data)
	switch {
	case err != nil:
		return nil, err
	case !utf8.Valid(data):
		return nil, errors.New("decoding JSON: not UTF-8")
	case hasTwins(fields):
		return nil, errors.New("decoding JSON: " + twins)
	}
	return fields, nil
}

// isFlat reports whether no field is an object or a list.
func isFlat(fields provider.Fields) bool {
	for _, value := range fields {
		if value[0] == '{' || value[0] == '[' {
			return false
		}
	}
	return true
}

// isUsual reports whether a field has the value that it has when it is absent, in
// capitals or not.
func isUsual(fields provider.Fields, name, value string) bool {
	text, err := fields.Text(name)
	return err == nil && (text == "" || strings.EqualFold(text, value))
}

// unspaced puts plus signs of base64 back, which become spaces where somebody put
// them into a form without escaping them.
func unspaced(text string) string { return strings.ReplaceAll(text, " ", "+") }

// unsigned is the error for data that nobody signed. If it is a refusal, it is the
// usual sign of what the console lacks; but the client may have made it up.
func (l *payload) unsigned() error {
	for _, name := range []string{"subCode", "code"} {
		if said, err := label(l.plain, name); err == nil && subCodeForm.MatchString(said) {
			return fmt.Errorf("%w; it says %s", errNotSigned, said)
		}
	}
	return errNotSigned
}

// decrypt opens a text whose signature is good: AES-128-CBC with an initialization
// vector of zeros, PKCS #7 padding, one JSON object inside. A wrong padding is found
// out by the same work as a wrong object.
//
// https://opendocs.alipay.com/common/02mse3
func decrypt(block cipher.Block, text string) (fields provider.Fields, plain []byte, err error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(data) == 0 || len(data)%aes.BlockSize != 0 {
		return nil, nil, errNotOpened
	}
	cipher.NewCBCDecrypter(block, make([]byte, aes.BlockSize)).CryptBlocks(data, data)
	plain, ok := unpad(data)
	fields, err = decodeObject(plain)
	if !ok || err != nil || plain[0] != '{' {
		return nil, nil, errNotOpened
	}
	return fields, plain, nil
}

// unpad removes PKCS #7 padding to blocks of 16 bytes (RFC 5652, section 6.3), all
// bytes of which count. Where it is wrong, the text is returned as it is.
func unpad(text []byte) (plain []byte, ok bool) {
	n := int(text[len(text)-1])
	if n == 0 || n > aes.BlockSize {
		return text, false
	}
	plain, padding := text[:len(text)-n], text[len(text)-n:]
	if !bytes.Equal(padding, bytes.Repeat([]byte{byte(n)}, n)) {
		return text, false
	}
	return plain, true
}

// phoneRefusal returns the error that signed data says it is, nil if it is none.
// Unlike the platform's answers, it says so in camel case.
func (c *client) phoneRefusal(fields provider.Fields) (*provider.Error, error) {
	code, err := label(fields, "code")
	if err != nil {
		return nil, err
	}
	subCode, err := label(fields, "subCode")
	if err != nil {
		return nil, err
	}
	if code == success && subCode == "" {
		return nil, nil
	}
	refused := &provider.Error{
		PlatformCode:    provider.Clean(subCode, c.secrets...),
		PlatformMessage: fields.Message("subMsg", c.secrets...),
	}
	var known bool
	if refused.Reason, known = phoneReasons[bare(subCode)]; !known {
		refused.Reason = codes[code] // PlatformFault for one that is unknown
	}
	if subCode == "" {
		refused.PlatformCode = provider.Clean(code, c.secrets...)
	}
	if refused.PlatformMessage == "" {
		refused.PlatformMessage = fields.Message("msg", c.secrets...)
	}
	if refused.PlatformCode == "" {
		refused.Err = errors.New("opening data: it does not say that it is a success")
	}
	return refused, nil
}
