// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package caddyfile turns the global option and the directive miniprogram into
// configuration. Nothing in it runs when requests are served.
package caddyfile

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/minigate/minigate/caddyfile/arg"
	"github.com/minigate/minigate/module"
)

func init() { httpcaddyfile.RegisterGlobalOption("miniprogram", parseOption) }

// parseOption parses the global option. Syntax:
//
//	miniprogram {
//		program <provider> <app id> {
//			<options of the provider>
//		}
//		store <store> [<arguments of the store>...] {
//			<options of the store>
//		}
//		seal_key <key>...
//		session {
//			lifetime <duration>
//			idle     <duration>
//			per_user <number>
//			recheck  <duration>
//		}
//		profile {
//			keep    <duration>
//			avatars <directory>
//		}
//		exchange {
//			timeout     <duration>
//			concurrency <number>
//		}
//	}
//
// Providers and stores parse what belongs to them.
func parseOption(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // consume option name
	if existing != nil {
		return nil, d.Err("the global option miniprogram is already set")
	}
	if d.NextArg() {
		return nil, d.ArgErr()
	}
	app := new(module.App)
	var session, profile, exchange bool
	for d.NextBlock(0) {
		var err error
		switch d.Val() {
		case "program":
			err = parseProgram(d, app)
		case "store":
			err = parseStore(d, app)
		case "seal_key":
			err = arg.Strings(d, &app.SealKeys)
		case "session":
			err = parseSection(d, &session, func() error { return parseSession(d, &app.Session) })
		case "profile":
			err = parseSection(d, &profile, func() error { return parseProfile(d, &app.Profile) })
		case "exchange":
			err = parseSection(d, &exchange, func() error { return parseExchange(d, &app.Exchange) })
		default:
			err = arg.Unrecognized(d)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(app.ProgramsRaw) == 0 {
		return nil, d.Err("the global option miniprogram needs a program")
	}
	return httpcaddyfile.App{Name: "miniprogram", Value: caddyconfig.JSON(app, nil)}, nil
}

// parseProgram hands the block of a program to its provider.
func parseProgram(d *caddyfile.Dispenser, app *module.App) error {
	raw, err := parseGuest(d, "miniprogram.providers", "provider")
	if err != nil {
		return err
	}
	app.ProgramsRaw = append(app.ProgramsRaw, raw)
	return nil
}

// parseStore hands the block of the store to it.
func parseStore(d *caddyfile.Dispenser, app *module.App) error {
	if app.StoreRaw != nil {
		return d.Err("store is already set")
	}
	raw, err := parseGuest(d, "miniprogram.stores", "store")
	if err != nil {
		return err
	}
	app.StoreRaw = raw
	return nil
}

// parseGuest finds the guest whose name is the next argument by its ID, has it
// parse its segment, and returns its configuration.
func parseGuest(d *caddyfile.Dispenser, namespace, inlineKey string) (json.RawMessage, error) {
	if !d.NextArg() {
		return nil, d.ArgErr()
	}
	name := d.Val()
	if _, err := caddy.GetModule(namespace + "." + name); err != nil {
		return nil, d.Errf("there is no %s %q", inlineKey, name)
	}
	guest, err := caddyfile.UnmarshalModule(d, namespace+"."+name)
	if err != nil {
		return nil, err
	}
	return caddyconfig.JSONModuleObject(guest, inlineKey, name, nil), nil
}

// parseSection parses a block that may stand once and has no arguments.
func parseSection(d *caddyfile.Dispenser, seen *bool, parse func() error) error {
	if *seen {
		return d.Errf("%s is already set", d.Val())
	}
	*seen = true
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := parse(); err != nil {
			return err
		}
	}
	return nil
}

func parseSession(d *caddyfile.Dispenser, config *module.SessionConfig) error {
	switch d.Val() {
	case "lifetime":
		return arg.Duration(d, &config.Lifetime)
	case "idle":
		return arg.Duration(d, &config.Idle)
	case "per_user":
		return arg.Int(d, &config.PerUser, 1)
	case "recheck":
		return arg.Duration(d, &config.Recheck)
	default:
		return arg.Unrecognized(d)
	}
}

func parseProfile(d *caddyfile.Dispenser, config *module.ProfileConfig) error {
	switch d.Val() {
	case "keep":
		return arg.Duration(d, &config.Keep)
	case "avatars":
		return arg.String(d, &config.Avatars)
	default:
		return arg.Unrecognized(d)
	}
}

func parseExchange(d *caddyfile.Dispenser, config *module.ExchangeConfig) error {
	switch d.Val() {
	case "timeout":
		return arg.Duration(d, &config.Timeout)
	case "concurrency":
		return arg.Int(d, &config.Concurrency, 1)
	default:
		return arg.Unrecognized(d)
	}
}
