// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"

	"github.com/minigate/minigate/module/provider"
)

// checkSessionKey asks whether a session key is in force (checkSessionKey).
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-login/checkSessionKey.html
func (c *client) checkSessionKey(ctx context.Context, appToken string, holder provider.Holder) error {
	fields, err := c.callSigned(ctx, "/wxa/checksession", appToken, holder)
	if err != nil {
		return err
	}
	if !fields.Has("errcode") {
		return wrongForm("errcode") // the one thing that says yes
	}
	return nil
}

// resetSessionKey has the platform replace a session key, which must be in force
// (ResetUserSessionKey). The new one ends when the old one would have.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-login/ResetUserSessionKey.html
func (c *client) resetSessionKey(ctx context.Context, appToken string, holder provider.Holder) (string, error) {
	fields, err := c.callSigned(ctx, "/wxa/resetusersessionkey", appToken, holder)
	if err != nil {
		return "", err
	}
	if _, err := textField(fields, "openid", func(id string) bool { return id == holder.OpenID || !fields.Has("openid") }); err != nil {
		return "", err
	}
	return textField(fields, "session_key", isSessionKey)
}

// callSigned makes a call that proves with a signature of nothing that we have
// the holder's session key. A holder without one is refused without a call.
func (c *client) callSigned(ctx context.Context, path, appToken string, holder provider.Holder) (provider.Fields, error) {
	if !provider.IsID(holder.OpenID) || !isSessionKey(holder.SessionKey) {
		return nil, &provider.Error{Reason: provider.KeyStale, Err: errors.New("signing the call: the user has no session key")}
	}
	signature := sign(holder.SessionKey, "")
	query := tokenQuery(appToken)
	query.Set("openid", holder.OpenID)
	query.Set("signature", signature)
	query.Set("sig_method", "hmac_sha256")
	answer, err := c.api.Get(ctx, path, query)
	if err != nil {
		return nil, err
	}
	return c.open(answer, sessionKeyReasons, appToken, holder.OpenID, holder.SessionKey, signature)
}

// sign signs a message with a session key: HMAC-SHA256 in lower-case hex. The key
// is the text of the session key and not the bytes that it encodes; whoever takes
// these gets 87009 for ever.
//
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html
func sign(sessionKey, message string) string {
	mac := hmac.New(sha256.New, []byte(sessionKey))
	mac.Write([]byte(message))
	return hex.EncodeToString(mac.Sum(nil))
}
