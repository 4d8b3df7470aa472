// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"net/http"
	"strings"
)

// Guard keeps the headers that carry an identity out of the client's hands.
//
// Its invariant: no byte that a client controls can create, change or remove a
// header whose name, folded to [a-z0-9], equals that of a protected header.
// Names are folded before they are compared because upstreams do the same in
// many ways: CGI and WSGI turn "-" into "_", PHP turns "." into "_", others
// ignore what they do not know.
//
// A Guard is immutable and safe for concurrent use.
type Guard struct {
	folded map[string]struct{}
	// first and length are what the folded names begin with and how long they
	// are, as bit sets: they tell most headers apart without a look into the
	// map, on a path that every header of every request takes.
	first, length uint64
}

// maxName is the length of the longest name that is compared. Longer ones
// cannot equal a protected name, see NewGuard.
const maxName = 64

// NewGuard returns a guard of the headers that presets send and of the extra
// ones named. Only the first 64 letters and digits of an extra name count.
func NewGuard(extra ...string) *Guard {
	g := &Guard{folded: make(map[string]struct{})}
	for _, name := range append(HeaderNames(), extra...) {
		var buffer [maxName]byte
		folded := fold(&buffer, name)
		if len(folded) == 0 {
			continue
		}
		g.folded[string(folded)] = struct{}{}
		g.first |= 1 << (folded[0] & 63)
		g.length |= 1 << (len(folded) & 63)
	}
	return g
}

// Protects reports whether name folds to the name of a protected header.
func (g *Guard) Protects(name string) bool {
	if name == "" {
		return false
	}
	if c := name[0] | 0x20; 'a' <= c && c <= 'z' && g.first&(1<<(c&63)) == 0 {
		return false // begins with a letter that no protected name begins with
	}
	var buffer [maxName]byte
	folded := fold(&buffer, name)
	if len(folded) == 0 || g.first&(1<<(folded[0]&63)) == 0 || g.length&(1<<(len(folded)&63)) == 0 {
		return false
	}
	_, ok := g.folded[string(folded)]
	return ok
}

// Clean removes from r everything by which its sender could forge, duplicate or
// delete a protected header, and reports how many attempts it found.
//
// It applies the hop-by-hop options of Connection at once and takes them away:
// a proxy applies them when it forwards, that is after identity headers were
// set, and "Connection: close, X-User-Id" would delete what the gateway
// injects. It drops all trailers, because they are forwarded as headers and
// arrive after everything was checked. And it drops the request for any other
// upgrade than to WebSocket: a proxy forwards what follows an upgrade byte by
// byte, and an upstream that lets itself be upgraded to HTTP/2 would read whole
// requests there, with whatever headers their sender likes.
//
// It must be called before any identity header is set, whatever becomes of the
// request.
func (g *Guard) Clean(r *http.Request) (attempts int) {
	var connection, upgrade []string
	for name, values := range r.Header {
		switch name {
		case "Connection":
			connection = values
		case "Upgrade":
			upgrade = values
		case "Trailer", "Http2-Settings":
			delete(r.Header, name)
		default:
			if g.Protects(name) {
				delete(r.Header, name)
				attempts++
			}
		}
	}
	for name := range r.Trailer {
		if g.Protects(name) {
			attempts++
		}
	}
	r.Trailer = nil
	if connection != nil {
		attempts += g.applyConnection(r.Header, connection)
	}
	if upgrade != nil && !isWebSocket(upgrade) {
		delete(r.Header, "Upgrade")
		delete(r.Header, "Connection")
		attempts++
	}
	return attempts
}

// isWebSocket reports whether the values of Upgrade ask for WebSocket alone.
func isWebSocket(upgrade []string) bool {
	return len(upgrade) == 1 && strings.EqualFold(upgrade[0], "websocket")
}

// applyConnection deletes the headers that options name, and leaves in
// Connection nothing but the request for an upgrade, if there is one.
func (g *Guard) applyConnection(h http.Header, options []string) (attempts int) {
	if len(options) == 1 && (options[0] == "keep-alive" || options[0] == "close") {
		delete(h, "Connection") // what nearly all requests say
		return 0
	}
	upgrade := false
	for _, line := range options {
		for option := range strings.SplitSeq(line, ",") {
			switch option = strings.TrimSpace(option); {
			case strings.EqualFold(option, "upgrade"):
				upgrade = len(h["Upgrade"]) > 0
			case g.Protects(option):
				attempts++
			default:
				h.Del(option)
			}
		}
	}
	if upgrade {
		h["Connection"] = []string{"Upgrade"}
	} else {
		delete(h, "Connection")
	}
	return attempts
}

// Fold returns the letters and digits of a header's name in lower case: names
// that fold to the same text are one to some upstream.
func Fold(name string) string {
	var buffer [maxName]byte
	return string(fold(&buffer, name))
}

// fold writes the letters and digits of name into buffer, in lower case, as far
// as they fit, and returns what it wrote.
func fold(buffer *[maxName]byte, name string) []byte {
	n := 0
	for i := 0; i < len(name) && n < maxName; i++ {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		default:
			continue
		}
		buffer[n] = c
		n++
	}
	return buffer[:n]
}
