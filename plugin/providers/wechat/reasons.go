// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"maps"
	"regexp"
	"strconv"
	"time"

	"github.com/minigate/minigate/module/provider"
)

// What the error codes mean. Those in reasons may come from every call; the
// other tables add to it for some calls, or say what differs there.
//
// https://developers.weixin.qq.com/doc/oplatform/Return_codes/Return_code_descriptions_new.html
var (
	reasons = map[int64]provider.Reason{
		-1:    provider.Unavailable,   // system error, try again later
		40001: provider.Misconfigured, // invalid credential: the AppSecret, where the call has no access token
		40002: provider.Misconfigured, // invalid grant_type
		40013: provider.Misconfigured, // invalid appid
		40014: provider.Misconfigured, // invalid access_token
		40090: provider.Misconfigured, // invalid request source (bad client ip)
		40125: provider.Misconfigured, // invalid appsecret
		40164: provider.Misconfigured, // invalid ip, not in whitelist
		40226: provider.UserBlocked,   // code blocked: a user of high risk
		40243: provider.Misconfigured, // the AppSecret is frozen
		41001: provider.Misconfigured, // access_token missing
		41002: provider.Misconfigured, // appid missing
		41004: provider.Misconfigured, // appsecret missing
		42001: provider.Misconfigured, // access_token expired
		43002: provider.Misconfigured, // require POST method
		45009: provider.RateLimited,   // reach max api daily quota limit
		45011: provider.RateLimited,   // api minute-quota reach limit
		47001: provider.Misconfigured, // data format error
		48001: provider.Misconfigured, // api unauthorized
		50002: provider.UserBlocked,   // user limited
		50004: provider.Misconfigured, // api forbidden
		50007: provider.Misconfigured, // account frozen
		89503: provider.Misconfigured, // this ip needs the confirmation of the administrator
		89506: provider.Misconfigured, // this ip was refused for 24 hours
		89507: provider.Misconfigured, // this ip was refused for 1 hour
	}

	// codeReasons are of calls with a code that came from the client.
	codeReasons = map[int64]provider.Reason{
		40029: provider.CodeInvalid,   // invalid code
		40097: provider.CodeMalformed, // invalid args
		40163: provider.CodeUsed,      // code been used
		41008: provider.CodeMalformed, // missing code
	}

	// appTokenReasons are of calls with an access token. The platform looks at
	// the token before anything else, so that nothing has happened.
	appTokenReasons = map[int64]provider.Reason{
		40001: provider.TokenRejected, // invalid credential, access_token is invalid or not latest
		40014: provider.TokenRejected, // invalid access_token
		42001: provider.TokenRejected, // access_token expired
	}

	// programReasons are of getPhoneNumber, where a client brings them about: the
	// code is of a button in another mini-program.
	programReasons = map[int64]provider.Reason{
		40013: provider.CodeInvalid, // invalid appid
	}

	// signatureReasons are of calls that are signed with a session key.
	signatureReasons = map[int64]provider.Reason{
		40097: provider.Misconfigured, // invalid args
		87007: provider.KeyStale,      // session_key is not existed or expired
		87008: provider.Misconfigured, // invalid sig_method
		87009: provider.KeyStale,      // invalid signature
	}

	// The tables of the calls.
	loginReasons      = with(codeReasons)
	phoneReasons      = with(codeReasons, appTokenReasons, programReasons)
	sessionKeyReasons = with(appTokenReasons, signatureReasons)
)

// with returns reasons with those of other tables, of which the last one counts.
func with(tables ...map[int64]provider.Reason) map[int64]provider.Reason {
	all := maps.Clone(reasons)
	for _, table := range tables {
		maps.Copy(all, table)
	}
	return all
}

// waits are how long the platform has a caller wait that is over a quota: that
// of a minute ("mustslower, retry next minute"), or that of a day, which begins
// anew at midnight in China, and which the operator can have cleared before.
var waits = map[int64]time.Duration{45009: time.Hour, 45011: time.Minute}

// traceID is where an errmsg names the call, today as "rid: 62c3f1f2-0a1b2c3d-4e5f6a7b"
// and formerly as "hints: [ req_id: aBcD1234 ]".
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/openApi-mgnt/getRidInfo.html
var traceID = regexp.MustCompile(`\b(?:rid|req_id): ?([0-9A-Za-z_.-]{1,64})(?:[\s\],;]|$)`)

// refusal is the error for an error code of a call with these reasons. message
// has been cleaned.
func refusal(reasons map[int64]provider.Reason, errcode int64, message string) *provider.Error {
	e := &provider.Error{
		Reason:          reasons[errcode], // PlatformFault for one that is unknown
		PlatformCode:    strconv.FormatInt(errcode, 10),
		PlatformMessage: message,
		RetryAfter:      waits[errcode],
	}
	if match := traceID.FindStringSubmatch(message); match != nil {
		e.TraceID = match[1]
	}
	return e
}
