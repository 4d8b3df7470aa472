// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/provider"
)

func init() { caddy.RegisterModule(Admin{}) }

// Admin is the gateway's part of Caddy's admin endpoint. It takes no
// configuration; who may use the endpoint is Caddy's to say.
//
// Users and sessions are named in the body, so that they are in no log:
//
//	POST /miniprogram/sessions/list           who is signed in
//	POST /miniprogram/sessions/inspect        what there is to know of a session, a token or a user
//	POST /miniprogram/sessions/revoke         ends a session, or those of a user, a program or everyone
//	POST /miniprogram/users/export            what is kept of a user
//	POST /miniprogram/users/erase             removes it, and ends his sessions
//	POST /miniprogram/users/reset_session_key has the platform replace his session key
//	POST /miniprogram/check                   tries out store and programs
//	GET  /miniprogram/programs                how the programs and their platforms do
//	GET  /miniprogram/keys                    which keys there are, and which other gateways
//	POST /miniprogram/keys/rotate             replaces the key that signs identities for upstreams
//	POST /miniprogram/store/migrate           copies the store to another one; GET and DELETE go with it
//
// Each call leaves a line in the log. A body with a member that is not known, or
// that says nothing, is refused: whoever mistypes a name must not do more than he
// wanted to.
type Admin struct {
	logger *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.miniprogram", New: func() caddy.Module { return new(Admin) }}
}

// Provision sets up the module. The app need not be configured.
func (a *Admin) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	return nil
}

// adminAction is something that can be done by the admin endpoint.
type adminAction struct {
	method string
	// do does it. The result is the JSON of the answer; nil for none.
	do func(*adminCall) (any, error)
}

// adminActions by their paths below adminPath.
var adminActions = map[string]adminAction{
	"sessions/list":           {http.MethodPost, listSessions},
	"sessions/inspect":        {http.MethodPost, inspectSessions},
	"sessions/revoke":         {http.MethodPost, revokeSessions},
	"users/export":            {http.MethodPost, exportUser},
	"users/erase":             {http.MethodPost, eraseUser},
	"users/reset_session_key": {http.MethodPost, resetKeyOfUser},
	"check":                   {http.MethodPost, checkGateway},
	"programs":                {http.MethodGet, showPrograms},
	"keys":                    {http.MethodGet, showKeys},
	"keys/rotate":             {http.MethodPost, rotateKeys},
}

const adminPath = "/miniprogram/"

// Routes implements caddy.AdminRouter.
func (a *Admin) Routes() []caddy.AdminRoute {
	routes := make([]caddy.AdminRoute, 0, len(adminActions))
	for name, action := range adminActions {
		routes = append(routes, caddy.AdminRoute{
			Pattern: adminPath + name,
			Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error { return a.serve(w, r, name, action) }),
		})
	}
	return append(routes, a.migrationRoute())
}

// adminCall is one call of the admin endpoint.
type adminCall struct {
	*http.Request
	app *App
	*runtime
	// told are fields of the line that the call leaves in the log.
	told []zap.Field
}

// tell adds to the line that the call leaves in the log.
func (c *adminCall) tell(fields ...zap.Field) { c.told = append(c.told, fields...) }

// Failures of admin calls that are not those of a client.
var (
	errNotRunning   = errors.New("the miniprogram app is not configured, or does not run yet")
	errAdminMethod  = errors.New("method not allowed")
	errNoSuchThing  = errors.New("there is no such session")
	errNothingKnown = errors.New("the program is not configured; say of which platform it is")
)

// callError says that a call is not understood. It does not repeat what it was,
// which may be what no log should have.
type callError string

// Error implements error.
func (e callError) Error() string { return string(e) }

// serve answers one call and leaves a line in the log.
func (a *Admin) serve(w http.ResponseWriter, r *http.Request, name string, action adminAction) error {
	w.Header().Set("Cache-Control", "no-store")
	call := &adminCall{Request: r}
	result, err := call.run(action)
	status := adminStatus(result, err)
	fields := []zap.Field{zap.String("action", name), zap.Int("status", status), zap.String("remote", r.RemoteAddr)}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		admin := r.TLS.PeerCertificates[0]
		fields = append(fields, zap.String("admin", admin.Subject.String()), zap.String("admin_serial", admin.SerialNumber.Text(16)))
	}
	a.logger.Info("admin call", slices.Concat(fields, call.told, []zap.Field{zap.Error(err)})...)
	switch {
	case errors.Is(err, errAdminMethod):
		w.Header().Set("Allow", action.method)
	case err == nil && result == nil:
		w.WriteHeader(status)
		return nil
	case err == nil:
		return writeJSON(w, status, result)
	}
	return caddy.APIError{HTTPStatus: status, Err: err}
}

// run does what the call asks for.
func (c *adminCall) run(action adminAction) (result any, err error) {
	if c.Method != action.method {
		return nil, errAdminMethod
	}
	if c.app = running.last(); c.app == nil {
		return nil, errNotRunning
	}
	if c.runtime, err = c.app.runtime(); err != nil {
		return nil, err
	}
	return action.do(c)
}

// adminStatus returns the HTTP status of an answer.
func adminStatus(result any, err error) int {
	if failure, ok := errors.AsType[*Error](err); ok {
		return failure.Status
	}
	_, bad := errors.AsType[callError](err)
	switch {
	case bad, errors.Is(err, errNothingKnown):
		return http.StatusBadRequest
	case errors.Is(err, errAdminMethod):
		return http.StatusMethodNotAllowed
	case errors.Is(err, errNobody), errors.Is(err, errNoSuchThing):
		return http.StatusNotFound
	case errors.Is(err, errNoKey), errors.Is(err, errUnable), isReason(err, provider.KeyStale), isMigrationConflict(err):
		return http.StatusConflict
	case err != nil:
		return http.StatusServiceUnavailable
	case result == nil:
		return http.StatusNoContent
	default:
		return http.StatusOK
	}
}

// programName names a program in a body.
type programName struct {
	Platform string `json:"platform"`
	Program  string `json:"program"`
}

// userName names a user in a body. In the place of openid an id that he had
// before he had one will do, too. Of a program that is not configured any more
// the platform is required.
type userName struct {
	programName
	OpenID string `json:"openid"`
}

// findProgram completes the name of a program; p is nil if it is not configured.
func (c *adminCall) findProgram(name *programName) (p *program, err error) {
	p = c.app.programs[name.Program]
	switch {
	case p == nil && name.Platform == "":
		return nil, errNothingKnown
	case p == nil:
		// Whatever was typed in there, it may be an openid.
		c.tell(zap.String("program_digest", c.keys.Digest(name.Program)))
		return nil, nil
	case name.Platform != "" && name.Platform != p.platform:
		return nil, callError("the program is of another platform: " + p.platform)
	}
	name.Platform = p.platform
	c.tell(zap.String("program", p.appID))
	return p, nil
}

// Interface guards
var (
	_ caddy.Provisioner = (*Admin)(nil)
	_ caddy.AdminRouter = (*Admin)(nil)
)
