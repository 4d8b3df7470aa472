// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/minigate/minigate/module/provider"
)

// The client chooses the iv, and with it the first 16 bytes: by a nickname of his
// choice, user information becomes a phone number of his choice, with a good
// watermark. Data of two kinds, or of half a kind, is refused.
func TestDecryptRefusesMixedKinds(t *testing.T) {
	person := mark(`"nickName":"AAA13912345678","gender":1,"language":"zh_CN","city":"","province":"","country":"","avatarUrl":"https://a.example/1",`)
	for _, first := range []string{`{"phoneNumber":"`, `{"PhoneNumber":"`, `{"memberId":"AAA`, `{"openGId": "AAA`, `{"nickname":"AAA`, `{"gender"  : "AA`} {
		iv, err := base64.StdEncoding.DecodeString(officialIV)
		if err != nil {
			t.Fatal(err)
		}
		for i := range iv {
			iv[i] ^= person[i] ^ first[i]
		}
		plain, err := decrypt(officialAppID, officialHolder, seal(t, person), base64.StdEncoding.EncodeToString(iv), officialTime)
		if strings.HasPrefix(first, `{"nickname`) {
			continue // its own name, in small letters
		}
		if !errors.Is(err, provider.ErrData) {
			t.Errorf("%s: %s", first, plain)
		}
	}
	for _, members := range []string{
		`"phoneNumber":"1",`, `"purePhoneNumber":"13580006666","countryCode":"86",`, `"phoneNumber":"13580006666","purePhoneNumber":"13580006666",`,
		`"phoneNumber":"13900000000","purePhoneNumber":"13580006666","countryCode":"86",`,
		`"phoneNumber":"13580006666","purePhoneNumber":"","countryCode":"86",`,
		`"phoneNumber":"13580006666","purePhoneNumber":"13580006666","countryCode":"86","gender":1,`,
		`"phoneNumber":"13580006666","purePhoneNumber":"13580006666","countryCode":"86","PHONENUMBER":"139",`,
		`"stepInfoList":[],"phoneNumber":"13580006666",`, `"stepInfoList":[],"nickName":"Band",`, `"nickName":"Band","memberId":"1",`,
		`"nickName":"Band","NickName":"Bond",`,
	} {
		if plain, err := decrypt(officialAppID, officialHolder, seal(t, mark(members)), officialIV, officialTime); !errors.Is(err, provider.ErrData) {
			t.Errorf("%s: %s", members, plain)
		}
	}
}
