// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"container/list"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"time"
)

// weChatUser is a user who signed in to a program.
type weChatUser struct {
	Identity
	// key is the one valid session key: base64 of 16 bytes.
	key string
	// made is when the key was made, and expires when it ends.
	made, expires time.Time
	// unclaimed is set while no code has been exchanged for the key.
	unclaimed bool
}

// weChatUsers are the users of a program with a session key, by openid. The
// one that signed in longest ago goes when there are too many. It is not safe
// for concurrent use.
type weChatUsers struct {
	limit    int
	byOpenID map[string]*list.Element
	// latest holds the users, those who signed in last in front.
	latest *list.List
}

// newWeChatUsers makes room for limit users.
func newWeChatUsers(limit int) weChatUsers {
	return weChatUsers{limit: limit, byOpenID: make(map[string]*list.Element), latest: list.New()}
}

// find returns the user, or nil without a session key in force.
func (u *weChatUsers) find(now time.Time, openID string) *weChatUser {
	element := u.byOpenID[openID]
	if element == nil {
		return nil
	}
	user := element.Value.(*weChatUser)
	if !now.Before(user.expires) {
		return nil
	}
	return user
}

// signIn gives a user a session key: a new one, unless the last one is younger
// than the shortest period of the program. A user has one valid key at a time,
// whose life is extended by use
// (https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html).
func (u *weChatUsers) signIn(now time.Time, identity Identity, program Program) *weChatUser {
	user := u.find(now, identity.OpenID)
	if user == nil {
		user = u.enter(identity)
	}
	u.latest.MoveToFront(u.byOpenID[identity.OpenID])
	if !user.unclaimed && (user.key == "" || now.Sub(user.made) >= program.SessionKeyPeriod) {
		user.key, user.made = newWeChatKey(), now
	}
	user.unclaimed = false
	user.expires = now.Add(program.SessionKeyLifetime)
	return user
}

// meet gives a user who obtains a login code his first session key: with it his
// phone encrypts data before anybody has exchanged the code.
func (u *weChatUsers) meet(now time.Time, identity Identity, program Program) {
	if u.find(now, identity.OpenID) != nil {
		return
	}
	user := u.enter(identity)
	user.key, user.made, user.unclaimed = newWeChatKey(), now, true
	user.expires = now.Add(program.SessionKeyLifetime)
}

// enter makes an entry for a user without a key.
func (u *weChatUsers) enter(identity Identity) *weChatUser {
	user := &weChatUser{Identity: identity}
	if element := u.byOpenID[identity.OpenID]; element != nil {
		element.Value = user
		return user
	}
	if u.latest.Len() >= u.limit {
		oldest := u.latest.Remove(u.latest.Back()).(*weChatUser)
		delete(u.byOpenID, oldest.OpenID)
	}
	u.byOpenID[identity.OpenID] = u.latest.PushFront(user)
	return user
}

// newWeChatKey makes a session key.
func newWeChatKey() string {
	return base64.StdEncoding.EncodeToString(randomBytes(16))
}

// identityOf derives who a user is to this program. An openid is 28 characters
// that begin with o; its first ones are alike for all users of a program. A
// unionid has the same form and is the same in all programs.
func (p *weChatProgram) identityOf(user string) Identity {
	identity := Identity{
		OpenID: "o" + digestText(5, "program", p.AppID) + digestText(22, "openid", p.AppID, user),
	}
	if !p.NoUnionID {
		identity.UnionID = "o" + digestText(27, "unionid", user)
	}
	return identity
}

// digestText returns n characters of A-Z a-z 0-9 - _ that depend on parts
// alone. n is at most 43.
func digestText(n int, parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		hash.Write([]byte(part))
		hash.Write([]byte{0})
	}
	return base64.RawURLEncoding.EncodeToString(hash.Sum(nil))[:n]
}

// identity implements platform.
func (w *weChat) identity(program, user string) Identity {
	return w.programs[program].identityOf(user)
}

// sessionKey implements platform.
func (w *weChat) sessionKey(program, user string) (string, error) {
	p := w.programs[program]
	p.mu.Lock()
	defer p.mu.Unlock()
	found := p.users.find(w.now(), p.identityOf(user).OpenID)
	if found == nil {
		return "", ErrNoSessionKey
	}
	return found.key, nil
}

// keySignature signs a message with a session key: HMAC-SHA256 in lower-case
// hex, keyed with the base64 text of the session key, not with what it encodes
// (https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html).
func keySignature(sessionKey, message string) string {
	mac := hmac.New(sha256.New, []byte(sessionKey))
	mac.Write([]byte(message))
	return hex.EncodeToString(mac.Sum(nil))
}

// checkSession says whether a session key is the user's valid one
// (https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-login/checkSessionKey.html).
func (w *weChat) checkSession(c *call) (any, error) {
	err := w.withSignedKey(c, errWeChatInvalidSignature, func(*weChatUser) {})
	return weChatOK, err
}

// weChatNewKey is the answer of ResetUserSessionKey.
type weChatNewKey struct {
	weChatStatus
	OpenID     string `json:"openid"`
	SessionKey string `json:"session_key"`
}

// resetSessionKey replaces a user's session key. The new one ends when the old
// one would have
// (https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-login/ResetUserSessionKey.html).
func (w *weChat) resetSessionKey(c *call) (any, error) {
	result := weChatNewKey{weChatStatus: weChatOK}
	err := w.withSignedKey(c, errWeChatNoSessionKey, func(user *weChatUser) {
		user.key, user.made = newWeChatKey(), w.now()
		result.OpenID, result.SessionKey = user.OpenID, user.key
	})
	return result, err
}

// withSignedKey calls act with the user that a call names, if the call proves
// with a signature of the empty string that its caller holds the session key
// in force. noKey is the error where there is none. act holds the program's
// lock.
func (w *weChat) withSignedKey(c *call, noKey weChatError, act func(*weChatUser)) error {
	program, err := w.tokenProgram(c)
	if err != nil {
		return err
	}
	openID, signature := c.query.Get("openid"), c.query.Get("signature")
	if openID == "" || signature == "" {
		return errWeChatInvalidArgs
	}
	if c.query.Get("sig_method") != "hmac_sha256" {
		return errWeChatInvalidSigMethod
	}
	program.mu.Lock()
	defer program.mu.Unlock()
	user := program.users.find(w.now(), openID)
	if user == nil {
		return noKey
	}
	if !hmac.Equal([]byte(signature), []byte(keySignature(user.key, ""))) {
		return errWeChatInvalidSignature
	}
	act(user)
	return nil
}
