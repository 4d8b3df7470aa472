// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/provider"
)

func init() { caddy.RegisterModule(Admin{}) }

// Admin is the gateway's part of Caddy's admin endpoint. It takes no
// configuration; who may use the endpoint is Caddy's to say.
//
// A user is named in the body, so that his id is in no log:
//
//	POST /miniprogram/users/export            what is kept of a user
//	POST /miniprogram/users/erase             removes it, and ends his sessions
//	POST /miniprogram/users/reset_session_key has the platform replace his session key
//
// with {"program":"<app id>","openid":"<openid>"}. In the place of openid an id
// that the user had before he had one will do, too. For a program that is not
// configured any more, "platform" is required.
type Admin struct {
	app    *App
	logger *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.miniprogram", New: func() caddy.Module { return new(Admin) }}
}

// Provision finds the app, which need not be configured.
func (a *Admin) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	if app, err := configuredApp(ctx); err == nil {
		a.app = app
	}
	return nil
}

// Routes implements caddy.AdminRouter.
func (a *Admin) Routes() []caddy.AdminRoute {
	routes := make([]caddy.AdminRoute, 0, len(adminActions))
	for name, action := range adminActions {
		routes = append(routes, caddy.AdminRoute{
			Pattern: "/miniprogram/users/" + name,
			Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error { return a.serve(w, r, name, action) }),
		})
	}
	return routes
}

// adminUser is the user whom a call is about.
type adminUser struct {
	identity.Identity
	runtime *runtime
	program *program // nil if it is not configured
}

// adminActions are what can be done with a user. The result is the JSON of the
// answer; nil for none.
var adminActions = map[string]func(*Admin, *http.Request, *adminUser) (any, error){
	"export":            (*Admin).export,
	"erase":             (*Admin).erase,
	"reset_session_key": (*Admin).resetKey,
}

// serve answers one call and leaves a line of audit.
func (a *Admin) serve(w http.ResponseWriter, r *http.Request, name string, action func(*Admin, *http.Request, *adminUser) (any, error)) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("method not allowed")}
	}
	user, err := a.user(r)
	if err != nil {
		return err
	}
	result, err := action(a, r, user)
	a.logger.Info("admin call", zap.String("action", name), zap.String("program", user.Program),
		zap.String("user", user.runtime.keys.Digest(user.Subject())), zap.String("remote", r.RemoteAddr), zap.Error(err))
	switch {
	case errors.Is(err, errNobody):
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
	case errors.Is(err, errNoKey), errors.Is(err, errUnable), isReason(err, provider.KeyStale):
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
	case err != nil:
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
	case result == nil:
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return writeJSON(w, http.StatusOK, result)
}

// user reads whom a call is about.
func (a *Admin) user(r *http.Request) (*adminUser, error) {
	bad := func(err error) error { return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err} }
	if a.app == nil {
		return nil, bad(errors.New("the miniprogram app is not configured"))
	}
	var body struct {
		Platform string `json:"platform"`
		Program  string `json:"program"`
		OpenID   string `json:"openid"`
	}
	data, failure := readObject(r, false)
	if failure != nil {
		return nil, caddy.APIError{HTTPStatus: failure.Status, Err: failure}
	}
	if err := json.Unmarshal(data, &body); err != nil {
		return nil, bad(errInvalidRequest)
	}
	if body.Program == "" || body.OpenID == "" {
		return nil, bad(errors.New("program and openid are required"))
	}
	p := a.app.programs[body.Program]
	switch {
	case p != nil && body.Platform != "" && body.Platform != p.platform:
		return nil, bad(fmt.Errorf("program %s is of platform %s", p.appID, p.platform))
	case p != nil:
		body.Platform = p.platform
	case body.Platform == "":
		return nil, bad(fmt.Errorf("program %s is not configured; say of which platform it is", body.Program))
	}
	rt, err := a.app.runtime()
	if err != nil {
		return nil, caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
	}
	user, err := rt.directory.resolve(r.Context(), body.Platform, body.Program, body.OpenID)
	if err != nil {
		return nil, caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
	}
	return &adminUser{user, rt, p}, nil
}

func (a *Admin) export(r *http.Request, user *adminUser) (any, error) {
	return user.runtime.export(r.Context(), user.Identity)
}

func (a *Admin) erase(r *http.Request, user *adminUser) (any, error) {
	// A mistyped id must not look like somebody who is gone.
	_, unknown := user.runtime.export(r.Context(), user.Identity)
	if err := user.runtime.erase(r.Context(), user.Identity); err != nil {
		return nil, err
	}
	if errors.Is(unknown, errNobody) {
		return nil, errNobody
	}
	return nil, nil
}

func (a *Admin) resetKey(r *http.Request, user *adminUser) (any, error) {
	if user.program == nil {
		return nil, errUnable
	}
	o := &opener{app: a.app, rt: user.runtime, p: user.program, user: user.Identity}
	return nil, o.resetKey(r.Context(), user.Subject())
}

// Interface guards
var (
	_ caddy.Provisioner = (*Admin)(nil)
	_ caddy.AdminRouter = (*Admin)(nil)
)
