// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"go.uber.org/zap"
)

func init() { caddy.RegisterModule(Authenticator{}) }

// Authenticator is a provider for Caddy's own handler http.handlers.authentication:
// it recognizes users by the session token in the Authorization header. It is
// for configurations that combine several ways to authenticate.
//
// It sets no headers, signs nobody in, can guard only the routes it stands on, and
// does not end a WebSocket when its session ends; for all that, use the handler
// http.handlers.miniprogram.
type Authenticator struct {
	// The app ids of the programs whose users are accepted. Default: every
	// program that is configured.
	Programs []string `json:"programs,omitempty"`

	// What becomes the user's id, as for the handler: openid, unionid or
	// pseudonym. Default: openid.
	UserID string `json:"user_id,omitempty"`

	handler Handler
}

// CaddyModule returns the Caddy module information.
func (Authenticator) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.authentication.providers.miniprogram",
		New: func() caddy.Module { return new(Authenticator) },
	}
}

// Provision sets up the provider.
func (a *Authenticator) Provision(ctx caddy.Context) error {
	app, err := configuredApp(ctx)
	if err != nil {
		return err
	}
	allowed, err := app.selectPrograms(a.Programs)
	if err != nil {
		return err
	}
	a.handler = Handler{
		UserID:  a.UserID,
		app:     app,
		allowed: allowed,
		logger:  ctx.Logger(),
		metrics: app.metrics,
		owner:   new(int),
		headers: new(headerSet),
	}
	return nil
}

// Validate reports a configuration that can never work.
func (a *Authenticator) Validate() error {
	if a.UserID != "" && !slices.Contains(userIDs, a.UserID) {
		return fmt.Errorf("user_id must be one of %s, not %q", strings.Join(userIDs, ", "), a.UserID)
	}
	return nil
}

// Authenticate implements caddyauth.Authenticator. The metadata are platform,
// program, openid, unionid, phone, nickname, session and auth_time.
func (a *Authenticator) Authenticate(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	a.handler.clean(r)
	cred, failure := a.handler.readCredential(r)
	if failure != nil || cred.token == "" {
		return caddyauth.User{}, false, nil
	}
	v, failure := a.handler.authenticate(r, &cred)
	switch {
	case failure != nil && failure.Status >= http.StatusInternalServerError:
		return caddyauth.User{}, false, failure
	case failure != nil:
		setErrorHeader(w.Header(), failure)
		a.handler.logger.Debug("session refused", zap.String("error", failure.Word))
		return caddyauth.User{}, false, nil
	}
	cred.removeFrom(r)
	return caddyauth.User{
		ID: v.claims.ID,
		Metadata: map[string]string{
			"platform":  v.claims.Platform,
			"program":   v.claims.Program,
			"openid":    v.claims.OpenID,
			"unionid":   v.claims.UnionID,
			"phone":     v.claims.Phone(),
			"nickname":  v.claims.Nickname(),
			"session":   v.claims.SessionID,
			"auth_time": strconv.FormatInt(v.claims.AuthTime.Unix(), 10),
		},
	}, true, nil
}

// Interface guards
var (
	_ caddy.Provisioner       = (*Authenticator)(nil)
	_ caddy.Validator         = (*Authenticator)(nil)
	_ caddyauth.Authenticator = (*Authenticator)(nil)
)
