// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
)

// inspect looks at the servers around the gateway for what would undo what it
// does. What can only be a mistake is an error; what may be meant is a warning.
func (a *App) inspect() error {
	loaded, failed := a.ctx.AppIfConfigured("http")
	app, ok := loaded.(*caddyhttp.App)
	if failed != nil || !ok {
		return nil // there are no sites
	}
	w := &routeWalk{app: a, guardedUpstreams: make(map[string]bool)}
	for name, server := range app.Servers {
		w.server, w.serverName, w.guards = server, name, false
		if w.routes(server.Routes, place{}); w.err != nil {
			return fmt.Errorf("server %s: %w", name, w.err)
		}
		if !w.guards {
			continue
		}
		if err := a.checkAliases(name, server); err != nil {
			return fmt.Errorf("server %s: %w", name, err)
		}
		a.checkProxies(name, server)
	}
	w.report()
	return nil
}

// checkAliases refuses identity headers among those that Caddy is told to let
// through in a spelling by which some upstreams take them for others. They do not
// get past the guard, but somebody believes that they do. Of a pattern that covers
// one it warns: it may be meant for others.
func (a *App) checkAliases(serverName string, server *caddyhttp.Server) error {
	for option, names := range map[string][]string{
		"expected_underscore_headers": server.ExpectedUnderscoreHeaders,
		"expected_dot_headers":        server.ExpectedDotHeaders,
	} {
		for _, name := range names {
			for _, protected := range a.protectedHeaders() {
				if !coversHeader(name, protected) {
					continue
				}
				if !strings.Contains(name, "*") {
					return fmt.Errorf("%s lists %s, which upstreams may take for the identity header %s", option, name, protected)
				}
				a.logger.Warn("option lists a pattern that covers an identity header; the gateway removes it all the same",
					zap.String("server", serverName), zap.String("option", option), zap.String("pattern", name), zap.String("header", protected))
			}
		}
	}
	return nil
}

// protectedHeaders returns the names of all headers that clients must not set.
func (a *App) protectedHeaders() []string {
	a.protectMu.Lock()
	defer a.protectMu.Unlock()
	return slices.Concat(identity.HeaderNames(), a.protectedNames)
}

// trustedProxies returns the module that says which proxies a server trusts; the
// zero Value where there is none, or none that can be seen. Caddy keeps it to
// itself and has thrown away its configuration by now, but for what this is for,
// a look is enough.
func trustedProxies(server *caddyhttp.Server) reflect.Value {
	source := reflect.ValueOf(server).Elem().FieldByName("trustedProxies")
	if !source.IsValid() || source.Kind() != reflect.Interface || source.IsNil() {
		return reflect.Value{}
	}
	return source.Elem()
}

// checkProxies warns of trust in everybody to say where a request comes from.
func (a *App) checkProxies(name string, server *caddyhttp.Server) {
	source := trustedProxies(server)
	if !source.IsValid() || source.Type() != reflect.TypeFor[*caddyhttp.StaticIPRange]() {
		return
	}
	ranges := source.Elem().FieldByName("Ranges")
	for i := range ranges.Len() {
		text := ranges.Index(i).String()
		if prefix, err := netip.ParsePrefix(text); err == nil && prefix.Bits() == 0 {
			a.logger.Warn("trusted_proxies trusts everybody: any client can choose the address by which login_limit counts, and which upstreams are told",
				zap.String("server", name), zap.String("range", text))
		}
	}
}

// isExposed reports whether a server takes plain HTTP from other machines, and
// no proxy before it is known that could have taken TLS off.
func isExposed(server *caddyhttp.Server, hosts []string) bool {
	if len(server.TLSConnPolicies) > 0 || trustedProxies(server).IsValid() {
		return false
	}
	if len(hosts) > 0 && !slices.ContainsFunc(hosts, func(host string) bool { return !isLocalName(host) }) {
		return false
	}
	return slices.ContainsFunc(server.Listen, func(listen string) bool {
		address, err := caddy.ParseNetworkAddress(listen)
		if err != nil || address.IsUnixNetwork() || address.IsFdNetwork() {
			return false
		}
		ip, err := netip.ParseAddr(address.Host)
		return address.Host == "" || (err == nil && !ip.IsLoopback() && !ip.IsPrivate() && !ip.IsLinkLocalUnicast())
	})
}

// isLocalName reports whether a host name means this machine.
func isLocalName(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
