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
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/minigate/minigate/module/provider"
)

const (
	// largestData is the most bytes of data that are looked at. What the platform
	// makes has a few hundred; a month of steps has some thousand.
	largestData = 64 << 10

	// oldestData is how long encrypted data is good. It is used as soon as the
	// mini-program has it.
	oldestData = 10 * time.Minute

	// clockSkew is how far the platform's clock may be ahead of ours.
	clockSkew = 5 * time.Minute
)

// decrypt opens data that the platform's client interfaces encrypted:
// AES-128-CBC with the session key, PKCS #7 padding, a JSON object inside with
// the watermark of its program and time.
//
// CBC says nothing about who made the text, and the client chooses data and iv:
// all that holds is what the watermark and the use of the key suggest. That is
// why every check is strict and every failure is the same.
//
// It is the same in time, too. A client that learns whether the padding of what
// it sends is right can decrypt with us as an oracle (Vaudenay, 2002), and almost
// as well if it learns that a text was read as JSON to the end. So the padding is
// looked at without branches, the text is scanned whatever the padding says, and
// in the place of a text that is not fit to be read a stand-in of the same size
// is. Only what the client knows anyway, the sizes of what it sent, ends early.
//
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html
func decrypt(appID string, holder provider.Holder, data, iv string, now time.Time) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(holder.SessionKey)
	vector, ivErr := decodeBase64(iv, aes.BlockSize)
	text, dataErr := decodeBase64(data, largestData)
	if errors.Join(err, ivErr, dataErr) != nil || len(key) != sessionKeySize ||
		len(vector) != aes.BlockSize || len(text) == 0 || len(text)%aes.BlockSize != 0 {
		return nil, provider.ErrData
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, provider.ErrData
	}
	cipher.NewCBCDecrypter(block, vector).CryptBlocks(text, text)
	plain, padded := unpad(text)
	isJSON, isText := json.Valid(plain), utf8.Valid(plain)
	fit := padded && isJSON && isText && bytes.HasPrefix(plain, []byte("{")) && bytes.HasSuffix(plain, []byte("}"))
	if !fit {
		plain = standIn(len(text))
	}
	if genuine := isGenuine(plain, appID, holder.OpenID, now); !fit || !genuine {
		return nil, provider.ErrData
	}
	return plain, nil
}

// isGenuine reports whether a JSON object says everything once, that it was made
// for this program, not long ago, and not for another user.
func isGenuine(plain []byte, appID, openID string, now time.Time) bool {
	fields, err := provider.DecodeFields(plain)
	mark, markErr := provider.DecodeFields(fields["watermark"])
	program, programErr := mark.Text("appid")
	seconds, secondsErr := mark.Int("timestamp")
	user, userErr := fields.Text("openId")
	if errors.Join(err, markErr, programErr, secondsErr, userErr) != nil {
		return false
	}
	age := now.Sub(time.Unix(seconds, 0))
	return isOneKind(fields) && program == appID && age <= oldestData && age >= -clockSkew && (user == openID || !fields.Has("openId"))
}

// kinds are the kinds of data that say something of a person, by the names of
// their members. The first list makes the kind; the second may stand beside it.
var kinds = []struct {
	members, others []string
}{
	{[]string{"phonenumber", "purephonenumber", "countrycode"}, nil},
	{[]string{"stepinfolist"}, nil},
	{[]string{"nickname", "avatarurl", "gender", "country", "province", "city", "language"}, []string{"is_demote"}},
}

// common may stand beside every kind. An openId is the user's own.
var common = []string{"watermark", "openid", "unionid"}

// isOneKind reports whether an object that has a member of one of these kinds has
// no other members: the client, who chooses the iv, can make the first 16 bytes
// anything, and turn {"nickName":"AAA into {"phoneNumber":". A phone number must
// also be whole, and agree with itself. Names are compared as those readers do
// who heed no case.
func isOneKind(fields provider.Fields) bool {
	names := make(map[string]bool, len(fields))
	for name := range fields {
		names[strings.ToLower(name)] = true
	}
	for _, kind := range kinds {
		if !slices.ContainsFunc(kind.members, func(member string) bool { return names[member] }) {
			continue
		}
		for name := range names {
			if !slices.Contains(common, name) && !slices.Contains(kind.members, name) && !slices.Contains(kind.others, name) {
				return false
			}
		}
		if len(names) != len(fields) {
			return false
		}
	}
	if !names["phonenumber"] && !names["purephonenumber"] {
		return true
	}
	number, err := fields.Text("phoneNumber")
	pure, pureErr := fields.Text("purePhoneNumber")
	return errors.Join(err, pureErr) == nil && pure != "" && fields.Has("countryCode") && strings.HasSuffix(number, pure)
}

// unpad removes PKCS #7 padding to blocks of 16 bytes (RFC 5652, section 6.3).
// All bytes of the padding count: a decrypter that trusts the last one takes
// the garbage of a wrong key for text. It takes the same time whatever the
// padding is; of text that has none it removes nothing.
func unpad(text []byte) (plain []byte, ok bool) {
	last := text[len(text)-1]
	n := int(last)
	good := subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, aes.BlockSize)
	for i, c := range text[len(text)-aes.BlockSize:] {
		inside := subtle.ConstantTimeLessOrEq(aes.BlockSize, i+n)
		good &= 1 ^ inside | subtle.ConstantTimeByteEq(c, last)
	}
	return text[:len(text)-subtle.ConstantTimeSelect(good, n, 0)], good == 1
}

// members are enough members of an object for the largest stand-in, each of
// memberSize bytes, which is what the members of user information have.
var members = func() (all []byte) {
	for i := range largestData / memberSize {
		all = fmt.Appendf(all, `"member%05d":"reads as long as others",`, i)
	}
	return all
}()

const memberSize = 40

// standIn is an object of about size bytes, with a watermark that is no good.
func standIn(size int) []byte {
	const watermark = `"watermark":{"timestamp":1000000000,"appid":"wx0000000000000000"}}`
	room := max(size-len(watermark), 0) / memberSize * memberSize
	object := make([]byte, 0, 1+room+len(watermark))
	object = append(object, '{')
	object = append(object, members[:room]...)
	return append(object, watermark...)
}

// decodeBase64 decodes what the platform encoded, up to most bytes of it. A
// plus sign becomes a space where somebody put it into a form without escaping
// it, which is the commonest accident on its way; that is put right. Nothing else
// is: not the line breaks that base64 may have elsewhere.
func decodeBase64(text string, most int) ([]byte, error) {
	if len(text) > base64.StdEncoding.EncodedLen(most) || strings.ContainsAny(text, "\r\n") {
		return nil, provider.ErrData
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(strings.ReplaceAll(text, " ", "+"))
	if err != nil || len(decoded) > most {
		return nil, provider.ErrData
	}
	return decoded, nil
}

// verify checks the signature of raw data: SHA-1 of the data and the session
// key, which takes part as the text it came as, in lower-case hex. Without a key
// anybody could sign.
//
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html
func verify(holder provider.Holder, rawData, signature string) error {
	if !isSessionKey(holder.SessionKey) || len(rawData) > largestData {
		return provider.ErrData
	}
	sum := sha1.Sum([]byte(rawData + holder.SessionKey))
	want := hex.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(want), []byte(signature)) != 1 {
		return provider.ErrData
	}
	if _, err := provider.DecodeFields([]byte(rawData)); err != nil || !utf8.ValidString(rawData) {
		return provider.ErrData
	}
	return nil
}
