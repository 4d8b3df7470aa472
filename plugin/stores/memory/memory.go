// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package memory keeps the gateway's records in the memory of the process:
// nothing to set up, and nothing left after a restart.
package memory

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/minigate/minigate/caddyfile/arg"
	"github.com/minigate/minigate/module/store"
)

func init() { caddy.RegisterModule(Opener{}) }

// Opener keeps the gateway's records in memory. Sessions survive a reload of
// the configuration, and end with the process. It is meant for development,
// for tests, and for gateways whose users may be asked to sign in again after
// a restart.
type Opener struct{}

// CaddyModule returns the Caddy module information.
func (Opener) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "miniprogram.stores.memory",
		New: func() caddy.Module { return new(Opener) },
	}
}

// Identity implements store.Opener. All configurations share one memory.
func (*Opener) Identity() string { return "memory" }

// Open implements store.Opener. It returns an empty store, and fails only if
// ctx is done.
func (*Opener) Open(ctx context.Context) (store.Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return newCache(), nil
}

// UnmarshalCaddyfile sets up the store from Caddyfile tokens. Syntax:
//
//	store memory
func (*Opener) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume store name
	var seen bool
	return arg.Flag(d, &seen)
}

// Interface guards
var (
	_ caddy.Module          = (*Opener)(nil)
	_ caddyfile.Unmarshaler = (*Opener)(nil)
	_ store.Opener          = (*Opener)(nil)
)
