// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/minigate/minigate/module/keyring"
)

// refuse answers a request that is not let through to the upstream: by the
// site's error routes, if there are any that would answer, else with JSON.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, cred *credential, failure *Error) error {
	cred.removeFrom(r)
	if h.wafer {
		removeWafer(r.Header)
	}
	wafer := h.wafer && failure.Status == http.StatusUnauthorized
	if wafer && cred.wafer != nil {
		return h.waferRefuse(w, r, cred, failure)
	}
	err := caddyhttp.Error(failure.Status, failure)
	switch {
	case hasErrorRoute(r, err):
		setErrorHeader(w.Header(), failure)
		if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
			repl.Map(anonymousPlaceholders)
		}
		return err
	case wafer:
		return h.waferRefuse(w, r, cred, failure)
	default:
		return writeError(w, r, failure)
	}
}

// hasErrorRoute reports whether the server has an error route with a handler
// for err that matches r. Whether there are error routes at all does not tell:
// they may be those of another site on the same server, or for other statuses.
func hasErrorRoute(r *http.Request, err error) bool {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server == nil || server.Errors == nil || len(server.Errors.Routes) == 0 {
		return false
	}
	r = server.Errors.WithError(r, err)
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		// The server restores these before it runs the error routes.
		r.Method, r.RequestURI = original.Method, original.RequestURI
		restored := new(url.URL)
		*restored = *original.URL
		r.URL = restored
	}
	return anyHandler(r, server.Errors.Routes)
}

// anyHandler reports whether routes have a handler that would run for r.
func anyHandler(r *http.Request, routes caddyhttp.RouteList) bool {
	return slices.ContainsFunc(routes, func(route caddyhttp.Route) bool {
		matches, err := route.MatcherSets.AnyMatchWithError(r)
		if err != nil || !matches {
			return false
		}
		return slices.ContainsFunc(route.Handlers, func(handler caddyhttp.MiddlewareHandler) bool {
			switch handler := handler.(type) {
			case *errorGuard:
				return false
			case *caddyhttp.Subroute:
				return anyHandler(r, handler.Routes)
			default:
				return true
			}
		})
	})
}

// errorGuard cleans requests on their way to a server's error routes. Those
// whose error arose before the handler had its turn come with everything their
// sender put into them, and Caddy hands them to error routes as they are; if
// such a route has a proxy, its upstream must see no forged identity and no
// session token either.
type errorGuard struct {
	app   *App
	wafer bool
}

// guardErrorRoutes puts a guard in front of the error routes of the server that
// the handler belongs to. It runs while the server's routes are provisioned,
// which Caddy does before it provisions the error routes. Named routes come
// last: there it is too late, and that is an error.
func (h *Handler) guardErrorRoutes(ctx caddy.Context) error {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.Errors == nil || len(server.Errors.Routes) == 0 {
		return nil
	}
	routes := server.Errors.Routes
	if !slices.ContainsFunc(routes, func(route caddyhttp.Route) bool { return !isProvisioned(route) }) {
		return errors.New("miniprogram cannot stand in a named route of a server that has error routes: nothing would guard those")
	}
	for i := range routes {
		route := &routes[i]
		route.Handlers = append([]caddyhttp.MiddlewareHandler{&errorGuard{h.app, h.wafer}}, route.Handlers...)
	}
	return nil
}

// isProvisioned reports whether the handlers of a route have been loaded.
func isProvisioned(route caddyhttp.Route) bool {
	loaded := slices.ContainsFunc(route.Handlers, func(handler caddyhttp.MiddlewareHandler) bool {
		_, guard := handler.(*errorGuard)
		return !guard
	})
	return loaded || len(route.HandlersRaw) == 0
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (g *errorGuard) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	g.app.guard.Load().Clean(r)
	if g.wafer {
		removeWafer(r.Header)
	}
	for _, value := range r.Header["Authorization"] {
		scheme, token, _ := strings.Cut(value, " ")
		if strings.EqualFold(scheme, schemeMiniProgram) || keyring.IsToken(strings.TrimSpace(token)) {
			delete(r.Header, "Authorization")
			break
		}
	}
	return next.ServeHTTP(w, r)
}

// Interface guards
var (
	_ caddyhttp.MiddlewareHandler = (*errorGuard)(nil)
	_ error                       = (*Error)(nil)
)
