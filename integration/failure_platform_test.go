// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/chaos/toxic"
)

// The platform is down: nobody new gets in, nobody is signed out, and clients are
// told at once rather than after a time-out each. A code that was not sent is good
// when the platform is back.
func TestFailurePlatformDown(t *testing.T) {
	t.Parallel()
	g := prepare(t, setup{})
	network := proxied(t, strings.TrimPrefix(g.platURL, "http://"))
	g.setup.api = "http://" + network.Address()
	g.run()
	token, leaving := g.login(programA, "alice"), g.login(programA, "dave")
	network.Set(toxic.Condition{Refused: true})
	body := g.loginBody(programA, "bob")
	for range 10 {
		g.tryLogin("carol").expect(t, 503, "platform_unavailable")
	}
	begun := time.Now()
	a := g.post("/miniprogram/login", body)
	a.expect(t, 503, "platform_unavailable")
	if a.header.Get("Retry-After") == "" {
		t.Error("clients are not told when to come back")
	}
	t.Logf("refused without a call after %v", time.Since(begun).Round(time.Millisecond))
	g.served(token, "alice")
	g.post("/miniprogram/logout", "", bearer(leaving)).expectStatus(t, http.StatusNoContent)
	g.logs("platform call failed")
	g.logs("platform breaker changed")
	g.counts(loginsWithoutPlatform)
	if state := g.metric(breakerOfProgramA); state != 2 {
		t.Errorf("the breaker is in state %v", state)
	}
	network.Set(toxic.Condition{})
	g.recovered(time.Now())
	g.post("/miniprogram/login", body).expectStatus(t, http.StatusOK)
	if state := g.metric(breakerOfProgramA); state != 0 {
		t.Errorf("the breaker is in state %v", state)
	}
}

// The platform takes a minute for each answer: requests of those who are signed in
// do not wait for it, and sign-ins do not pile up.
func TestFailurePlatformSlow(t *testing.T) {
	t.Parallel()
	g := prepare(t, setup{options: "exchange {\ntimeout 1s\nconcurrency 8\n}"})
	network := proxied(t, strings.TrimPrefix(g.platURL, "http://"))
	g.setup.api = "http://" + network.Address()
	g.run()
	token := g.login(programA, "alice")
	network.Set(toxic.Condition{Latency: time.Minute})
	var busy sync.WaitGroup
	for i := range 40 {
		body := g.loginBody(programA, fmt.Sprint("user-", i))
		busy.Go(func() {
			begun := time.Now()
			g.post("/miniprogram/login", body).expect(t, 503, "platform_unavailable")
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("a login is kept waiting for %v", took)
			}
		})
	}
	for range 20 {
		begun := time.Now()
		g.served(token, "alice")
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("a request waits for the platform for %v", took)
		}
	}
	busy.Wait()
	g.logs("platform call failed")
	g.counts(loginsWithoutPlatform)
	g.counts(`caddy_miniprogram_exchange_seconds_count{platform="wechat",program="` + programA + `"}`)
	network.Set(toxic.Condition{})
	g.recovered(time.Now())
}
