// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// weChatError is an errcode of WeChat
// (https://developers.weixin.qq.com/doc/oplatform/Return_codes/Return_code_descriptions_new.html).
type weChatError int

// The errcodes that the simulator answers of its own accord.
const (
	errWeChatInvalidCredential weChatError = 40001
	errWeChatInvalidGrantType  weChatError = 40002
	errWeChatInvalidAppID      weChatError = 40013
	errWeChatMalformedToken    weChatError = 40014
	errWeChatInvalidCode       weChatError = 40029
	errWeChatInvalidArgs       weChatError = 40097
	errWeChatInvalidSecret     weChatError = 40125
	errWeChatCodeUsed          weChatError = 40163
	errWeChatTokenMissing      weChatError = 41001
	errWeChatAppIDMissing      weChatError = 41002
	errWeChatSecretMissing     weChatError = 41004
	errWeChatCodeMissing       weChatError = 41008
	errWeChatTokenExpired      weChatError = 42001
	errWeChatMustPost          weChatError = 43002
	errWeChatDailyLimit        weChatError = 45009
	errWeChatDataFormat        weChatError = 47001
	errWeChatNoSessionKey      weChatError = 87007
	errWeChatInvalidSigMethod  weChatError = 87008
	errWeChatInvalidSignature  weChatError = 87009
)

// weChatMessages are the usual errmsgs, without the trace id.
var weChatMessages = map[weChatError]string{
	-1:    "system error",
	0:     "ok",
	40001: "invalid credential, access_token is invalid or not latest, could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r",
	40002: "invalid grant_type",
	40003: "invalid openid",
	40013: "invalid appid",
	40014: "invalid access_token",
	40029: "invalid code",
	40066: "invalid url",
	40090: "invalid request source (bad client ip)",
	40097: "invalid args",
	40125: "invalid appsecret",
	40163: "code been used",
	40164: "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist",
	40226: "code blocked",
	40243: "AppSecret frozen",
	41001: "access_token missing",
	41002: "appid missing",
	41004: "appsecret missing",
	41008: "missing code",
	42001: "access_token expired",
	42007: "access_token and refresh_token exception",
	43002: "require POST method",
	44002: "empty post data",
	45009: "reach max api daily quota limit",
	45011: "api minute-quota reach limit, mustslower, retry next minute",
	47001: "data format error",
	47002: "data format error, do NOT use json unicode encode (\\uxxxx\\uxxxx), please use utf8 encoded text",
	48001: "api unauthorized",
	48017: "the ip of the api host is no longer in service",
	50002: "user limited",
	50004: "api forbidden",
	50007: "account frozen",
	61004: "access clientip is not registered",
	87007: "session_key is not existed or expired",
	87008: "invalid sig_method",
	87009: "invalid signature",
	89503: "this ip needs the confirmation of the administrator",
	89506: "this ip was refused by the administrator twice within 24 hours",
	89507: "this ip was refused by the administrator within 1 hour",
}

// Error implements error.
func (e weChatError) Error() string {
	if message, known := weChatMessages[e]; known {
		return message
	}
	return "error " + strconv.Itoa(int(e))
}

// weChatStatus is the answer of an interface that has nothing else to say.
type weChatStatus struct {
	Errcode int    `json:"errcode"`
	Errmsg  string `json:"errmsg"`
}

// weChatOK is the status of success.
var weChatOK = weChatStatus{Errcode: 0, Errmsg: "ok"}

// refusal answers an error of an interface.
func (w *weChat) refusal(path string, err error) answer {
	code := weChatError(-1)
	errors.As(err, &code)
	return w.refusalWith(path, code, code.Error())
}

// refusalWith answers an errcode. The message carries a trace id of three
// groups, the first of which is the time
// (https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/openApi-mgnt/getRidInfo.html).
func (w *weChat) refusalWith(path string, code weChatError, message string) answer {
	if code != 0 {
		random := randomBytes(8)
		message = fmt.Sprintf("%s, rid: %08x-%08x-%08x", message, w.now().Unix(),
			binary.BigEndian.Uint32(random), binary.BigEndian.Uint32(random[4:]))
	}
	return weChatAnswer(path, weChatStatus{Errcode: int(code), Errmsg: message})
}

// checkCode implements platform.
func (w *weChat) checkCode(code string) error {
	if _, err := strconv.Atoi(code); err != nil {
		return fmt.Errorf("an errcode of WeChat is a whole number, not %q", code)
	}
	return nil
}

// refuse implements platform.
func (w *weChat) refuse(c *call, code, message string) answer {
	number, err := strconv.Atoi(code)
	if err != nil {
		return htmlPage(http.StatusInternalServerError)
	}
	errcode := weChatError(number)
	return w.refusalWith(c.path(), errcode, orDefault(message, errcode.Error()))
}
