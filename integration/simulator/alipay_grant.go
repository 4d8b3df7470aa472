// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	alipayAppTokenMethod = "alipay.open.auth.token.app"

	// How long the tokens of a merchant are said to live, as seen. In fact they
	// live on (https://opendocs.alipay.com/isv/04h3uf).
	alipayAppTokenSeconds   = 31536000
	alipayAppRefreshSeconds = 32140800
	// alipayAppCodeLifetime is how long a merchant's code works.
	alipayAppCodeLifetime = 24 * time.Hour
	maxAlipayGrants       = 10_000
)

// alipayGrant is a merchant's leave for a third-party application to act for
// his program.
type alipayGrant struct {
	// merchant and app are the app ids of the merchant's program and of the
	// third-party application.
	merchant, app string
	code          string
	codeUsed      bool
	given         time.Time
	token         string
	refresh       string
}

// alipayGrants are the grants in force. They are safe for concurrent use.
type alipayGrants struct {
	mu   sync.Mutex
	list []*alipayGrant
}

// Grant is what a merchant's leave consists of.
type Grant struct {
	// AppAuthCode is what the third-party application exchanges for the token.
	AppAuthCode string `json:"app_auth_code"`
	// AppAuthToken is that token. It is the same for the same two programs.
	AppAuthToken string `json:"app_auth_token"`
}

// Grant gives the third-party application app the leave to act for merchant;
// both are programs of the simulator. The error wraps ErrInvalid or
// ErrUnknownProgram.
func (s *Simulator) Grant(merchant, app string) (Grant, error) {
	a, _, err := s.alipayOf(merchant)
	if err != nil {
		return Grant{}, err
	}
	if _, _, err := s.alipayOf(app); err != nil {
		return Grant{}, err
	}
	if merchant == app {
		return Grant{}, fmt.Errorf("%w: a program needs no leave to act for itself", ErrInvalid)
	}
	grant := &alipayGrant{
		merchant: merchant,
		app:      app,
		code:     randomText(hexadecimal, 32),
		given:    a.now(),
		token:    "202601BB" + digestText(32, "app_auth_token", merchant, app),
		refresh:  "202601BB" + digestText(32, "app_refresh_token", merchant, app),
	}
	a.grants.mu.Lock()
	defer a.grants.mu.Unlock()
	a.grants.list = slices.DeleteFunc(a.grants.list, func(g *alipayGrant) bool {
		return g.merchant == merchant && g.app == app
	})
	if len(a.grants.list) >= maxAlipayGrants {
		return Grant{}, fmt.Errorf("%w: there are %d grants in force already", ErrInvalid, maxAlipayGrants)
	}
	a.grants.list = append(a.grants.list, grant)
	return Grant{AppAuthCode: grant.code, AppAuthToken: grant.token}, nil
}

// findOwner finds whose users a call is about: those of the caller, or those of
// the merchant whose token the caller has
// (https://opendocs.alipay.com/isv/04h3uf).
func (a *alipay) findOwner(r *alipayRequest) error {
	r.owner = r.program
	token := r.params["app_auth_token"]
	if token == "" {
		return nil
	}
	a.grants.mu.Lock()
	defer a.grants.mu.Unlock()
	for _, grant := range a.grants.list {
		if grant.token == token && grant.app == r.program.AppID {
			r.owner = a.programs[grant.merchant]
			return nil
		}
	}
	return alipayError{subCode: "aop.invalid-app-auth-token"}
}

// alipayAppToken is a token in the answer of alipay.open.auth.token.app.
type alipayAppToken struct {
	AppAuthToken    string `json:"app_auth_token"`
	AppRefreshToken string `json:"app_refresh_token"`
	AuthAppID       string `json:"auth_app_id"`
	UserID          string `json:"user_id"`
	ExpiresIn       int    `json:"expires_in"`
	ReExpiresIn     int    `json:"re_expires_in"`
}

// alipayAppTokens is the answer of alipay.open.auth.token.app. The token is
// there twice, at the top and in the list.
type alipayAppTokens struct {
	Code string `json:"code"`
	Msg  string `json:"msg"`
	alipayAppToken
	Tokens []alipayAppToken `json:"tokens"`
}

// appToken is alipay.open.auth.token.app: it exchanges the code of a merchant's
// leave, or renews the token (https://opendocs.alipay.com/isv/04h3uf). It looks
// at biz_content alone.
func (a *alipay) appToken(r *alipayRequest) (any, error) {
	var content struct {
		GrantType    string `json:"grant_type"`
		Code         string `json:"code"`
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(r.params["biz_content"]), &content); err != nil {
		return nil, alipayError{subCode: "isv.invalid-parameter"}
	}
	a.grants.mu.Lock()
	defer a.grants.mu.Unlock()
	now := a.now()
	find := func(fits func(*alipayGrant) bool) *alipayGrant {
		i := slices.IndexFunc(a.grants.list, func(g *alipayGrant) bool { return g.app == r.program.AppID && fits(g) })
		if i < 0 {
			return nil
		}
		return a.grants.list[i]
	}
	switch content.GrantType {
	case "authorization_code":
		grant := find(func(g *alipayGrant) bool {
			return g.code == content.Code && !g.codeUsed && now.Before(g.given.Add(alipayAppCodeLifetime))
		})
		if grant == nil {
			return nil, alipayError{subCode: "isv.code-invalid"}
		}
		grant.codeUsed = true
		return grant.tokens(), nil
	case "refresh_token":
		grant := find(func(g *alipayGrant) bool { return g.refresh == content.RefreshToken })
		if grant == nil {
			return nil, alipayError{subCode: "isv.refresh-token-invalid"}
		}
		return grant.tokens(), nil
	default:
		return nil, alipayError{subCode: "isv.grant-type-invalid"}
	}
}

// tokens writes a grant.
func (g *alipayGrant) tokens() alipayAppTokens {
	token := alipayAppToken{
		AppAuthToken:    g.token,
		AppRefreshToken: g.refresh,
		AuthAppID:       g.merchant,
		UserID:          "2088" + digestDigits(12, "alipay merchant", g.merchant),
		ExpiresIn:       alipayAppTokenSeconds,
		ReExpiresIn:     alipayAppRefreshSeconds,
	}
	return alipayAppTokens{
		Code: "10000", Msg: alipayMessages["10000"],
		alipayAppToken: token, Tokens: []alipayAppToken{token},
	}
}
