// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"slices"
	"strings"
)

// Header is one header that tells an upstream who the user is. Exactly one of
// Claim and Request is set.
type Header struct {
	// Name is the header's canonical name.
	Name string
	// Claim returns the value, which depends on the user only. An empty value
	// means that the header is not sent.
	Claim func(*Claims) string
	// Request names a value that differs from request to request.
	Request RequestValue
}

// RequestValue names a value that belongs to a request, not to a user.
type RequestValue int

const (
	// NoRequestValue: the header depends on the user only.
	NoRequestValue RequestValue = iota
	// RequestID is the unique id of the request.
	RequestID
	// ClientAddress is the client's IP address, as the server determined it.
	ClientAddress
)

// presets are the sets of headers a site can choose by name.
//
// The names of preset cloudrun are those which WeChat Cloud Run gives a
// container: https://developers.weixin.qq.com/miniprogram/dev/wxcloudservice/wxcloudrun/src/development/call/header.html
var presets = map[string][]Header{
	"user": {
		{Name: "X-User-Id", Claim: userID},
		{Name: "X-User-Platform", Claim: func(c *Claims) string { return c.Platform }},
		{Name: "X-User-Program", Claim: program},
		{Name: "X-User-Openid", Claim: openID},
		{Name: "X-User-Unionid", Claim: unionID},
		{Name: "X-User-Phone", Claim: (*Claims).Phone},
	},
	"cloudrun": {
		{Name: "X-Wx-Openid", Claim: openID},
		{Name: "X-Wx-Appid", Claim: program},
		{Name: "X-Wx-Unionid", Claim: unionID},
		{Name: "X-Wx-Source", Claim: func(*Claims) string { return "wx_client" }},
		{Name: "X-Wx-Call-Id", Request: RequestID},
		{Name: "X-Original-Forwarded-For", Request: ClientAddress},
	},
	"remote_user": {
		{Name: "Remote-User", Claim: userID},
		{Name: "Remote-Name", Claim: (*Claims).Nickname},
	},
	"forwarded_user": {
		{Name: "X-Forwarded-User", Claim: userID},
	},
}

func userID(c *Claims) string  { return c.ID }
func program(c *Claims) string { return c.Program }
func openID(c *Claims) string  { return c.OpenID }
func unionID(c *Claims) string { return c.UnionID }

// reserved are names which the gateway sets by other means than presets.
var reserved = []string{"X-Identity-Assertion", "X-Data-Verified"}

// Preset returns the headers of a preset.
func Preset(name string) ([]Header, bool) {
	headers, ok := presets[name]
	return headers, ok
}

// PresetNames returns the names of all presets, sorted.
func PresetNames() []string {
	names := make([]string, 0, len(presets))
	for name := range presets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// HeaderNames returns the names of every header which any preset can send,
// sorted. The guard protects them all, switched on or not, so that an upstream
// never sees one that the gateway did not set.
func HeaderNames() []string {
	names := slices.Clone(reserved)
	for _, headers := range presets {
		for _, header := range headers {
			names = append(names, header.Name)
		}
	}
	slices.Sort(names)
	return names
}

// EncodeValue makes a header value of s that every upstream reads the same way.
// Bytes other than visible ASCII, and the percent sign, become %XX of their
// UTF-8, so that no value can hold a line break, a NUL, a space at its end or a
// character that someone decodes as Latin-1; percent-decoding gives s back.
func EncodeValue(s string) string {
	plain := 0
	for plain < len(s) && isPlain(s[plain]) {
		plain++
	}
	if plain == len(s) {
		return s
	}
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(s) + 16)
	b.WriteString(s[:plain])
	for i := plain; i < len(s); i++ {
		if c := s[i]; isPlain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&0xf])
		}
	}
	return b.String()
}

func isPlain(c byte) bool { return c > ' ' && c < 0x7f && c != '%' }
