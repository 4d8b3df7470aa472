// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/minigate/minigate/module/provider"
)

// All fields may be absent, and what comes may be anything that a user could write
// somewhere.
func TestUserInfoFields(t *testing.T) {
	long := strings.Repeat("张", 128)
	for fields, want := range map[string]provider.UserInfo{
		``:                             {},
		`"nick_name":"张三"`:             {Nickname: "张三"},
		`"nick_name":"👨‍👩‍👧 é"`:        {Nickname: "👨‍👩‍👧 é"},
		`"nick_name":"` + long + `"`:   {Nickname: long},
		`"nick_name":"` + long + `x"`:  {},
		`"nick_name":null`:             {},
		`"nick_name":7`:                {},
		`"nick_name":{"a":1}`:          {},
		`"nick_name":""`:               {},
		`"nick_name":"a\u0000"`:        {},
		`"nick_name":"a\r\nX-User: b"`: {},
		`"nick_name":"a\u007f"`:        {},
		`"nick_name":"a\u0085"`:        {},
		`"nick_name":"a\u202eb"`:       {},
		`"nick_name":"a\u202ab"`:       {},
		`"nick_name":"a\u2066b"`:       {},
		`"nick_name":"a\u2069b"`:       {},
		`"nick_name":"\ud83d"`:         {},
		`"gender":"F"`:                 {Gender: "female"},
		`"gender":"M"`:                 {Gender: "male"},
		`"gender":"f"`:                 {},
		`"gender":"X"`:                 {},
		`"country_code":"CN","province":"浙江省","city":"杭州市"`: {Country: "CN", Province: "浙江省", City: "杭州市"},
		`"province":"浙江\n省","city":["杭州市"]`:                 {},
		`"email":"a@b.cn"`:                                {Email: "a@b.cn"},
		`"email":"a.b+c@mail.example.com"`:                {Email: "a.b+c@mail.example.com"},
		`"email":"a***@b.cn"`:                             {},
		`"email":"a@b"`:                                   {},
		`"email":"a@b."`:                                  {},
		`"email":"a"`:                                     {},
		`"email":"a@b.cn, c@d.cn"`:                        {},
		`"email":"Name <a@b.cn>"`:                         {},
		`"email":"<a@b.cn>"`:                              {},
		`"email":" a@b.cn"`:                               {},
		`"email":"a@b.cn\r\nBcc: c@d.cn"`:                 {},
		`"email":"a@[192.0.2.1]"`:                         {},
		`"mobile":"13800138000"`:                          {PhoneNumber: "13800138000", CountryCode: "86"},
		`"mobile":"1-1234432112"`:                         {PhoneNumber: "1234432112", CountryCode: "1"},
		`"mobile":"138****8000"`:                          {},
		`"mobile":13800138000`:                            {},
		`"phone":"0571-26888888"`:                         {},
		`"user_type":"2","is_certified":"T","new":[[{}]]`: {},
	} {
		body := signed(infoNode, `{"code":"10000","msg":"Success"`+strings.TrimSuffix(","+fields, ",")+"}", "")
		if got, err := testClient.readInfo(t.Context(), infoReply(body), testGrant(1)); err != nil || got != want {
			t.Errorf("%s: got %+v %v", fields, got, err)
		}
	}
}

// A picture is loaded by whoever sees the user: by https, and from nowhere that a
// scheme or a user name could hide.
func TestPictures(t *testing.T) {
	long := "https://tfs.alipayobjects.com/" + strings.Repeat("x", 994)
	for avatar, want := range map[string]string{
		"https://tfs.alipayobjects.com/images/partner/a.png": "https://tfs.alipayobjects.com/images/partner/a.png",
		"http://tfs.alipayobjects.com/images/partner/a.png":  "https://tfs.alipayobjects.com/images/partner/a.png",
		"HTTP://TFS.AlipayObjects.com/a?x=%20&y=1#z":         "https://TFS.AlipayObjects.com/a?x=%20&y=1#z",
		"http://alipayobjects.com/a":                         "https://alipayobjects.com/a",
		"https://example.com:8443/a":                         "https://example.com:8443/a",
		long:                                                 long,
		long + "x":                                           "",
		"http://example.com/a.png":                           "",
		"http://evilalipayobjects.com/a":                     "",
		"http://alipayobjects.com.example/a":                 "",
		"http://tfs.alipayobjects.com:80/a":                  "",
		"https://user@tfs.alipayobjects.com/a":               "",
		"https://tfs.alipayobjects.com@example.com/":         "",
		"https:///a":                                         "",
		"https:a":                                            "",
		"//tfs.alipayobjects.com/a":                          "",
		"/a.png":                                             "",
		"javascript:alert(1)":                                "",
		"data:image/png;base64,AAAA":                         "",
		"ftp://tfs.alipayobjects.com/a":                      "",
		"https://a.example/\"><script>":                      "",
		"https://a.example/a b":                              "",
		"https://a.example/\\b":                              "",
		"https://a.example/é":                                "",
		"https://a.example/\u202e":                           "",
		"https://a.example/a\r\nX: b":                        "",
		"https://a.example/%zz":                              "",
		"https://[::1":                                       "",
		"":                                                   "",
	} {
		data, err := json.Marshal(map[string]string{"code": "10000", "avatar": avatar})
		if err != nil {
			t.Fatal(err)
		}
		got, err := testClient.readInfo(t.Context(), infoReply(signed(infoNode, string(data), "")), testGrant(1))
		if err != nil || got != (provider.UserInfo{AvatarURL: want}) {
			t.Errorf("%q: got %+v %v", avatar, got, err)
		}
	}
}
