// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"errors"
	"fmt"
	"strings"
)

// Keys in Redis. The first two segments of a key, which name a user, are in
// braces: a cluster keeps keys with equal braces on one node.
//
//	user/abc          minigate:{user/abc}
//	user/abc/profile  minigate:{user/abc}/profile
//
// Locks are at minigate:lock:{name}. No prefix may have a brace or end in
// "lock:", so that no two prefixes share a key.

// lockPart is what the keys of locks have between prefix and brace.
const lockPart = "lock:"

// keyspace is the part of the keys in Redis that begin with one prefix.
type keyspace string

// checkPrefix refuses a prefix whose keys could be those of another one.
func checkPrefix(prefix string) error {
	if len(prefix) < 1 || len(prefix) > 128 {
		return errors.New("prefix must have 1 to 128 characters")
	}
	for _, c := range []byte(prefix) {
		if c <= ' ' || c > '~' || c == '{' || c == '}' {
			return fmt.Errorf("prefix %q must be visible ASCII without braces", prefix)
		}
	}
	if strings.HasSuffix(prefix, lockPart) {
		return fmt.Errorf("prefix %q must not end in %q", prefix, lockPart)
	}
	return nil
}

// encode returns the key in Redis of a key of the contract.
func (k keyspace) encode(key string) string {
	tag, rest := split(key)
	return string(k) + "{" + tag + "}" + rest
}

// decode returns the key of the contract, if encode makes such a key in Redis.
func (k keyspace) decode(redisKey string) (key string, ok bool) {
	body, ok := strings.CutPrefix(redisKey, string(k)+"{")
	if !ok {
		return "", false
	}
	tag, rest := split(body) // the brace after the tag has no slash: it ends the tag
	tag, ok = strings.CutSuffix(tag, "}")
	if !ok || tag == "" {
		return "", false
	}
	return tag + rest, true
}

// literal returns what all keys in Redis begin with whose keys of the contract
// begin with prefix. Where prefix has braces, so may a few others.
func (k keyspace) literal(prefix string) string {
	tag, rest := split(prefix)
	if rest == "" {
		return string(k) + "{" + tag // the tag may go on
	}
	return string(k) + "{" + tag + "}" + rest
}

// pattern returns literal as a pattern for SCAN.
func (k keyspace) pattern(prefix string) string {
	return globs.Replace(k.literal(prefix)) + "*"
}

// lock returns the key in Redis of a lock.
func (k keyspace) lock(name string) string {
	return string(k) + lockPart + "{" + name + "}"
}

// channel returns the channel on which writes are published.
func (k keyspace) channel() string { return string(k) + "changes" }

// globs escapes what has a meaning in a pattern of Redis.
var globs = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `\`, `\\`)

// split parts a key before its second slash.
func split(key string) (tag, rest string) {
	first := strings.IndexByte(key, '/')
	if first < 0 {
		return key, ""
	}
	second := strings.IndexByte(key[first+1:], '/')
	if second < 0 {
		return key, ""
	}
	return key[:first+1+second], key[first+1+second:]
}
