// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package caddyfile

import (
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/minigate/minigate/caddyfile/arg"
	"github.com/minigate/minigate/module"
)

func init() {
	// Not RegisterHandlerDirective, which takes a matcher off the line and puts
	// it on the route: what it does not match would have no guard.
	httpcaddyfile.RegisterDirective("miniprogram", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("miniprogram", httpcaddyfile.Before, "basic_auth")
}

// parseDirective parses the directive. Syntax:
//
//	miniprogram {
//		programs    <app id>...
//		endpoints   <path>
//		public {
//			<request matchers>
//		}
//		optional
//		user_id     openid|unionid|pseudonym
//		headers     <preset>...
//		header      <name> <value>
//		assertion {
//			header   <name>
//			audience <audience>
//			issuer   <issuer>
//			lifetime <duration>
//		}
//		decrypt [required] {
//			<request matchers>
//		}
//		clients     wafer
//		login_limit <number> <duration>
//	}
//
// public, header and decrypt may stand several times.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	d := h.Dispenser
	d.Next() // consume directive name
	if d.NextArg() {
		if strings.HasPrefix(d.Val(), "@") || strings.HasPrefix(d.Val(), "/") || d.Val() == "*" {
			return nil, d.Err("miniprogram takes no matcher: it covers the whole site, so that no route is left unguarded; name what needs no session in public")
		}
		return nil, d.ArgErr()
	}
	if h.IsNamedRoute() {
		return nil, d.Err("miniprogram cannot stand in a named route: it covers a whole site, with its error routes")
	}
	handler := new(module.Handler)
	for d.NextBlock(0) {
		if err := parseHandlerOption(d, handler); err != nil {
			return nil, err
		}
	}
	return h.NewRoute(nil, handler), nil
}

func parseHandlerOption(d *caddyfile.Dispenser, handler *module.Handler) error {
	switch d.Val() {
	case "programs":
		return arg.Strings(d, &handler.Programs)
	case "endpoints":
		return arg.String(d, &handler.Endpoints)
	case "public":
		return parsePublic(d, handler)
	case "optional":
		return arg.Flag(d, &handler.Optional)
	case "user_id":
		return arg.String(d, &handler.UserID)
	case "headers":
		return arg.Strings(d, &handler.Headers)
	case "header":
		return parseHeader(d, handler)
	case "assertion":
		return parseAssertion(d, handler)
	case "decrypt":
		return parseDecrypt(d, handler)
	case "clients":
		return arg.Strings(d, &handler.Clients)
	case "login_limit":
		return parseLoginLimit(d, handler)
	default:
		return arg.Unrecognized(d)
	}
}

// parsePublic adds a set of request matchers, all of which must match.
func parsePublic(d *caddyfile.Dispenser, handler *module.Handler) error {
	matchers, err := caddyhttp.ParseCaddyfileNestedMatcherSet(d)
	if err != nil {
		return err
	}
	if len(matchers) == 0 {
		return d.Err("public needs at least one request matcher")
	}
	handler.PublicRaw = append(handler.PublicRaw, matchers)
	return nil
}

// parseDecrypt adds a set of request matchers, all of which must match. Before
// them the word required may stand, on the line of the option.
func parseDecrypt(d *caddyfile.Dispenser, handler *module.Handler) error {
	var route module.Decrypt
	if d.NextArg() {
		if d.Val() == "required" {
			route.Required = true
		} else {
			d.Prev()
		}
	}
	matchers, err := caddyhttp.ParseCaddyfileNestedMatcherSet(d)
	if err != nil {
		return err
	}
	if len(matchers) == 0 {
		return d.Err("decrypt needs at least one request matcher")
	}
	route.MatchRaw = caddyhttp.RawMatcherSets{matchers}
	handler.Decrypt = append(handler.Decrypt, route)
	return nil
}

// parseAssertion sets the assertion, which needs an audience.
func parseAssertion(d *caddyfile.Dispenser, handler *module.Handler) error {
	if handler.Assertion != nil {
		return d.Err("assertion is already set")
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	assertion := new(module.Assertion)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "header":
			err = arg.String(d, &assertion.Header)
		case "audience":
			err = arg.String(d, &assertion.Audience)
		case "issuer":
			err = arg.String(d, &assertion.Issuer)
		case "lifetime":
			err = arg.Duration(d, &assertion.Lifetime)
		default:
			err = arg.Unrecognized(d)
		}
		if err != nil {
			return err
		}
	}
	if assertion.Audience == "" {
		return d.Err("assertion needs an audience")
	}
	handler.Assertion = assertion
	return nil
}

// parseHeader adds a header. Its name and value are checked where all headers
// are known.
func parseHeader(d *caddyfile.Dispenser, handler *module.Handler) error {
	var pair []string
	if err := arg.Strings(d, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return d.ArgErr()
	}
	sameName := func(extra module.ExtraHeader) bool { return strings.EqualFold(extra.Name, pair[0]) }
	if slices.ContainsFunc(handler.ExtraHeaders, sameName) {
		return d.Errf("header %s is already set", pair[0])
	}
	handler.ExtraHeaders = append(handler.ExtraHeaders, module.ExtraHeader{Name: pair[0], Value: pair[1]})
	return nil
}

func parseLoginLimit(d *caddyfile.Dispenser, handler *module.Handler) error {
	if handler.LoginLimit != nil {
		return d.Err("login_limit is already set")
	}
	var pair []string
	if err := arg.Strings(d, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return d.ArgErr()
	}
	events, err := strconv.Atoi(pair[0])
	if err != nil || events < 1 {
		return d.Errf("login_limit needs a whole number of at least 1, not %q", pair[0])
	}
	window, err := arg.ParseDuration(d, "the time of login_limit", pair[1])
	if err != nil {
		return err
	}
	handler.LoginLimit = &module.LoginLimit{Events: events, Window: window}
	return nil
}
