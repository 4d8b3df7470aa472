// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"net/url"
	"strings"

	"github.com/minigate/minigate/module/provider"
)

const (
	// longestURL is the most bytes of a picture's address.
	longestURL = 1024

	// nobody is the nickname that the platform has given to everybody since
	// 2022-10-25, and greyAvatar where the picture is that it gives with it; a
	// size follows.
	//
	// https://developers.weixin.qq.com/community/develop/doc/00022c683e8a80b29bed2142b56c01
	nobody     = "微信用户"
	greyAvatar = "/mmopen/vi_32/POgEwh4mIHO4nibH0KlMECNjjGxQUq24ZEaGT4poC6icRiccVGKSyXwibcPq4BWmiaIGuG1icwxaQX6grC9VemZoJ8rg/"
)

// userInfo reads user information as wx.getUserInfo and wx.getUserProfile give
// it. The error is provider.ErrData if the data is of another kind, such as steps
// or a telephone number.
//
// https://developers.weixin.qq.com/miniprogram/dev/api/open-api/user-info/UserInfo.html
func userInfo(plain []byte) (provider.UserInfo, error) {
	fields, err := provider.DecodeFields(plain)
	if err != nil || !fields.Has("nickName") && !fields.Has("avatarUrl") && !fields.Has("gender") {
		return provider.UserInfo{}, provider.ErrData
	}
	return provider.UserInfo{
		Nickname:  nickname(fields.Line("nickName")),
		AvatarURL: avatar(fields),
		Gender:    gender(fields),
		Country:   fields.Line("country"),
		Province:  fields.Line("province"),
		City:      fields.Line("city"),
		Language:  fields.Line("language"),
	}, nil
}

// nickname leaves out the name that is nobody's.
func nickname(name string) string {
	if name == nobody {
		return ""
	}
	return name
}

// gender translates the platform's number, which some clients write as a string.
func gender(fields provider.Fields) string {
	number, err := fields.Int("gender")
	switch {
	case err == nil && number == 1:
		return "male"
	case err == nil && number == 2:
		return "female"
	default:
		return ""
	}
}

// avatar returns the https address of the user's picture. The platform's own host
// used to give http addresses, and serves them by https as well.
func avatar(fields provider.Fields) string {
	address, err := fields.Text("avatarUrl")
	if err != nil || len(address) > longestURL || !isVisible(address) {
		return ""
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return ""
	}
	host := strings.ToLower(u.Hostname())
	switch {
	case (host == "thirdwx.qlogo.cn" || host == "wx.qlogo.cn") && strings.HasPrefix(u.Path, greyAvatar):
		return ""
	case u.Scheme == "https", u.Scheme == "http" && u.Port() == "" && strings.HasSuffix(host, ".qlogo.cn"):
		return "https" + address[len(u.Scheme):]
	default:
		return ""
	}
}
