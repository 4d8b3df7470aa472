// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	alipayTokenMethod = "alipay.system.oauth.token"

	// The lifetimes of the tokens of a user, as in all answers that were seen.
	alipayTokenLifetime   = 1296000 * time.Second
	alipayRefreshLifetime = 2592000 * time.Second

	alipayScopeBase = "auth_base"
	alipayScopeUser = "auth_user"
)

// alipayConsent is what a user agreed to: what a code or a token stands for.
type alipayConsent struct {
	user   string
	scopes []string
	given  time.Time
	// access and refresh are the tokens given out for it.
	access, refresh string
}

// checkAlipayScopes returns an error where my.getAuthCode has none of them.
func checkAlipayScopes(scopes []string) error {
	for i, scope := range scopes {
		if scope == "" {
			return errors.New("a scope must not be empty")
		}
		if slices.Contains(scopes[:i], scope) {
			return fmt.Errorf("the scope %q is there twice", scope)
		}
	}
	return nil
}

// alipayToken is the answer of alipay.system.oauth.token: with numbers, without
// code and msg (https://opendocs.alipay.com/open/02ailc).
type alipayToken struct {
	AccessToken string `json:"access_token"`
	// AlipayUserID is deprecated and not the user id.
	AlipayUserID string `json:"alipay_user_id,omitempty"`
	AuthStart    string `json:"auth_start"`
	ExpiresIn    int64  `json:"expires_in"`
	ReExpiresIn  int64  `json:"re_expires_in"`
	RefreshToken string `json:"refresh_token"`
	alipayIDs
}

// token is alipay.system.oauth.token (https://opendocs.alipay.com/open/02ailc).
func (a *alipay) token(r *alipayRequest) (any, error) {
	switch r.params["grant_type"] {
	case "authorization_code":
		return r.owner.exchange(a.now(), r.params["code"])
	case "refresh_token":
		return r.owner.refreshToken(a.now(), r.params["refresh_token"])
	default:
		return nil, alipayError{subCode: "isv.grant-type-invalid"}
	}
}

// exchange spends a code of this program. A code that is unknown, used, expired
// or of another program is invalid: they are not told apart.
func (p *alipayProgram) exchange(now time.Time, code string) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	consent, state := p.codes.find(now, code)
	if state != codeFresh {
		return nil, alipayError{subCode: "isv.code-invalid"}
	}
	p.codes.spend(code)
	consent.given = now
	return p.grant(now, consent), nil
}

// refreshToken replaces both tokens of a user; the old ones die at once. How
// long they can be refreshed at all does not change.
func (p *alipayProgram) refreshToken(now time.Time, token string) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	consent, state := p.refresh.find(now, token)
	switch {
	case state != codeFresh:
		return nil, alipayError{subCode: "isv.refresh-token-invalid"}
	case !now.Before(consent.given.Add(alipayRefreshLifetime)):
		return nil, alipayError{subCode: "isv.refresh-token-time-out"}
	}
	p.refresh.spend(token)
	p.access.spend(consent.access)
	return p.grant(now, consent), nil
}

// grant gives out tokens for a consent. The caller holds the lock.
func (p *alipayProgram) grant(now time.Time, consent alipayConsent) alipayToken {
	prefix := alipayTokenPrefix(consent.scopes)
	consent.access = prefix + randomText(alphanumeric, 40-len(prefix))
	consent.refresh = prefix + randomText(alphanumeric, 40-len(prefix))
	p.access.issue(now, consent.access, consent)
	p.refresh.issue(now, consent.refresh, consent)
	result := alipayToken{
		AccessToken:  consent.access,
		AuthStart:    now.In(alipayZone).Format(alipayTime),
		ExpiresIn:    int64(alipayTokenLifetime / time.Second),
		ReExpiresIn:  int64(consent.given.Add(alipayRefreshLifetime).Sub(now) / time.Second),
		RefreshToken: consent.refresh,
		alipayIDs:    p.idsOf(consent.user),
	}
	if result.UserID != "" {
		result.AlipayUserID = "2088" + digestDigits(28, "alipay_user_id", consent.user)
	}
	return result
}

// alipayTokenPrefix returns how a token of these scopes begins, as seen.
func alipayTokenPrefix(scopes []string) string {
	switch {
	case len(scopes) > 1:
		return "composeB"
	case scopes[0] == alipayScopeBase:
		return "authbseB"
	default:
		return "authusrB"
	}
}
