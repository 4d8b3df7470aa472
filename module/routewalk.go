// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
)

// routeWalk goes through the routes of servers as requests do.
type routeWalk struct {
	app        *App
	server     *caddyhttp.Server
	serverName string
	guards     bool // the server has the gateway somewhere
	err        error

	guardedUpstreams map[string]bool
	unguarded        []unguardedUpstream
	depth            int
}

// unguardedUpstream is an upstream to which a route leads past the gateway.
type unguardedUpstream struct{ server, upstream string }

// place is where in the routes of a server a handler stands.
type place struct {
	guarded bool     // a request that comes here has come through the gateway
	hosts   []string // for which it is; empty for all
}

// maxRouteDepth is how deep routes are looked into: named routes may invoke each
// other.
const maxRouteDepth = 32

// errTwice says that requests would come through the gateway twice.
var errTwice = errors.New("miniprogram stands twice in one way of a request: the second would find no credential")

// routes goes through a list of routes. It reports whether what comes after them
// is guarded.
func (w *routeWalk) routes(routes caddyhttp.RouteList, at place) bool {
	if w.depth++; w.depth > maxRouteDepth {
		return at.guarded
	}
	defer func() { w.depth-- }()
	for _, route := range routes {
		inside := at
		if hosts := hostsOf(route); len(hosts) > 0 {
			inside.hosts = hosts
		}
		after := w.handlers(route.Handlers, inside)
		if len(route.MatcherSets) == 0 {
			at.guarded = after // every request goes through this route
		}
	}
	return at.guarded
}

// handlers goes through the handlers of a route, one after the other.
func (w *routeWalk) handlers(list []caddyhttp.MiddlewareHandler, at place) bool {
	for _, handler := range list {
		switch handler := handler.(type) {
		case *Handler:
			if at.guarded {
				w.err = errTwice
			}
			at.guarded, w.guards = true, true
			if isExposed(w.server, at.hosts) {
				w.app.logger.Warn("session tokens go over plain HTTP to a public address; serve HTTPS, or name the proxy that does in trusted_proxies",
					zap.String("server", w.serverName), zap.Strings("listen", w.server.Listen))
			}
		case *caddyhttp.Subroute:
			at.guarded = w.routes(handler.Routes, at)
		case *caddyhttp.Invoke:
			if route, ok := w.server.NamedRoutes[handler.Name]; ok && route != nil {
				w.routes(caddyhttp.RouteList{*route}, at)
			}
		case *headers.Handler:
			w.request(handler, at)
		case *reverseproxy.Handler:
			w.request(handler.Headers, at)
			w.proxy(handler, at)
		}
	}
	return at.guarded
}

// proxy notes which upstreams a proxy leads to.
func (w *routeWalk) proxy(proxy *reverseproxy.Handler, at place) {
	for _, upstream := range proxy.Upstreams {
		if at.guarded {
			w.guardedUpstreams[upstream.Dial] = true
		} else {
			w.unguarded = append(w.unguarded, unguardedUpstream{w.serverName, upstream.Dial})
		}
	}
	for _, response := range proxy.HandleResponse {
		w.routes(response.Routes, at)
	}
}

// report warns of upstreams that are reached through the gateway and past it: they
// believe the headers that a client makes up on the other way.
func (w *routeWalk) report() {
	for _, way := range w.unguarded {
		if w.guardedUpstreams[way.upstream] {
			w.app.logger.Warn("upstream of the gateway is reached by a route that goes past it, where clients can make up any identity",
				zap.String("server", way.server), zap.String("upstream", way.upstream))
		}
	}
}

// request warns of operations that change an identity header after the gateway has
// set it, unless they set it to what the gateway knows of the user.
func (w *routeWalk) request(handler *headers.Handler, at place) {
	if !at.guarded || handler == nil || handler.Request == nil {
		return
	}
	ops := handler.Request
	var touched []string
	for _, set := range []http.Header{ops.Add, ops.Set} {
		for name, values := range set {
			if !slices.ContainsFunc(values, func(value string) bool { _, proven := claimOf(value); return !proven }) {
				continue
			}
			touched = append(touched, name)
		}
	}
	touched = append(touched, ops.Delete...)
	for name := range ops.Replace {
		touched = append(touched, name)
	}
	for _, name := range touched {
		for _, protected := range w.app.protectedHeaders() {
			if coversHeader(name, protected) {
				w.app.logger.Warn("identity header is changed after the gateway has set it",
					zap.String("server", w.serverName), zap.String("header", protected), zap.String("by", name))
			}
		}
	}
}

// coversHeader reports whether the name in a header operation, which may begin or
// end with an asterisk, stands for a header.
func coversHeader(name, header string) bool {
	prefix, ends := strings.CutSuffix(name, "*")
	suffix, begins := strings.CutPrefix(prefix, "*")
	pattern, folded := identity.Fold(suffix), identity.Fold(header)
	switch {
	case begins && ends, name == "*":
		return strings.Contains(folded, pattern)
	case begins:
		return strings.HasSuffix(folded, pattern)
	case ends:
		return strings.HasPrefix(folded, pattern)
	default:
		return folded == pattern
	}
}

// hostsOf returns the hosts that a route is for; none if it is for all, or not
// for some alone.
func hostsOf(route caddyhttp.Route) []string {
	var hosts []string
	for _, set := range route.MatcherSets {
		found := false
		for _, matcher := range set {
			if host, ok := matcher.(*caddyhttp.MatchHost); ok && host != nil {
				hosts, found = append(hosts, *host...), true
			}
		}
		if !found {
			return nil
		}
	}
	return hosts
}
