// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/chaos/redisserver"
	"github.com/minigate/minigate/integration/chaos/toxic"
)

// A configuration is loaded whose store does not answer: nobody is served by it, not
// even while it is being tried.
func TestFailureReloadWithoutStore(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	server := redisServer(t)
	network := proxied(t, server.Address)
	network.Set(toxic.Condition{Stalled: true})
	const socket = "bind fd/3\nreverse_proxy UPSTREAM"
	g := prepare(t, setup{routes: socket})
	g.withSocket()
	g.run()
	token := g.login(programA, "alice")
	over := make(chan struct{})
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				begun := time.Now()
				status, body, err := tryGet("http://"+g.address+"/", token)
				if took := time.Since(begun); err == nil && (status != http.StatusOK || took > 2*time.Second) {
					t.Errorf("answered %d %s after %v", status, body, took)
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	// Which of the two apps Caddy starts first is a matter of chance.
	for range 3 {
		begun := time.Now()
		if err := g.reload(setup{options: inRedis(network.Address()), routes: socket}); err == nil {
			t.Error("it is loaded")
		} else {
			t.Logf("refused after %v: %v", time.Since(begun).Round(time.Millisecond), err)
		}
	}
	close(over)
	busy.Wait()
	g.served(token, "alice")
}
