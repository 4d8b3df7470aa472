// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"crypto/rand"
	"time"
)

// codeState says what a platform knows of a code.
type codeState int

const (
	// codeUnknown: never issued, expired, or forgotten.
	codeUnknown codeState = iota
	// codeFresh: issued and not used yet.
	codeFresh
	// codeUsed: exchanged before.
	codeUsed
)

// codeBook remembers one-time codes until they expire. All its codes live
// equally long, so that the first issued is the first to expire and clearing
// up costs nothing but a look at the oldest. It is not safe for concurrent use.
type codeBook[T any] struct {
	lifetime time.Duration
	limit    int
	entries  map[string]codeEntry[T]
	// issued holds the codes in the order of issue, from head on.
	issued []string
	head   int
}

// codeEntry is a code with what it was issued for.
type codeEntry[T any] struct {
	value   T
	expires time.Time
	used    bool
}

// newCodeBook makes a book that holds at most limit codes.
func newCodeBook[T any](lifetime time.Duration, limit int) codeBook[T] {
	return codeBook[T]{lifetime: lifetime, limit: limit, entries: make(map[string]codeEntry[T])}
}

// issue enters a new code.
func (b *codeBook[T]) issue(now time.Time, code string, value T) {
	for b.head < len(b.issued) && b.mustGo(now) {
		delete(b.entries, b.issued[b.head])
		b.issued[b.head] = ""
		b.head++
	}
	b.compact()
	b.entries[code] = codeEntry[T]{value: value, expires: now.Add(b.lifetime)}
	b.issued = append(b.issued, code)
}

// mustGo reports whether the oldest code has to be forgotten before the next
// one is issued.
func (b *codeBook[T]) mustGo(now time.Time) bool {
	return len(b.entries) >= b.limit || !now.Before(b.entries[b.issued[b.head]].expires)
}

// compact gives back the front of the queue when most of it is empty.
func (b *codeBook[T]) compact() {
	if b.head < 64 || b.head*2 < len(b.issued) {
		return
	}
	n := copy(b.issued, b.issued[b.head:])
	clear(b.issued[n:])
	b.issued = b.issued[:n]
	b.head = 0
}

// find looks a code up.
func (b *codeBook[T]) find(now time.Time, code string) (T, codeState) {
	entry, found := b.entries[code]
	switch {
	case !found || !now.Before(entry.expires):
		var zero T
		return zero, codeUnknown
	case entry.used:
		return entry.value, codeUsed
	default:
		return entry.value, codeFresh
	}
}

// spend marks a code as used. It stays so until it expires.
func (b *codeBook[T]) spend(code string) {
	entry, found := b.entries[code]
	if found {
		entry.used = true
		b.entries[code] = entry
	}
}

const (
	alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	hexadecimal  = "0123456789abcdef"
)

// randomText returns n random characters of alphabet, which has at most 256.
func randomText(alphabet string, n int) string {
	text := randomBytes(n)
	for i, b := range text {
		text[i] = alphabet[int(b)%len(alphabet)]
	}
	return string(text)
}

// randomBytes returns n random bytes.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
