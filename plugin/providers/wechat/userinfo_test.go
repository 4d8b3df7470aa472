// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/minigate/minigate/module/provider"
)

const (
	// greyURL is the picture that the platform gives to everybody.
	greyURL = "https://thirdwx.qlogo.cn/mmopen/vi_32/POgEwh4mIHO4nibH0KlMECNjjGxQUq24ZEaGT4poC6icRiccVGKSyXwibcPq4BWmiaIGuG1icwxaQX6grC9VemZoJ8rg/132"

	// ownURL is the official sample's.
	ownURL = "://wx.qlogo.cn/mmopen/vi_32/aSKcBBPpibyKNicHNTMM0qJVh8Kjgiak2AHWr8MHM4WgMEm7GFhsf8OYrySdbvAMvTsw3mo8ibKicsnfN5pRjl1p8HQ/0"
)

func TestUserInfo(t *testing.T) {
	for name, test := range map[string]struct {
		plain string
		want  provider.UserInfo
	}{
		"official": {officialPlain, provider.UserInfo{
			Nickname: "Band", Gender: "male", Language: "zh_CN", City: "Guangzhou", Province: "Guangdong", Country: "CN",
			AvatarURL: "https" + ownURL,
		}},
		// developers show 微信用户 and a grey face to all users, and store them over
		// the real ones (announcement 00022c683e8a80b29bed2142b56c01)
		"since 2022": {
			`{"nickName":"微信用户","gender":0,"language":"","city":"","province":"","country":"","avatarUrl":"` + greyURL + `","is_demote":true}`,
			provider.UserInfo{},
		},
		"name chosen, picture grey": {`{"nickName":"张三","avatarUrl":"` + greyURL + `"}`, provider.UserInfo{Nickname: "张三"}},
		"like nobody's name":        {`{"nickName":"微信用户2"}`, provider.UserInfo{Nickname: "微信用户2"}},
		"female":                    {`{"gender":2}`, provider.UserInfo{Gender: "female"}},
		"gender as a string":        {`{"gender":"1"}`, provider.UserInfo{Gender: "male"}},
		"gender unknown":            {`{"gender":0}`, provider.UserInfo{}},
		"gender of no sense":        {`{"gender":3}`, provider.UserInfo{}},
		"gender of the wrong type":  {`{"gender":true,"nickName":"a"}`, provider.UserInfo{Nickname: "a"}},
		"fields of wrong types":     {`{"nickName":7,"avatarUrl":{},"gender":[],"city":1,"country":null}`, provider.UserInfo{}},
		"names in another case":     {`{"nickName":"a","NickName":"b","City":"c"}`, provider.UserInfo{Nickname: "a"}},
		"longest":                   {`{"nickName":"` + strings.Repeat("张", 128) + `"}`, provider.UserInfo{Nickname: strings.Repeat("张", 128)}},
		"emoji of many parts":       {`{"nickName":"👩‍👩‍👧"}`, provider.UserInfo{Nickname: "👩‍👩‍👧"}},
		"ids are not for here":      {`{"nickName":"a","openId":"o","unionId":"u","phoneNumber":"13580006666"}`, provider.UserInfo{Nickname: "a"}},
	} {
		if got, err := userInfo([]byte(test.plain)); err != nil || got != test.want {
			t.Errorf("%s: got %+v %v, want %+v", name, got, err, test.want)
		}
	}
}

// A nickname is text of a stranger: it breaks lines in logs, hides in terminals,
// and turns what stands beside it around (CVE-2021-42574).
func TestUserInfoLeavesOutTricks(t *testing.T) {
	for _, trick := range []string{
		`a\u0000b`, `a\r\nX-User: b`, `a\u001b[31m`, `a\u007f`, `a\u0085b`,
		`a\u202ab`, `a\u202eb`, `a\u2066b`, `a\u2069b`,
		`a\ud800`, strings.Repeat("x", 129), strings.Repeat("张", 129),
	} {
		for _, field := range []string{"nickName", "country", "province", "city", "language"} {
			got, err := userInfo(fmt.Appendf(nil, `{"gender":1,%q:"%s"}`, field, trick))
			if err != nil || got != (provider.UserInfo{Gender: "male"}) {
				t.Errorf("%s %s: got %+v %v", field, trick, got, err)
			}
		}
	}
}

// The address goes into pages: one of another scheme runs there as a script, and
// one of http is blocked in a page of https.
func TestAvatar(t *testing.T) {
	long := "https://a.example/" + strings.Repeat("x", longestURL)
	for address, want := range map[string]string{
		"http" + ownURL:                                    "https" + ownURL,
		"HTTP" + ownURL:                                    "https" + ownURL,
		"https" + ownURL:                                   "https" + ownURL,
		"http://THIRDWX.QLOGO.CN/a/0":                      "https://THIRDWX.QLOGO.CN/a/0",
		"https://a.example/b?c=d":                          "https://a.example/b?c=d",
		long[:longestURL]:                                  long[:longestURL],
		long[:longestURL+1]:                                "",
		greyURL:                                            "",
		strings.TrimSuffix(greyURL, "132"):                 "",
		strings.TrimSuffix(greyURL, "132") + "0":           "",
		strings.Replace(greyURL, "https", "http", 1):       "",
		strings.Replace(greyURL, "thirdwx", "wx", 1):       "",
		strings.Replace(greyURL, "thirdwx", "ThirdWX", 1):  "",
		strings.Replace(greyURL, ".cn/", ".cn:443/", 1):    "",
		strings.Replace(greyURL, "qlogo.cn", "example", 1): strings.Replace(greyURL, "qlogo.cn", "example", 1),
		"http://a.example/b":                               "",
		"http://qlogo.cn.example/b":                        "",
		"http://evilqlogo.cn/b":                            "",
		"http://wx.qlogo.cn:8080/b":                        "",
		"https://user:pass@a.example/b":                    "",
		"javascript:alert(1)":                              "",
		"data:image/png;base64,AAAA":                       "",
		"ftp" + ownURL:                                     "",
		"//wx.qlogo.cn/a/0":                                "",
		"wxfile://tmp_a.png":                               "",
		"https://":                                         "",
		"https:///a":                                       "",
		"https://a.example/b c":                            "",
		"https://a.example/\\u0000":                        "",
		"https://a.example/\\r\\nSet-Cookie:":              "",
		"https://a.example/\\u202e":                        "",
		"https://张三.example/":                              "",
		"https://a.example/%zz":                            "",
		"":                                                 "",
	} {
		got, err := userInfo([]byte(`{"gender":0,"avatarUrl":"` + address + `"}`))
		if err != nil || got != (provider.UserInfo{AvatarURL: want}) {
			t.Errorf("%q: got %+v %v, want %q", address, got, err, want)
		}
	}
}

// Open data is of many kinds, and the client says which it sends: steps or a
// group are no user information, and must not pass for that of a user who has
// none, whose name they would delete.
func TestUserInfoRefuses(t *testing.T) {
	for _, plain := range []string{
		"", "null", "[]", "{", `"nickName"`, `{}`,
		`{"stepInfoList":[{"timestamp":1445866601,"step":100}],"watermark":{}}`,
		`{"openGId":"tGXXX","watermark":{}}`,
		`{"phoneNumber":"13580006666","purePhoneNumber":"13580006666","countryCode":"86"}`,
		`{"nickname":"a","Gender":1}`,
		`{"nickName":null,"avatarUrl":null,"gender":null}`,
		`{"nickName":"a","nickName":"b"}`,
		`{"nickName":"a"}{}`,
	} {
		if got, err := userInfo([]byte(plain)); !errors.Is(err, provider.ErrData) || got != (provider.UserInfo{}) {
			t.Errorf("%s: got %+v %v", plain, got, err)
		}
	}
}

// What comes out is sane, whatever goes in.
func FuzzUserInfo(f *testing.F) {
	f.Add([]byte(officialPlain))
	f.Add([]byte(`{"nickName":"微信用户","avatarUrl":"` + greyURL + `","gender":"2"}`))
	f.Add([]byte(`{"nickName":"\u202e","city":"\ud800","avatarUrl":"http://a.qlogo.cn/\u0000"}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		info, err := userInfo(plain)
		if err != nil {
			if !errors.Is(err, provider.ErrData) || info != (provider.UserInfo{}) {
				t.Fatalf("%+v %v", info, err)
			}
			return
		}
		for _, text := range []string{info.Nickname, info.Country, info.Province, info.City, info.Language} {
			if !utf8.ValidString(text) || utf8.RuneCountInString(text) > 128 || strings.ContainsAny(text, "\x00\r\n\x7f\u202e\u2066") {
				t.Fatalf("%q", text)
			}
		}
		if u, err := url.Parse(info.AvatarURL); err != nil || info.AvatarURL != "" && (u.Scheme != "https" || u.Host == "" || len(info.AvatarURL) > longestURL) {
			t.Fatalf("%q", info.AvatarURL)
		}
		if info.Nickname == nobody || info.Gender != "" && info.Gender != "male" && info.Gender != "female" || info.Email+info.PhoneNumber+info.CountryCode != "" {
			t.Fatalf("%+v", info)
		}
	})
}
