// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"time"

	"github.com/minigate/minigate/module/provider"
)

const (
	// longestToken is the most bytes of an access token. The platform asks its
	// users to have room for 512.
	longestToken = 2048

	// longestTokenLife is the longest that an access token can be good for: twice
	// what the platform documents, in seconds.
	longestTokenLife = 2 * 7200
)

// token asks for the access token in force, which the platform renews five
// minutes before its end (getStableAccessToken). It is never forced to: that ends
// the token of the other nodes, and can be done 20 times a day.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-access-token/getStableAccessToken.html
func (c *client) token(ctx context.Context) (token string, lifetime time.Duration, err error) {
	body, err := encode(struct {
		GrantType    string `json:"grant_type"`
		AppID        string `json:"appid"`
		Secret       string `json:"secret"`
		ForceRefresh bool   `json:"force_refresh"`
	}{"client_credential", c.appID, c.secret, false})
	if err != nil {
		return "", 0, err
	}
	answer, err := c.api.Post(ctx, "/cgi-bin/stable_token", nil, "application/json", body)
	if err != nil {
		return "", 0, err
	}
	return c.readToken(answer)
}

// readToken turns the answer of getStableAccessToken into a token.
func (c *client) readToken(answer *provider.Answer) (token string, lifetime time.Duration, err error) {
	fields, err := c.open(answer, reasons)
	if err != nil {
		return "", 0, err
	}
	token, err = textField(fields, "access_token", func(s string) bool {
		return s != "" && len(s) <= longestToken && isVisible(s)
	})
	if err != nil {
		return "", 0, err
	}
	seconds, err := fields.Int("expires_in")
	if err != nil {
		return "", 0, err
	}
	if seconds < 1 || seconds > longestTokenLife {
		return "", 0, wrongForm("expires_in")
	}
	return token, time.Duration(seconds) * time.Second, nil
}
