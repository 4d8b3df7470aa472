// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/minigate/minigate/module/provider"
)

const (
	// sessionKeySize is the bytes of a session key, an AES-128 key, which comes as
	// base64.
	//
	// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html
	sessionKeySize = 16
)

// client calls the platform for one mini-program. Its methods may be called
// concurrently.
type client struct {
	api    *provider.Client
	appID  string
	secret string
}

// open returns what an answer says. errcode decides whether it is a refusal, and
// neither the status, which is 200 for refusals too, nor the content type, which
// may be text/plain. reasons are those of the call; hidden is what else than the
// secret an error must not show. The error is an *provider.Error.
func (c *client) open(answer *provider.Answer, reasons map[int64]provider.Reason, hidden ...string) (provider.Fields, error) {
	fields, err := answer.Fields()
	if err != nil {
		return nil, err
	}
	errcode, err := fields.Int("errcode")
	if err != nil {
		return nil, err
	}
	if errcode != 0 {
		return nil, refusal(reasons, errcode, fields.Message("errmsg", append(hidden, c.secret)...))
	}
	return fields, nil
}

// textField returns a field of an answer that must satisfy check. The error does not
// show what the field holds.
func textField(fields provider.Fields, name string, check func(string) bool) (string, error) {
	value, err := fields.Text(name)
	if err != nil {
		return "", err
	}
	if !check(value) {
		return "", wrongForm(name)
	}
	return value, nil
}

// wrongForm is the error for an answer of success with a field that cannot be
// used.
func wrongForm(name string) error {
	return &provider.Error{
		Reason: provider.PlatformFault,
		Err:    fmt.Errorf("reading the answer: %s is missing or has a wrong form", name),
	}
}

// tokenQuery is the query of a call that is made with an access token.
func tokenQuery(appToken string) url.Values { return url.Values{"access_token": {appToken}} }

// encode writes v, which can be encoded, as the body of a call. The platform
// refuses \u escapes in some of them (47002), so that there are none for the
// characters of HTML.
func encode(v any) ([]byte, error) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, &provider.Error{Err: errors.New("encoding the call: it has no JSON")}
	}
	return body.Bytes(), nil
}

// isSessionKey reports whether s is a session key.
func isSessionKey(s string) bool {
	key, err := base64.StdEncoding.DecodeString(s)
	return err == nil && len(key) == sessionKeySize && len(s) == base64.StdEncoding.EncodedLen(sessionKeySize)
}

// isVisible reports whether s has visible ASCII only, without spaces.
func isVisible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// isDigits reports whether s is least to most decimal digits.
func isDigits(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most && strings.Trim(s, "0123456789") == ""
}
