// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"encoding/json"
	"net/http"
	"time"
)

// weChatConsent is what a phone code stands for.
type weChatConsent struct {
	Phone
	// given is when the user pressed the button.
	given time.Time
}

// weChatPhoneInfo is the phone number in the answer of getPhoneNumber.
type weChatPhoneInfo struct {
	PhoneNumber     string          `json:"phoneNumber"`
	PurePhoneNumber string          `json:"purePhoneNumber"`
	CountryCode     string          `json:"countryCode"`
	Watermark       weChatWatermark `json:"watermark"`
}

// weChatPhoneAnswer is the answer of getPhoneNumber.
type weChatPhoneAnswer struct {
	weChatStatus
	PhoneInfo weChatPhoneInfo `json:"phone_info"`
}

// sharePhone implements platform. Phone codes are 64 hexadecimal digits.
func (w *weChat) sharePhone(phone Phone) (string, error) {
	p, now := w.programs[phone.Program], w.now()
	code := randomText(hexadecimal, 64)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phones.issue(now, code, weChatConsent{Phone: phone, given: now})
	return code, nil
}

// phoneNumber exchanges the code of the getPhoneNumber button, which is not a
// login code. A call that names an openid wants to be sure that the code is of
// that user
// (https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-info/phone-number/getPhoneNumber.html).
func (w *weChat) phoneNumber(c *call) (any, error) {
	if c.request.Method != http.MethodPost {
		return nil, errWeChatMustPost
	}
	program, err := w.tokenProgram(c)
	if err != nil {
		return nil, err
	}
	var body struct {
		Code   string `json:"code"`
		OpenID string `json:"openid"`
	}
	if err := json.Unmarshal(c.body, &body); err != nil {
		return nil, errWeChatDataFormat
	}
	if w.isPhoneCodeOfAnother(program, body.Code) {
		return nil, errWeChatInvalidAppID
	}
	return program.exchangePhone(w.now(), body.Code, body.OpenID)
}

// exchangePhone spends a phone code. One that is used, unknown or of another
// user than openID is invalid; the latter stays fresh for its own user.
func (p *weChatProgram) exchangePhone(now time.Time, code, openID string) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	consent, state := p.phones.find(now, code)
	if state != codeFresh || (openID != "" && openID != p.identityOf(consent.User).OpenID) {
		return nil, errWeChatInvalidCode
	}
	p.phones.spend(code)
	return weChatPhoneAnswer{weChatOK, weChatPhoneInfo{
		PhoneNumber:     consent.fullNumber(),
		PurePhoneNumber: consent.Number,
		CountryCode:     consent.CountryCode,
		Watermark:       weChatWatermark{Timestamp: consent.given.Unix(), AppID: p.AppID},
	}}, nil
}

// fullNumber returns the number with its country code where it is foreign to
// China.
func (c weChatConsent) fullNumber() string {
	if c.CountryCode == "86" {
		return c.Number
	}
	return c.CountryCode + c.Number
}

// isPhoneCodeOfAnother reports whether a code belongs to another program.
func (w *weChat) isPhoneCodeOfAnother(program *weChatProgram, code string) bool {
	now := w.now()
	for _, other := range w.programs {
		if other != program && other.knowsPhoneCode(now, code) {
			return true
		}
	}
	return false
}

// knowsPhoneCode reports whether this program issued a phone code that has not
// expired.
func (p *weChatProgram) knowsPhoneCode(now time.Time, code string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, state := p.phones.find(now, code)
	return state != codeUnknown
}
