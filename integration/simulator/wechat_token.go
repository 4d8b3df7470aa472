// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

const (
	// weChatTokenLife is how long an access token is made for.
	weChatTokenLife = 7200 * time.Second
	// weChatTokenOverlap is how long an old and a new token work side by side.
	weChatTokenOverlap = 5 * time.Minute
	// weChatForcePause is the shortest time between two forced refreshes, and
	// weChatForceLimit how many there may be in a day.
	weChatForcePause = 30 * time.Second
	weChatForceLimit = 20
)

// chinaTime is the time zone in which WeChat's days begin.
var chinaTime = time.FixedZone("CST", 8*60*60)

// weChatTokens are the access tokens of one program that one of the two
// interfaces issues. They are isolated: each interface knows its own only. Not
// safe for concurrent use.
type weChatTokens struct {
	latest  string
	expires time.Time
	// previous works until previousEnd beside the latest.
	previous    string
	previousEnd time.Time
	// forced is when a refresh was last forced, and forcedToday how often on
	// that day.
	forced      time.Time
	forcedToday int
}

// holds reports whether a token that has not expired is still one of these.
func (t *weChatTokens) holds(now time.Time, token string) bool {
	return token == t.latest || (token == t.previous && now.Before(t.previousEnd))
}

// replace makes token the latest one. The one before it lives on for overlap,
// but not longer than it would have.
func (t *weChatTokens) replace(now time.Time, token string, overlap time.Duration) {
	t.previous, t.previousEnd = t.latest, now.Add(overlap)
	if t.expires.Before(t.previousEnd) {
		t.previousEnd = t.expires
	}
	t.latest, t.expires = token, now.Add(weChatTokenLife)
}

// left returns for how many seconds the latest token works.
func (t *weChatTokens) left(now time.Time) int {
	return int(t.expires.Sub(now) / time.Second)
}

// weChatToken is the answer with an access token.
type weChatToken struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
}

// token issues a new access token with every call
// (https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-access-token/getAccessToken.html).
func (w *weChat) token(c *call) (any, error) {
	program, err := w.tokenClient(c.query.Get("appid"), c.query.Get("secret"), c.query.Get("grant_type"))
	if err != nil {
		return nil, err
	}
	now := w.now()
	program.mu.Lock()
	defer program.mu.Unlock()
	program.plain.replace(now, w.newToken(program, now), weChatTokenOverlap)
	return weChatToken{program.plain.latest, program.plain.left(now)}, nil
}

// stableToken returns the access token in force, and issues one when there is
// none or less than five minutes are left of it
// (https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-access-token/getStableAccessToken.html).
func (w *weChat) stableToken(c *call) (any, error) {
	if c.request.Method != http.MethodPost {
		return nil, errWeChatMustPost
	}
	var body struct {
		GrantType    string `json:"grant_type"`
		AppID        string `json:"appid"`
		Secret       string `json:"secret"`
		ForceRefresh bool   `json:"force_refresh"`
	}
	if err := json.Unmarshal(c.body, &body); err != nil {
		return nil, errWeChatDataFormat
	}
	program, err := w.tokenClient(body.AppID, body.Secret, body.GrantType)
	if err != nil {
		return nil, err
	}
	now := w.now()
	program.mu.Lock()
	defer program.mu.Unlock()
	if body.ForceRefresh {
		err = w.forceToken(program, now)
	} else {
		w.renewToken(program, now)
	}
	return weChatToken{program.stable.latest, program.stable.left(now)}, err
}

// renewToken sees to it that a program has a stable token for at least five
// minutes. The caller holds the program's lock.
func (w *weChat) renewToken(p *weChatProgram, now time.Time) {
	if p.stable.expires.Sub(now) <= weChatTokenOverlap {
		p.stable.replace(now, w.newToken(p, now), weChatTokenOverlap)
	}
}

// forceToken replaces the stable token of a program; the old one dies at once.
// Within half a minute of the last time it does nothing. The caller holds the
// program's lock.
func (w *weChat) forceToken(p *weChatProgram, now time.Time) error {
	if now.Sub(p.stable.forced) < weChatForcePause {
		w.renewToken(p, now)
		return nil
	}
	if !sameDay(now, p.stable.forced) {
		p.stable.forcedToday = 0
	}
	if p.stable.forcedToday >= weChatForceLimit {
		return errWeChatDailyLimit
	}
	p.stable.forced = now
	p.stable.forcedToday++
	p.stable.replace(now, w.newToken(p, now), 0)
	return nil
}

// sameDay reports whether two times fall on one day in China.
func sameDay(a, b time.Time) bool {
	return a.In(chinaTime).Format(time.DateOnly) == b.In(chinaTime).Format(time.DateOnly)
}

// tokenClient returns the program that asks for a token.
func (w *weChat) tokenClient(appID, secret, grantType string) (*weChatProgram, error) {
	switch {
	case appID == "":
		return nil, errWeChatAppIDMissing
	case secret == "":
		return nil, errWeChatSecretMissing
	case grantType != "client_credential":
		return nil, errWeChatInvalidGrantType
	}
	return w.authenticate(appID, secret)
}

const (
	tokenPrefix    = "88_"
	tokenTimeSize  = 8
	tokenNonceSize = 48
	tokenFixedSize = tokenTimeSize + tokenNonceSize + sha256.Size
)

// newToken makes an access token: its end, random bytes, the app id, and a MAC
// of these. To the program it is just text.
func (w *weChat) newToken(p *weChatProgram, now time.Time) string {
	payload := binary.BigEndian.AppendUint64(nil, uint64(now.Add(weChatTokenLife).Unix()))
	payload = append(payload, randomBytes(tokenNonceSize)...)
	payload = append(payload, p.AppID...)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(payload, w.tokenMAC(payload)...))
}

// tokenMAC authenticates the payload of an access token.
func (w *weChat) tokenMAC(payload []byte) []byte {
	mac := hmac.New(sha256.New, w.tokenKey)
	mac.Write(payload)
	return mac.Sum(nil)
}

// openToken returns whose token it is and when it ends. The error is that of
// text that was never a token of ours.
func (w *weChat) openToken(token string) (appID string, end time.Time, err error) {
	text, prefixed := strings.CutPrefix(token, tokenPrefix)
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if !prefixed || err != nil || len(raw) <= tokenFixedSize {
		return "", time.Time{}, errWeChatMalformedToken
	}
	payload, mac := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	if !hmac.Equal(mac, w.tokenMAC(payload)) {
		return "", time.Time{}, errWeChatInvalidCredential
	}
	seconds := int64(binary.BigEndian.Uint64(payload))
	return string(payload[tokenTimeSize+tokenNonceSize:]), time.Unix(seconds, 0), nil
}

// tokenAppID returns the app id of the token in the query.
func (w *weChat) tokenAppID(c *call) string {
	appID, _, err := w.openToken(c.query.Get("access_token"))
	if err != nil {
		return ""
	}
	return appID
}

// tokenProgram returns the program whose access token is in the query.
// 40014 is the error of text that cannot be a token, 42001 of a token whose
// time is over, 40001 of one that a newer token has replaced.
func (w *weChat) tokenProgram(c *call) (*weChatProgram, error) {
	token := c.query.Get("access_token")
	if token == "" {
		return nil, errWeChatTokenMissing
	}
	appID, end, err := w.openToken(token)
	if err != nil {
		return nil, err
	}
	program, now := w.programs[appID], w.now()
	if program == nil {
		return nil, errWeChatInvalidCredential
	}
	if !now.Before(end) {
		return nil, errWeChatTokenExpired
	}
	program.mu.Lock()
	defer program.mu.Unlock()
	if !program.plain.holds(now, token) && !program.stable.holds(now, token) {
		return nil, errWeChatInvalidCredential
	}
	return program, nil
}
