// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"net/http"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/minigate/minigate/module/identity"
)

func init() { caddy.RegisterModule(MatchUser{}) }

// MatchUser matches requests by the signed-in user of a mini-program, after the
// handler http.handlers.miniprogram has found out who it is. Before that, on
// other sites and for anonymous requests it never matches.
//
// Without criteria it matches every signed-in user. A criterion with several
// values matches any of them; several criteria must all match.
type MatchUser struct {
	// The platforms, by the names of their providers.
	Platforms []string `json:"platforms,omitempty"`

	// The app ids of the programs.
	Programs []string `json:"programs,omitempty"`

	// The ids of the users, as the site's option user_id makes them.
	Users []string `json:"users,omitempty"`
}

// claimsVariable is the name under which the replacer gives the claims of the
// user: one that no placeholder in a configuration can reach, and that no other
// module sets.
const claimsVariable = "http.auth.miniprogram\x00claims"

// CaddyModule returns the Caddy module information.
func (MatchUser) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers.miniprogram", New: func() caddy.Module { return new(MatchUser) }}
}

// MatchWithError implements caddyhttp.RequestMatcherWithError.
func (m *MatchUser) MatchWithError(r *http.Request) (bool, error) {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false, nil
	}
	value, _ := repl.Get(claimsVariable)
	claims, _ := value.(*identity.Claims)
	return claims != nil &&
		among(m.Platforms, claims.Platform) && among(m.Programs, claims.Program) && among(m.Users, claims.ID), nil
}

// among reports whether values is empty or holds value.
func among(values []string, value string) bool {
	return len(values) == 0 || slices.Contains(values, value)
}

// UnmarshalCaddyfile sets up the matcher from Caddyfile tokens. Syntax:
//
//	miniprogram {
//		platform <name>...
//		program <app id>...
//		user <id>...
//	}
func (m *MatchUser) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() { // each time the matcher stands in one set
		if d.NextArg() {
			return d.ArgErr()
		}
		for d.NextBlock(0) {
			if err := m.unmarshalCriterion(d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *MatchUser) unmarshalCriterion(d *caddyfile.Dispenser) error {
	criteria := map[string]*[]string{"platform": &m.Platforms, "program": &m.Programs, "user": &m.Users}
	option := d.Val()
	values, ok := criteria[option]
	if !ok {
		return d.Errf("unrecognized option %q", option)
	}
	if *values != nil {
		return d.Errf("%s is already set", option)
	}
	*values = d.RemainingArgs()
	switch {
	case len(*values) == 0:
		return d.ArgErr()
	case slices.Contains(*values, ""):
		return d.Errf("%s must not be empty", option)
	}
	if d.NextLine() {
		d.Prev()
	} else if d.Next() { // on the same line, but no value
		return d.Errf("%s takes no block", option)
	}
	return nil
}

// CELLibrary makes the matcher usable in expressions, with the criteria named
// as in the Caddyfile:
//
//	expression miniprogram({'platform': ['wechat'], 'program': ['wx0123456789abcdef']})
func (MatchUser) CELLibrary(caddy.Context) (cel.Library, error) {
	return caddyhttp.CELMatcherImpl("miniprogram", "miniprogram_request_map", []*cel.Type{caddyhttp.CELTypeJSON},
		func(data ref.Val) (caddyhttp.RequestMatcherWithError, error) {
			criteria, err := caddyhttp.CELValueToMapStrList(data)
			if err != nil {
				return nil, err
			}
			m := new(MatchUser)
			for name, values := range criteria {
				switch name {
				case "platform":
					m.Platforms = values
				case "program":
					m.Programs = values
				case "user":
					m.Users = values
				default:
					return nil, fmt.Errorf("miniprogram: unrecognized criterion %q", name)
				}
			}
			return m, nil
		})
}

// Interface guards
var (
	_ caddyhttp.RequestMatcherWithError = (*MatchUser)(nil)
	_ caddyhttp.CELLibraryProducer      = (*MatchUser)(nil)
	_ caddyfile.Unmarshaler             = (*MatchUser)(nil)
)
