// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package arg reads the options of a Caddyfile block, one option a line of
// code: each function takes the dispenser at the option's name, reads exactly
// the arguments the option has, and refuses a second declaration, a missing
// argument, a surplus one and a block where none belongs.
package arg

import (
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// String reads one argument.
func String(d *caddyfile.Dispenser, dst *string) error {
	if err := once(d, *dst != ""); err != nil {
		return err
	}
	values, err := exactly(d, 1)
	if err != nil {
		return err
	}
	*dst = values[0]
	return nil
}

// Strings reads one argument or more.
func Strings(d *caddyfile.Dispenser, dst *[]string) error {
	if err := once(d, *dst != nil); err != nil {
		return err
	}
	values, err := all(d)
	if err != nil {
		return err
	}
	*dst = values
	return nil
}

// Int reads one whole number of at least lowest. lowest must be above zero,
// because zero in dst means that the option was not seen.
func Int(d *caddyfile.Dispenser, dst *int, lowest int) error {
	name := d.Val()
	if err := once(d, *dst != 0); err != nil {
		return err
	}
	values, err := exactly(d, 1)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(values[0])
	if err != nil || n < lowest {
		return d.Errf("%s must be a whole number of at least %d, not %q", name, lowest, values[0])
	}
	*dst = n
	return nil
}

// Duration reads one duration above zero, in Caddy's format ("90s", "30d").
func Duration(d *caddyfile.Dispenser, dst *caddy.Duration) error {
	name := d.Val()
	if err := once(d, *dst != 0); err != nil {
		return err
	}
	values, err := exactly(d, 1)
	if err != nil {
		return err
	}
	duration, err := ParseDuration(d, name, values[0])
	if err != nil {
		return err
	}
	*dst = duration
	return nil
}

// ParseDuration parses the value of the option called name as a duration above
// zero.
func ParseDuration(d *caddyfile.Dispenser, name, value string) (caddy.Duration, error) {
	duration, err := caddy.ParseDuration(value)
	if err != nil || duration <= 0 {
		return 0, d.Errf("%s must be a duration above zero such as 90s or 30d, not %q", name, value)
	}
	return caddy.Duration(duration), nil
}

// Flag reads an option that has no argument.
func Flag(d *caddyfile.Dispenser, dst *bool) error {
	name := d.Val()
	if err := once(d, *dst); err != nil {
		return err
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	if err := noBlock(d, name); err != nil {
		return err
	}
	*dst = true
	return nil
}

// Unrecognized is the error for the option that the dispenser is at.
func Unrecognized(d *caddyfile.Dispenser) error {
	return d.Errf("unrecognized option %q", d.Val())
}

// once refuses a second declaration of the option that the dispenser is at.
func once(d *caddyfile.Dispenser, seen bool) error {
	if seen {
		return d.Errf("%s is already set", d.Val())
	}
	return nil
}

// exactly reads n arguments and refuses any other number, empty ones included.
func exactly(d *caddyfile.Dispenser, n int) ([]string, error) {
	values, err := all(d)
	if err != nil {
		return nil, err
	}
	if len(values) != n {
		return nil, d.ArgErr()
	}
	return values, nil
}

// all reads every argument of the line, at least one and none of them empty.
func all(d *caddyfile.Dispenser) ([]string, error) {
	name := d.Val()
	values := d.RemainingArgs()
	if len(values) == 0 {
		return nil, d.ArgErr()
	}
	if slices.Contains(values, "") {
		return nil, d.Errf("%s must not be empty", name)
	}
	return values, noBlock(d, name)
}

// noBlock refuses a block, an empty one included, after an option that has
// none. All arguments of the option must have been read.
func noBlock(d *caddyfile.Dispenser, name string) error {
	if d.NextLine() {
		d.Prev()
		return nil
	}
	if d.Next() { // on the same line, but no argument
		return d.Errf("%s takes no block", name)
	}
	return nil
}
