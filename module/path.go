// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// ambiguousPath reports whether an upstream might read the path of u as another
// one than a matcher did: where it has dot segments, empty segments, encoded
// slashes, characters that some servers treat as separators or cut at, or
// bytes that decode to no text. Such a path never decides that a request needs
// no session.
func ambiguousPath(u *url.URL) bool {
	path := u.Path
	if !strings.HasPrefix(path, "/") || !utf8.ValidString(path) || strings.ContainsAny(path, "\\;%#?") {
		return true
	}
	for i := range len(path) {
		if path[i] < ' ' || path[i] == 0x7f {
			return true
		}
	}
	if strings.Count(u.EscapedPath(), "/") != strings.Count(path, "/") {
		return true // a slash was encoded
	}
	for i, segment := range strings.Split(path[1:], "/") {
		last := i == strings.Count(path[1:], "/")
		if segment == "." || segment == ".." || (segment == "" && !last) {
			return true
		}
	}
	return false
}
