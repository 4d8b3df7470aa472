// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"errors"
	"net/url"

	"github.com/minigate/minigate/module/provider"
)

const (
	// longestCode is the most bytes of a code, of wx.login or of the button for
	// telephone numbers. WeChat's have 32 or 64; the platform does not document
	// the form.
	longestCode = 128

	// mockCode is what wx.login gives in the developer tools when the project has
	// no AppID of its own (touristappid).
	mockCode = "the code is a mock one"
)

// exchange trades a login code for a grant (code2Session).
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-login/code2Session.html
func (c *client) exchange(ctx context.Context, code string) (provider.Grant, error) {
	if err := checkLoginCode(code); err != nil {
		return provider.Grant{}, err
	}
	answer, err := c.api.Get(ctx, "/sns/jscode2session", url.Values{
		"appid":      {c.appID},
		"secret":     {c.secret},
		"js_code":    {code},
		"grant_type": {"authorization_code"},
	})
	if err != nil {
		return provider.Grant{}, err
	}
	return c.readGrant(answer, code)
}

// readGrant turns the answer of code2Session into a grant; what is not exactly a
// grant is none.
func (c *client) readGrant(answer *provider.Answer, code string) (provider.Grant, error) {
	var none, grant provider.Grant
	fields, err := c.open(answer, loginReasons, code)
	if err != nil {
		return none, err
	}
	if grant.OpenID, err = textField(fields, "openid", provider.IsID); err != nil {
		return none, err
	}
	if grant.UnionID, err = textField(fields, "unionid", func(id string) bool { return id == "" || provider.IsID(id) }); err != nil {
		return none, err
	}
	if grant.SessionKey, err = textField(fields, "session_key", isSessionKey); err != nil {
		return none, err
	}
	return grant, nil
}

// checkLoginCode refuses what cannot be a login code.
func checkLoginCode(code string) error {
	if code == mockCode {
		return &provider.Error{
			Reason: provider.CodeInvalid,
			Err:    errors.New("checking the code: the developer tools made it up because they run without a real AppID"),
		}
	}
	return checkCode(code)
}

// checkCode refuses what cannot be a code.
func checkCode(code string) error {
	if !provider.IsWord(code, longestCode) {
		return &provider.Error{
			Reason: provider.CodeMalformed,
			Err:    errors.New("checking the code: it must have 1 to 128 letters, digits, _ or -"),
		}
	}
	return nil
}
