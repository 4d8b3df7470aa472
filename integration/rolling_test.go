// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keyFiles is a seal_key option whose keys, the active one and an older one, are
// in files of each gateway.
const keyFiles = "\nseal_key {file.DIR/first.key} {file.DIR/second.key}"

// sealKey returns a seal key that is made of one letter.
func sealKey(letter byte) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(letter), 32)))
}

// setKeys writes the key files of a gateway, and waits until it has them if it
// runs.
func (g *gateway) setKeys(first, second byte) {
	g.t.Helper()
	before := strings.Count(g.log.String(), "changed secret is in use")
	for name, letter := range map[string]byte{"first.key": first, "second.key": second} {
		if err := os.WriteFile(filepath.Join(g.dir, name), []byte(sealKey(letter)+"\n"), 0o600); err != nil {
			g.t.Fatal(err)
		}
	}
	if g.process != nil {
		eventually(g.t, "the keys are in use", func() bool {
			return strings.Count(g.log.String(), "changed secret is in use") > before
		})
	}
}

// nodesWithKeys starts two gateways that share a Redis and have key files.
func nodesWithKeys(t *testing.T) (a, b *gateway) {
	t.Helper()
	shared := setup{options: "store redis " + startRedis(t) + keyFiles}
	a, b = prepare(t, shared), prepare(t, shared)
	b.platform, b.platURL = a.platform, a.platURL
	for _, g := range []*gateway{a, b} {
		g.setKeys('a', 'b')
		g.run()
	}
	return a, b
}

// A seal key is replaced on one machine after the other, as documented: the new
// key is second everywhere before it is first anywhere. Nobody is signed out, not
// for a moment, wherever his requests go.
func TestSealKeyIsReplacedNodeByNode(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	a, b := nodesWithKeys(t)
	var tokens []string
	everybodyIsServed := func(when string) {
		t.Helper()
		for _, g := range []*gateway{a, b} {
			tokens = append(tokens, g.login(programA, fmt.Sprint("user-", len(tokens))))
		}
		for _, token := range tokens {
			for _, g := range []*gateway{a, b} {
				if answer := g.get("/", bearer(token)); answer.status != http.StatusOK {
					t.Fatalf("%s: %d %s", when, answer.status, answer.body)
				}
			}
		}
	}
	everybodyIsServed("before")
	for _, step := range [][2]byte{{'a', 'c'}, {'c', 'a'}} {
		for _, g := range []*gateway{a, b} {
			g.setKeys(step[0], step[1])
			everybodyIsServed(fmt.Sprintf("%c first", step[0]))
		}
	}
	for _, g := range []*gateway{a, b} {
		g.stop()
		g.run()
		everybodyIsServed("after a restart")
	}
	for _, g := range []*gateway{a, b} {
		if strings.Contains(g.log.String(), "seal key of this one") || strings.Contains(g.log.String(), "that this one lacks") {
			t.Errorf("it was done as documented, and yet\n%s", g.log)
		}
	}
}

// The new key is made the first one too early. The machine that lacks it must not
// take the records for damaged: it would sign people out, and write over what the
// other has.
func TestSealKeyIsReplacedTooEarly(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	a, b := nodesWithKeys(t)
	old := a.login(programA, "alice")
	a.setKeys('c', 'a')
	eventually(t, "it is warned of", func() bool {
		return strings.Contains(a.log.String(), "other gateways lack the active seal key of this one") &&
			strings.Contains(b.log.String(), "other gateways seal with keys that this one lacks")
	})
	fresh := a.login(programA, "alice") // seals her record with the new key
	for _, token := range []string{old, fresh} {
		b.get("/", bearer(token)).expect(t, http.StatusServiceUnavailable, "store_unavailable")
	}
	b.post("/miniprogram/login", b.loginBody(programA, "alice")).expect(t, http.StatusServiceUnavailable, "store_unavailable")
	b.setKeys('c', 'a')
	for _, token := range []string{old, fresh} {
		for _, g := range []*gateway{a, b} {
			if answer := g.get("/", bearer(token)); answer.status != http.StatusOK {
				t.Errorf("%d %s", answer.status, answer.body)
			}
		}
	}
	eventually(t, "all is well again", func() bool {
		return strings.Contains(b.log.String(), "all gateways have the seal keys that they need")
	})
}

// Somebody else's gateway, or one with a mistyped key, is given the same Redis and
// prefix: it must not start, for it could neither read nor leave alone what is
// there.
func TestOtherTenantOnTheSamePrefix(t *testing.T) {
	if !installed(t, "redis-server") {
		return
	}
	address := startRedis(t)
	options := func(key byte, more string) string {
		return "store redis " + address + " {\n" + more + "\n}\nseal_key " + sealKey(key)
	}
	first := start(t, setup{options: options('a', "")})
	token := first.login(programA, "alice")
	if n := first.metric("caddy_miniprogram_gateways"); n != 1 {
		t.Errorf("%v gateways", n)
	}

	other := start(t, setup{})
	err := other.reload(setup{options: options('z', "")})
	if err == nil || !strings.Contains(err.Error(), "none of the seal keys of this one") {
		t.Errorf("loaded: %v", err)
	}
	if err := other.reload(setup{options: options('z', "prefix other:")}); err != nil {
		t.Errorf("with a prefix of its own: %v", err)
	}
	other.login(programA, "alice")
	first.get("/", bearer(token)).expectStatus(t, http.StatusOK)

	if err := other.reload(setup{options: options('a', "")}); err != nil {
		t.Errorf("with the same key: %v", err)
	}
	other.get("/", bearer(token)).expectStatus(t, http.StatusOK)
	eventually(t, "they know of each other", func() bool { return first.metric("caddy_miniprogram_gateways") == 2 })
	other.stop()
	eventually(t, "and of the end", func() bool { return first.metric("caddy_miniprogram_gateways") == 1 })
}
