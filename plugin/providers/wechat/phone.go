// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"errors"
	"strings"

	"github.com/minigate/minigate/module/provider"
)

// phoneByCode trades the code of the button for telephone numbers, which is not a
// login code (getPhoneNumber). The platform is told the openid, so that it
// refuses the code of another user.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-info/phone-number/getPhoneNumber.html
func (c *client) phoneByCode(ctx context.Context, appToken, code, openID string) (provider.PhoneNumber, error) {
	var none provider.PhoneNumber
	if err := checkCode(code); err != nil {
		return none, err
	}
	if !provider.IsID(openID) {
		return none, &provider.Error{Err: errors.New("asking for a telephone number: the user has no openid")}
	}
	body, err := encode(struct {
		Code   string `json:"code"`
		OpenID string `json:"openid"`
	}{code, openID})
	if err != nil {
		return none, err
	}
	answer, err := c.api.Post(ctx, "/wxa/business/getuserphonenumber", tokenQuery(appToken), "application/json", body)
	if err != nil {
		return none, err
	}
	return c.readPhone(answer, appToken, code, openID)
}

// readPhone turns the answer of getPhoneNumber into a number. hidden is what an
// error must not show.
func (c *client) readPhone(answer *provider.Answer, hidden ...string) (provider.PhoneNumber, error) {
	var none provider.PhoneNumber
	fields, err := c.open(answer, phoneReasons, hidden...)
	if err != nil {
		return none, err
	}
	info, err := fields.Object("phone_info")
	if err != nil {
		return none, err
	}
	mark, err := info.Object("watermark")
	if err != nil {
		return none, err
	}
	if _, err := textField(mark, "appid", func(id string) bool { return id == c.appID || !mark.Has("appid") }); err != nil {
		return none, err
	}
	number, ok := phoneNumber(info)
	if !ok {
		return none, wrongForm("phone_info")
	}
	return number, nil
}

// phoneNumber returns the number in an object as the platform writes it, in an
// answer and in encrypted data alike: purePhoneNumber is without the country code.
func phoneNumber(fields provider.Fields) (number provider.PhoneNumber, ok bool) {
	pure, err := fields.Text("purePhoneNumber")
	if err != nil || !isDigits(pure, 4, 15) {
		return number, false
	}
	// Documented as a string, and a number in the platform's own examples.
	country := string(fields["countryCode"])
	if strings.HasPrefix(country, `"`) {
		if country, err = fields.Text("countryCode"); err != nil {
			return number, false
		}
	}
	if !isDigits(country, 1, 4) {
		return number, false
	}
	return provider.PhoneNumber{Number: pure, CountryCode: country}, true
}

// plainPhoneNumber reads a number from data that decrypt opened.
//
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/getPhoneNumber.html
func plainPhoneNumber(plain []byte) (provider.PhoneNumber, error) {
	fields, err := provider.DecodeFields(plain)
	number, ok := phoneNumber(fields)
	if err != nil || !ok {
		return provider.PhoneNumber{}, provider.ErrData
	}
	return number, nil
}
