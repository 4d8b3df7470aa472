// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	weChatLoginPath        = "/sns/jscode2session"
	weChatCheckSessionPath = "/wxa/checksession"
	weChatResetKeyPath     = "/wxa/resetusersessionkey"
	weChatTokenPath        = "/cgi-bin/token"
	weChatStableTokenPath  = "/cgi-bin/stable_token"
	weChatPhonePath        = "/wxa/business/getuserphonenumber"
)

// weChat is api.weixin.qq.com as far as the servers of mini-programs sign in
// users through it.
type weChat struct {
	now      func() time.Time
	programs map[string]*weChatProgram
	// tokenKey signs access tokens, so that an expired one is told from one
	// that never was without remembering either.
	tokenKey []byte
}

// weChatProgram is a mini-program with all that WeChat knows about it.
type weChatProgram struct {
	Program

	secret atomic.Pointer[string] // in force
	mu     sync.Mutex
	logins codeBook[string]
	phones codeBook[weChatConsent]
	users  weChatUsers
	plain  weChatTokens
	stable weChatTokens
}

// newWeChat makes WeChat with the programs of config.
func newWeChat(config Config) (platform, error) {
	w := &weChat{
		now:      config.Now,
		programs: make(map[string]*weChatProgram),
		tokenKey: randomBytes(32),
	}
	for _, program := range config.Programs {
		p := &weChatProgram{
			Program: program,
			logins:  newCodeBook[string](program.CodeLifetime, config.MaxCodes),
			phones:  newCodeBook[weChatConsent](program.CodeLifetime, config.MaxCodes),
			users:   newWeChatUsers(config.MaxUsers),
		}
		p.secret.Store(&program.Secret)
		w.programs[program.AppID] = p
	}
	return w, nil
}

// endpoints implements platform.
func (w *weChat) endpoints() map[string]endpoint {
	return map[string]endpoint{
		weChatLoginPath:        {program: queryAppID, serve: w.serve(w.code2Session)},
		weChatCheckSessionPath: {program: w.tokenAppID, serve: w.serve(w.checkSession)},
		weChatResetKeyPath:     {program: w.tokenAppID, serve: w.serve(w.resetSessionKey)},
		weChatTokenPath:        {program: queryAppID, serve: w.serve(w.token)},
		weChatStableTokenPath:  {program: bodyAppID, inBody: true, serve: w.serve(w.stableToken)},
		weChatPhonePath:        {program: w.tokenAppID, serve: w.serve(w.phoneNumber)},
	}
}

// serve makes what handle returns into an answer. Errors have HTTP status 200,
// like everything that api.weixin.qq.com says.
func (w *weChat) serve(handle func(*call) (any, error)) func(*call) answer {
	return func(c *call) answer {
		result, err := handle(c)
		if err != nil {
			return w.refusal(c.path(), err)
		}
		return weChatAnswer(c.path(), result)
	}
}

// weChatAnswer writes result as the interface at path does: code2Session says
// that its JSON is text/plain
// (https://developers.weixin.qq.com/community/develop/doc/000c464f6501d82b074d5f5055b000).
func weChatAnswer(path string, result any) answer {
	contentType := "application/json"
	if path == weChatLoginPath {
		contentType = "text/plain"
	}
	return answer{status: http.StatusOK, contentType: contentType, body: encodeJSON(result)}
}

// queryAppID returns the app id in the query.
func queryAppID(c *call) string { return c.query.Get("appid") }

// bodyAppID returns the app id in a JSON body.
func bodyAppID(c *call) string {
	var body struct {
		AppID string `json:"appid"`
	}
	if err := json.Unmarshal(c.body, &body); err != nil {
		return ""
	}
	return body.AppID
}

// authenticate returns the program that proves itself with its secret.
func (w *weChat) authenticate(appID, secret string) (*weChatProgram, error) {
	program := w.programs[appID]
	if program == nil {
		return nil, errWeChatInvalidAppID
	}
	if subtle.ConstantTimeCompare([]byte(*program.secret.Load()), []byte(secret)) != 1 {
		return nil, errWeChatInvalidSecret
	}
	return program, nil
}

// weChatSession is the answer of code2Session, in the order of the wire.
type weChatSession struct {
	SessionKey string `json:"session_key"`
	OpenID     string `json:"openid"`
	UnionID    string `json:"unionid,omitempty"`
}

// code2Session exchanges a login code. It reads the query alone: parameters in
// a form are missing to it
// (https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-login/code2Session.html).
func (w *weChat) code2Session(c *call) (any, error) {
	appID, secret, code := c.query.Get("appid"), c.query.Get("secret"), c.query.Get("js_code")
	switch {
	case appID == "":
		return nil, errWeChatAppIDMissing
	case secret == "":
		return nil, errWeChatSecretMissing
	case code == "":
		return nil, errWeChatCodeMissing
	case c.query.Get("grant_type") != "authorization_code":
		return nil, errWeChatInvalidGrantType
	}
	program, err := w.authenticate(appID, secret)
	if err != nil {
		return nil, err
	}
	return program.exchange(w.now(), code)
}

// exchange spends a login code of this program. The codes of another one are
// unknown to it.
func (p *weChatProgram) exchange(now time.Time, code string) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name, state := p.logins.find(now, code)
	switch state {
	case codeUnknown:
		return nil, errWeChatInvalidCode
	case codeUsed:
		return nil, errWeChatCodeUsed
	}
	p.logins.spend(code)
	user := p.users.signIn(now, p.identityOf(name), p.Program)
	return weChatSession{SessionKey: user.key, OpenID: user.OpenID, UnionID: user.UnionID}, nil
}

// login implements platform. Like the codes that phones obtain, it is 32
// letters and digits that begin with 0.
func (w *weChat) login(program, user string, scopes []string) (string, error) {
	if len(scopes) > 0 {
		return "", fmt.Errorf("%w: a login code of WeChat has no scopes", ErrInvalid)
	}
	p := w.programs[program]
	code := "0" + randomText(alphanumeric, 31)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logins.issue(w.now(), code, user)
	p.users.meet(w.now(), p.identityOf(user), p.Program)
	return code, nil
}

// rewrite implements platform.
func (w *weChat) rewrite(a answer, change func(any) any) answer {
	a.body = rewriteJSON(a.body, change)
	return a
}

// Interface guard
var _ platform = (*weChat)(nil)
