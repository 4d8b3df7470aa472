// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/minigate/minigate/module/identity"
)

// userPlaceholder begins the placeholders that tell who the user is.
const userPlaceholder = "http.auth.user."

// headerSet is the headers a site sends to its upstream. It is immutable.
type headerSet struct {
	// claims depend on the user only: their values are made once a session.
	claims []identity.Header
	// requests differ from request to request.
	requests []identity.Header
	// templates hold other placeholders than the user's.
	templates []ExtraHeader
}

// newHeaderSet returns the headers of the presets and the extra ones.
func newHeaderSet(presets []string, extra []ExtraHeader) (*headerSet, error) {
	set := new(headerSet)
	seen := make(map[string]bool)
	once := func(name string) error {
		if seen[name] {
			return fmt.Errorf("header %s is set twice", name)
		}
		seen[name] = true
		return nil
	}
	for _, preset := range presets {
		headers, ok := identity.Preset(preset)
		if !ok {
			return nil, fmt.Errorf("there is no header preset %q; there are %s", preset, strings.Join(identity.PresetNames(), ", "))
		}
		for _, header := range headers {
			if err := once(header.Name); err != nil {
				return nil, err
			}
			if header.Request == identity.NoRequestValue {
				set.claims = append(set.claims, header)
			} else {
				set.requests = append(set.requests, header)
			}
		}
	}
	for _, header := range extra {
		if err := checkHeaderName(header.Name); err != nil {
			return nil, err
		}
		name := textproto.CanonicalMIMEHeaderKey(header.Name)
		if err := once(name); err != nil {
			return nil, err
		}
		if strings.ContainsFunc(header.Value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return nil, fmt.Errorf("the value of header %s has a control character", name)
		}
		if claim, ok := claimOf(header.Value); ok {
			set.claims = append(set.claims, identity.Header{Name: name, Claim: claim})
		} else {
			set.templates = append(set.templates, ExtraHeader{name, header.Value})
		}
	}
	return set, nil
}

// names returns the names of the headers.
func (set *headerSet) names() []string {
	names := make([]string, 0, len(set.claims)+len(set.requests)+len(set.templates))
	for _, header := range slices.Concat(set.claims, set.requests) {
		names = append(names, header.Name)
	}
	for _, header := range set.templates {
		names = append(names, header.Name)
	}
	return names
}

// unsafeHeaders are headers that mean something to the connection, to the proxy
// or to the gateway itself, by their folded names: they cannot carry an identity.
var unsafeHeaders = func() map[string]bool {
	unsafe := make(map[string]bool)
	for _, name := range append([]string{
		"Authorization", "Cookie", "Connection", "Content-Length", "Content-Type", "Expect", "Host", "Keep-Alive",
		"Proxy-Authorization", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
	}, waferHeaders...) {
		unsafe[identity.Fold(name)] = true
	}
	return unsafe
}()

// checkHeaderName refuses a name that would not arrive, or not safely.
func checkHeaderName(name string) error {
	if name == "" {
		return errors.New("a header needs a name")
	}
	for i := range len(name) {
		c := name[i] | 0x20
		if name[i] != '-' && (c < 'a' || c > 'z') && (name[i] < '0' || name[i] > '9') {
			return fmt.Errorf("header name %q must have letters, digits and hyphens only, so that it reads the same everywhere", name)
		}
	}
	switch folded := identity.Fold(name); {
	case folded == "":
		return fmt.Errorf("header name %q needs a letter or a digit", name)
	case unsafeHeaders[folded]:
		return fmt.Errorf("header %s cannot carry an identity", name)
	}
	return nil
}

// claimOf returns the claim that template stands for, if it is a single
// placeholder of the user's.
func claimOf(template string) (func(*identity.Claims) string, bool) {
	name, ok := strings.CutPrefix(template, "{"+userPlaceholder)
	if !ok {
		return nil, false
	}
	if name, ok = strings.CutSuffix(name, "}"); !ok {
		return nil, false
	}
	if _, known := (*identity.Claims)(nil).Lookup(name); !known {
		return nil, false
	}
	return func(c *identity.Claims) string {
		value, _ := c.Lookup(name)
		return value
	}, true
}

// values returns the values of the headers that depend on the user only, in
// their order. One that is unknown is empty, and is not sent: an empty header says
// that there is something to read.
func (set *headerSet) values(claims *identity.Claims) []string {
	values := make([]string, len(set.claims))
	for i, header := range set.claims {
		values[i] = identity.EncodeValue(header.Claim(claims))
	}
	return values
}

// apply sets the headers on r. fixed are those of values.
//
// The slices that go into the header are this request's own, because handlers
// down the line may write into them.
func (set *headerSet) apply(r *http.Request, repl *caddy.Replacer, claims *identity.Claims, fixed []string) {
	own := slices.Clone(fixed)
	for i, header := range set.claims {
		if own[i] != "" {
			r.Header[header.Name] = own[i : i+1 : i+1]
		}
	}
	for _, header := range set.requests {
		if value := requestValue(r, repl, header.Request); value != "" {
			r.Header[header.Name] = []string{identity.EncodeValue(value)}
		}
	}
	for _, header := range set.templates {
		if value := expand(repl, claims, header.Value); value != "" {
			r.Header[header.Name] = []string{value}
		}
	}
}

func requestValue(r *http.Request, repl *caddy.Replacer, value identity.RequestValue) string {
	switch value {
	case identity.RequestID:
		id, _ := repl.GetString("http.request.uuid")
		return id
	case identity.ClientAddress:
		return clientAddress(r)
	default:
		return ""
	}
}

// expand returns template with its placeholders replaced. What they stand for
// is encoded, so that no value can break out of the header, and is not expanded
// again. If the user's placeholders in it are all empty, so is the result.
func expand(repl *caddy.Replacer, claims *identity.Claims, template string) string {
	asked, told := 0, 0
	value, err := repl.ReplaceFunc(template, func(variable string, value any) (any, error) {
		name, mine := strings.CutPrefix(variable, userPlaceholder)
		if !mine {
			return identity.EncodeValue(caddy.ToString(value)), nil
		}
		claim, _ := claims.Lookup(name)
		asked++
		if claim != "" {
			told++
		}
		return identity.EncodeValue(claim), nil
	})
	if err != nil || (asked > 0 && told == 0) {
		return ""
	}
	return value
}

// clientAddress returns the client's IP address as the server determined it,
// with regard to the proxies it trusts.
func clientAddress(r *http.Request) string {
	address, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return address
}
