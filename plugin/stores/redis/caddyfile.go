// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/minigate/minigate/caddyfile/arg"
)

// UnmarshalCaddyfile sets up the store from Caddyfile tokens. Syntax:
//
//	store redis [<address>...] {
//		username <user>
//		password <password>
//		db <number>
//		sentinel <name>
//		sentinel_username <user>
//		sentinel_password <password>
//		cluster
//		tls [{
//			ca <file>
//			cert <file>
//			key <file>
//			server_name <name>
//		}]
//		prefix <prefix>
//		invalidation tracking|pubsub
//		replicas <number>
//	}
func (o *Opener) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume store name
	for d.NextArg() {
		if d.Val() == "" {
			return d.Err("an address must not be empty")
		}
		o.Addresses = append(o.Addresses, d.Val())
	}
	var db, replicas string
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "username":
			err = arg.String(d, &o.Username)
		case "password":
			err = arg.String(d, &o.Password)
		case "db":
			err = number(d, &db, &o.DB)
		case "sentinel":
			err = arg.String(d, &o.Sentinel)
		case "sentinel_username":
			err = arg.String(d, &o.SentinelUsername)
		case "sentinel_password":
			err = arg.String(d, &o.SentinelPassword)
		case "cluster":
			err = arg.Flag(d, &o.Cluster)
		case "tls":
			err = o.unmarshalTLS(d)
		case "prefix":
			err = arg.String(d, &o.Prefix)
		case "invalidation":
			err = o.unmarshalInvalidation(d)
		case "replicas":
			err = number(d, &replicas, &o.Replicas)
		default:
			err = arg.Unrecognized(d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *Opener) unmarshalTLS(d *caddyfile.Dispenser) error {
	if o.TLS != nil {
		return d.Err("tls is already set")
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	o.TLS = new(TLS)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch d.Val() {
		case "ca":
			err = arg.String(d, &o.TLS.CA)
		case "cert":
			err = arg.String(d, &o.TLS.Cert)
		case "key":
			err = arg.String(d, &o.TLS.Key)
		case "server_name":
			err = arg.String(d, &o.TLS.ServerName)
		default:
			err = arg.Unrecognized(d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *Opener) unmarshalInvalidation(d *caddyfile.Dispenser) error {
	if err := arg.String(d, &o.Invalidation); err != nil {
		return err
	}
	if o.Invalidation != tracking && o.Invalidation != pubsub {
		return d.Errf("invalidation must be %s or %s, not %q", tracking, pubsub, o.Invalidation)
	}
	return nil
}

// number reads one whole number of at least zero. text is what was read before,
// so that a zero which is written down counts as set.
func number(d *caddyfile.Dispenser, text *string, dst *int) error {
	name := d.Val()
	if err := arg.String(d, text); err != nil {
		return err
	}
	n, err := strconv.Atoi(*text)
	if err != nil || n < 0 {
		return d.Errf("%s must be a whole number of at least 0, not %q", name, *text)
	}
	*dst = n
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Opener)(nil)
