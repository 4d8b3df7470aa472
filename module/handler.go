// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

func init() { caddy.RegisterModule(Handler{}) }

// Handler lets only signed-in users of mini-programs through to the handlers
// after it, and tells those who the user is.
//
// It cleans every request of headers by which a client could claim to be
// somebody, serves the endpoints by which clients sign in and out, validates
// the session that a request shows, sets the identity headers, and provides the
// placeholders {http.auth.user.id}, .platform, .program, .openid, .unionid,
// .phone, .phone_e164, .nickname, .avatar_url, .session, .auth_time,
// .verified.<field> and .stated.<field>, which are empty where unknown.
//
// A request without a valid session is answered 401 with a JSON object, or
// handed to the site's error routes, if it has any. WebSockets and event streams
// end with the session that opened them.
type Handler struct {
	// The app ids of the programs whose users are served here. Default: every
	// program that is configured.
	Programs []string `json:"programs,omitempty"`

	// The path below which the gateway's own endpoints are. Default:
	// /miniprogram.
	Endpoints string `json:"endpoints,omitempty"`

	// Requests that need no session. A valid session is honoured there, a bad
	// one ignored.
	PublicRaw caddyhttp.RawMatcherSets `json:"public,omitempty" caddy:"namespace=http.matchers"`

	// Whether requests without a session are served, as those of nobody. A bad
	// session is refused all the same.
	Optional bool `json:"optional,omitempty"`

	// What the upstream is told as the user's id: openid, unionid or pseudonym.
	// With unionid, users without one are refused. Default: openid.
	UserID string `json:"user_id,omitempty"`

	// The presets of identity headers to send: user, cloudrun, remote_user,
	// forwarded_user. Default: user.
	Headers []string `json:"headers,omitempty"`

	// More headers to send. Values may hold placeholders; a header whose value
	// is empty is not sent. Clients cannot set these headers.
	ExtraHeaders []ExtraHeader `json:"extra_headers,omitempty"`

	// Whether upstreams get the identity in a signed form, too. Default: no.
	Assertion *Assertion `json:"assertion,omitempty"`

	// Requests whose bodies carry open data of a platform (encrypted for the
	// mini-program's server): the upstream gets them as verified plain JSON, with
	// the header X-Data-Verified.
	Decrypt []Decrypt `json:"decrypt,omitempty"`

	// The legacy client protocols to speak as well: wafer.
	Clients []string `json:"clients,omitempty"`

	// How many sign-ins a client address may try. Default: no limit, because
	// carriers hide thousands of phones behind one address.
	LoginLimit *LoginLimit `json:"login_limit,omitempty"`

	app *App
	// owner stands for the handler in what sessions remember: a session that
	// outlives the configuration must not keep it in memory.
	owner   *int
	logger  *zap.Logger
	metrics *metrics
	allowed map[string]*program
	sole    *program // the only one allowed, if there is only one
	public  caddyhttp.MatcherSets
	prefix  string
	headers *headerSet
	limiter *limiter
	wafer   bool
	vary    []string
}

// ExtraHeader is a header with a value made from placeholders.
type ExtraHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// LoginLimit allows a client address (an IPv4 address, an IPv6 /64) a number of
// sign-ins in a time.
type LoginLimit struct {
	Events int            `json:"events"`
	Window caddy.Duration `json:"window"`
}

const defaultEndpoints = "/miniprogram"

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.miniprogram", New: func() caddy.Module { return new(Handler) }}
}

// Provision sets up the handler.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	app, err := configuredApp(ctx)
	if err != nil {
		return err
	}
	h.app, h.metrics, h.owner = app, app.metrics, new(int)
	if h.allowed, err = app.selectPrograms(h.Programs); err != nil {
		return err
	}
	if len(h.allowed) == 1 {
		for _, p := range h.allowed {
			h.sole = p
		}
	}
	if h.Endpoints == "" {
		h.Endpoints = defaultEndpoints
	}
	h.prefix = strings.TrimSuffix(h.Endpoints, "/") + "/"
	if err := h.provisionPublic(ctx); err != nil {
		return err
	}
	for i := range h.Decrypt {
		if err := h.Decrypt[i].provision(ctx); err != nil {
			return err
		}
	}
	if err := h.provisionHeaders(); err != nil {
		return err
	}
	if h.LoginLimit != nil {
		h.limiter = newLimiter(h.LoginLimit.Events, time.Duration(h.LoginLimit.Window))
	}
	h.wafer = slices.Contains(h.Clients, clientWafer)
	h.vary = []string{"Authorization"}
	if h.wafer {
		h.vary = append(h.vary, waferSkey)
		h.warnAboutWaferLogs(ctx)
	}
	return h.guardErrorRoutes(ctx)
}

func (h *Handler) provisionPublic(ctx caddy.Context) error {
	if len(h.PublicRaw) == 0 {
		return nil
	}
	loaded, err := ctx.LoadModule(h, "PublicRaw")
	if err != nil {
		return fmt.Errorf("loading public matchers: %w", err)
	}
	if err := h.public.FromInterface(loaded); err != nil {
		return fmt.Errorf("loading public matchers: %w", err)
	}
	for i, set := range h.public {
		if len(set) == 0 { // it would match every request
			return fmt.Errorf("public: set %d has no matcher", i+1)
		}
	}
	return nil
}

func (h *Handler) provisionHeaders() error {
	presets := h.Headers
	if presets == nil {
		presets = []string{"user"}
	}
	var err error
	if h.headers, err = newHeaderSet(presets, h.ExtraHeaders); err != nil {
		return err
	}
	var names []string
	for _, extra := range h.ExtraHeaders {
		names = append(names, extra.Name)
	}
	if h.Assertion != nil {
		if err := h.Assertion.provision(h.headers); err != nil {
			return err
		}
		names = append(names, h.Assertion.Header)
	}
	h.app.protect(names)
	return nil
}

// Validate reports a configuration that can never work.
func (h *Handler) Validate() error {
	switch {
	case !isPrefix(h.prefix):
		return fmt.Errorf("endpoints must be a path such as %s, not %q", defaultEndpoints, h.Endpoints)
	case h.UserID != "" && !slices.Contains(userIDs, h.UserID):
		return fmt.Errorf("user_id must be one of %s, not %q", strings.Join(userIDs, ", "), h.UserID)
	case h.LoginLimit != nil && (h.LoginLimit.Events < 1 || h.LoginLimit.Window <= 0):
		return errors.New("login_limit needs a number of at least 1 and a duration above zero")
	case hasDuplicate(h.Programs):
		return errors.New("programs names a program twice")
	case hasDuplicate(h.Clients):
		return errors.New("clients names a protocol twice")
	}
	if h.Assertion != nil {
		if err := h.Assertion.validate(); err != nil {
			return err
		}
	}
	for _, client := range h.Clients {
		if client != clientWafer {
			return fmt.Errorf("clients must be %s, not %q", clientWafer, client)
		}
	}
	return nil
}

func hasDuplicate(values []string) bool {
	sorted := slices.Sorted(slices.Values(values))
	return len(slices.Compact(sorted)) < len(values)
}

// configuredApp returns the app, which must be in the configuration.
func configuredApp(ctx caddy.Context) (*App, error) {
	loaded, err := ctx.AppIfConfigured("miniprogram")
	if err != nil {
		return nil, fmt.Errorf("the miniprogram app (global option miniprogram) is not usable: %w", err)
	}
	app, ok := loaded.(*App)
	if !ok {
		return nil, errors.New("the miniprogram app is of another type")
	}
	return app, nil
}

// selectPrograms returns the programs with the given app ids, all where none is
// named.
func (a *App) selectPrograms(appIDs []string) (map[string]*program, error) {
	if len(appIDs) == 0 {
		return a.programs, nil
	}
	selected := make(map[string]*program, len(appIDs))
	for _, appID := range appIDs {
		p, ok := a.programs[appID]
		if !ok {
			return nil, fmt.Errorf("program %s is not configured", appID)
		}
		selected[appID] = p
	}
	return selected, nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
