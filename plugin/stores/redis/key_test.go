// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/minigate/minigate/module/store"
)

func TestKey(t *testing.T) {
	const k = keyspace("minigate:")
	for key, want := range map[string]string{
		"user/abc":            "minigate:{user/abc}",
		"user/abc/profile":    "minigate:{user/abc}/profile",
		"user/abc/profile/x/": "minigate:{user/abc}/profile/x/",
		"user/abc/":           "minigate:{user/abc}/",
		"avatar/x.jpg":        "minigate:{avatar/x.jpg}",
		"key":                 "minigate:{key}",
		"a//b":                "minigate:{a/}/b",
		"//":                  "minigate:{/}/",
		"{":                   "minigate:{{}",
		"}":                   "minigate:{}}",
		"}/x":                 "minigate:{}/x}",
		"a}/b}/c":             "minigate:{a}/b}}/c",
	} {
		got := k.encode(key)
		if got != want {
			t.Errorf("%q is at %q, want %q", key, got, want)
		}
		if back, ok := k.decode(got); !ok || back != key {
			t.Errorf("%q is decoded as %q, %t", got, back, ok)
		}
	}
	for _, foreign := range []string{
		"", "minigate:", "minigate:{", "minigate:{}", "minigate:{a", "minigate:a}", "minigate:{a/b/c}", "minigate:{a/b}c/d",
		"minigate:lock:{a}", "other:{a}", "minigate:{a}/b/c", "xminigate:{a}",
	} {
		if key, ok := k.decode(foreign); ok {
			t.Errorf("%q, which nobody encodes, is decoded as %q", foreign, key)
		}
	}
}

// checkKeys checks what must hold of any two keys, under any prefixes.
func checkKeys(t interface{ Fatalf(string, ...any) }, first, second keyspace, a, b, prefix string) {
	x, y := first.encode(a), second.encode(b)
	if back, ok := first.decode(x); !ok || back != a {
		t.Fatalf("%q is at %q, which is decoded as %q, %t", a, x, back, ok)
	}
	if (x == y) != (first == second && a == b) {
		t.Fatalf("%q under %q and %q under %q are at %q and %q", a, first, b, second, x, y)
	}
	if x == second.lock(b) || y == first.lock(b) {
		t.Fatalf("%q is at %q, where a lock is", a, x)
	}
	if back, ok := first.decode(second.lock(b)); ok {
		t.Fatalf("a lock is decoded as %q", back)
	}
	begins, found := strings.HasPrefix(a, prefix), strings.HasPrefix(x, first.literal(prefix))
	if begins && !found || found && !begins && !strings.Contains(prefix, "}") {
		t.Fatalf("%q is at %q, prefix %q is %q", a, x, prefix, first.literal(prefix))
	}
	if first != second && strings.HasPrefix(y, first.literal(prefix)) {
		t.Fatalf("a scan for %q under %q finds %q", prefix, first, y)
	}
	tagA, _ := split(a)
	tagB, _ := split(b)
	if tagA == tagB && !strings.HasPrefix(tagA, "}") && hashed(x) != hashed(first.encode(b)) {
		t.Fatalf("%q and %q are in different slots", a, b)
	}
}

// hashed is the part of a key that a cluster goes by.
func hashed(key string) string {
	_, inside, ok := strings.Cut(key, "{")
	if !ok {
		return key
	}
	if inside, _, ok = strings.Cut(inside, "}"); !ok || inside == "" {
		return key
	}
	return inside
}

func TestKeysProperties(t *testing.T) {
	keys := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"/", "{", "}", "a", "user", "lock:", "*"}), 1, 9).Draw(t, "parts"), "")
	})
	prefixes := rapid.SampledFrom([]keyspace{"a", "a:", "a:a", "lock:a", "a:lock", "/", "user/a"})
	rapid.Check(t, func(t *rapid.T) {
		checkKeys(t, prefixes.Draw(t, "first"), prefixes.Draw(t, "second"), keys.Draw(t, "a"), keys.Draw(t, "b"), keys.Draw(t, "prefix"))
	})
}

func FuzzKey(f *testing.F) {
	f.Add("minigate:", "minigate:", "user/abc", "user/abc/profile", "user/")
	f.Add("a", "a:", "}/{/}", "{}", "")
	f.Fuzz(func(t *testing.T, first, second, a, b, prefix string) {
		if checkPrefix(first) != nil || checkPrefix(second) != nil || store.CheckKey(a) != nil || store.CheckKey(b) != nil {
			return
		}
		checkKeys(t, keyspace(first), keyspace(second), a, b, prefix)
	})
}

func TestPattern(t *testing.T) {
	for prefix, want := range map[string]string{
		"":         `minigate:{*`,
		"us":       `minigate:{us*`,
		"user/":    `minigate:{user/*`,
		"user/a/":  `minigate:{user/a}/*`,
		"a*/[b]?/": `minigate:{a\*/\[b\]\?}/*`,
		`a\b`:      `minigate:{a\\b*`,
	} {
		if got := keyspace("minigate:").pattern(prefix); got != want {
			t.Errorf("pattern of %q is %q, want %q", prefix, got, want)
		}
	}
}

func TestPrefix(t *testing.T) {
	for prefix, good := range map[string]bool{
		"minigate:": true, "a": true, "lock:a": true, strings.Repeat("p", 128): true,
		"": false, "a b": false, "a{": false, "}": false, "小": false, "lock:": false, "a:lock:": false, strings.Repeat("p", 129): false,
	} {
		if err := checkPrefix(prefix); (err == nil) != good {
			t.Errorf("prefix %q: %v", prefix, err)
		}
	}
}
