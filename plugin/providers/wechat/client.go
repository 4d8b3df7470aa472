// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/minigate/minigate/module/provider"
)

const (
	// longestCode is the most bytes of a login code. WeChat's have 32 or 64; the
	// platform does not document the form.
	longestCode = 128

	// mockCode is what wx.login gives in the developer tools when the project has
	// no AppID of its own (touristappid).
	mockCode = "the code is a mock one"

	// longestID is the most bytes of an openid or unionid. WeChat's have 28.
	longestID = 128

	// sessionKeySize is the bytes of a session key, an AES-128 key, which comes as
	// base64.
	//
	// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html
	sessionKeySize = 16

	// minute is how long the platform asks a caller to wait that is over its
	// quota of calls a minute ("mustslower, retry next minute").
	minute = time.Minute
)

// reasons are the error codes of the call, and those that every call of the
// platform may give.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-login/code2Session.html
// https://developers.weixin.qq.com/doc/oplatform/Return_codes/Return_code_descriptions_new.html
var reasons = map[int64]provider.Reason{
	-1:    provider.Unavailable,   // system error, try again later
	40001: provider.Misconfigured, // invalid credential: an access token, which this call has not
	40002: provider.Misconfigured, // invalid grant_type
	40013: provider.Misconfigured, // invalid appid
	40014: provider.Misconfigured, // invalid access_token
	40029: provider.CodeInvalid,   // invalid code
	40090: provider.Misconfigured, // invalid request source (bad client ip)
	40097: provider.CodeMalformed, // invalid args
	40125: provider.Misconfigured, // invalid appsecret
	40163: provider.CodeUsed,      // code been used
	40164: provider.Misconfigured, // invalid ip, not in whitelist
	40226: provider.UserBlocked,   // code blocked: a user of high risk
	40243: provider.Misconfigured, // the AppSecret is frozen
	41001: provider.Misconfigured, // access_token missing
	41002: provider.Misconfigured, // appid missing
	41004: provider.Misconfigured, // appsecret missing
	41008: provider.CodeMalformed, // missing code
	42001: provider.Misconfigured, // access_token expired
	45011: provider.RateLimited,   // api minute-quota reach limit
	48001: provider.Misconfigured, // api unauthorized
	50002: provider.UserBlocked,   // user limited
}

// traceID is where an errmsg names the call, today as "rid: 62c3f1f2-0a1b2c3d-4e5f6a7b"
// and formerly as "hints: [ req_id: aBcD1234 ]".
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/openApi-mgnt/getRidInfo.html
var traceID = regexp.MustCompile(`\b(?:rid|req_id): ?([0-9A-Za-z_.-]{1,64})(?:[\s\],;]|$)`)

// client calls the platform for one mini-program. Its methods may be called
// concurrently.
type client struct {
	api    *provider.Client
	appID  string
	secret string
}

// exchange trades a login code for a grant (code2Session).
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-login/code2Session.html
func (c *client) exchange(ctx context.Context, code string) (provider.Grant, error) {
	if err := checkCode(code); err != nil {
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
	return c.read(answer, code)
}

// checkCode refuses what cannot be a login code.
func checkCode(code string) error {
	switch {
	case code == mockCode:
		return &provider.Error{
			Reason: provider.CodeInvalid,
			Err:    errors.New("checking the code: the developer tools made it up because they run without a real AppID"),
		}
	case !isWord(code, longestCode):
		return &provider.Error{
			Reason: provider.CodeMalformed,
			Err:    errors.New("checking the code: it must have 1 to 128 letters, digits, _ or -"),
		}
	}
	return nil
}

// read turns the platform's answer into a grant. errcode decides, and neither
// the status, which is 200 for refusals too, nor the content type, which is
// text/plain; what is not exactly a grant is none.
func (c *client) read(answer *provider.Answer, code string) (provider.Grant, error) {
	var none provider.Grant
	fields, err := answer.Fields()
	if err != nil {
		return none, err
	}
	errcode, err := fields.Int("errcode")
	if err != nil {
		return none, err
	}
	if errcode != 0 {
		return none, refusal(errcode, fields.Message("errmsg", c.secret, code))
	}
	var grant provider.Grant
	for _, field := range []struct {
		name  string
		value *string
		check func(string) bool
	}{
		{"openid", &grant.OpenID, isID},
		{"unionid", &grant.UnionID, func(id string) bool { return id == "" || isID(id) }},
		{"session_key", &grant.SessionKey, isSessionKey},
	} {
		if *field.value, err = fields.Text(field.name); err != nil {
			return none, err
		}
		if !field.check(*field.value) {
			return none, &provider.Error{
				Reason: provider.PlatformFault,
				Err:    errors.New("reading the answer: " + field.name + " is missing or has a wrong form"),
			}
		}
	}
	return grant, nil
}

// refusal is the error for an error code. message has been cleaned.
func refusal(errcode int64, message string) *provider.Error {
	e := &provider.Error{
		Reason:          reasons[errcode], // PlatformFault for one that is unknown
		PlatformCode:    strconv.FormatInt(errcode, 10),
		PlatformMessage: message,
	}
	if match := traceID.FindStringSubmatch(message); match != nil {
		e.TraceID = match[1]
	}
	if e.Reason == provider.RateLimited {
		e.RetryAfter = minute
	}
	return e
}

// isID reports whether s can be an openid or unionid.
func isID(s string) bool {
	return s != "" && len(s) <= longestID && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// isSessionKey reports whether s is a session key.
func isSessionKey(s string) bool {
	key, err := base64.StdEncoding.DecodeString(s)
	return err == nil && len(key) == sessionKeySize && len(s) == base64.StdEncoding.EncodedLen(sessionKeySize)
}
