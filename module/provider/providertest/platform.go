// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// most is how many codes the suite uses.
const most = 256

// answer answers a request. n is the number of the code in it, -1 if it has none.
type answer func(w http.ResponseWriter, r *http.Request, n int)

// platform is a server that stands in for a platform and counts what it sees.
type platform struct {
	*httptest.Server
	suite   Suite
	numbers map[string]int

	// connections is how many were ever opened.
	connections atomic.Int32

	mu   sync.Mutex
	seen map[int]int           // requests by number of the code
	open map[net.Conn]struct{} // connections open now
	left chan struct{}         // gets a value when the last one closes
}

// start runs a platform that answers in the given way and ends with t.
func start(t testing.TB, s Suite, how answer) *platform {
	t.Helper()
	p := &platform{
		suite:   s,
		numbers: make(map[string]int, most),
		seen:    make(map[int]int),
		open:    make(map[net.Conn]struct{}),
		left:    make(chan struct{}, 1),
	}
	for n := range most {
		p.numbers[s.Code(n)] = n
	}
	if len(p.numbers) != most {
		t.Fatalf("the suite has only %d different codes, want %d", len(p.numbers), most)
	}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		how(w, r, p.look(t, r))
	}))
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.Config.ConnState = p.watch
	p.Start()
	t.Cleanup(func() {
		p.CloseClientConnections() // those of calls that hang, too
		p.Close()
	})
	return p
}

// look reads the code in a request and leaves the body for others to read.
func (p *platform) look(t testing.TB, r *http.Request) int {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return -1
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	code := p.suite.CodeOf(r)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if code == "" {
		return -1
	}
	n, ok := p.numbers[code]
	if !ok {
		t.Errorf("the platform got a code that was not given to the provider: %q", code)
		return -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[n]++
	return n
}

// watch follows the connections. A hijacked one counts as closed.
func (p *platform) watch(conn net.Conn, state http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch state {
	case http.StateNew:
		p.connections.Add(1)
		p.open[conn] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(p.open, conn)
		if len(p.open) == 0 {
			select {
			case p.left <- struct{}{}:
			default:
			}
		}
	}
}

// sightings returns how many requests had Code(n).
func (p *platform) sightings(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[n]
}

// sawOnce checks that the platform got Code(n) in one request.
func (p *platform) sawOnce(t testing.TB, n int) {
	t.Helper()
	if got := p.sightings(n); got != 1 {
		t.Errorf("code %d was sent %d times, want 1", n, got)
	}
}

// isUntouched checks that nobody called.
func (p *platform) isUntouched(t testing.TB) {
	t.Helper()
	if n := p.connections.Load(); n != 0 {
		t.Errorf("the second base URL was called %d times after the first may have seen the code", n)
	}
}

// waitUntilLeft waits until the provider has closed every connection.
func (p *platform) waitUntilLeft(t testing.TB) {
	t.Helper()
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		n := len(p.open)
		p.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-p.left:
		case <-deadline:
			t.Errorf("%d connections are still open after clean-up", n)
			return
		}
	}
}

// take takes the connection of a request away from the server.
func take(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	return conn
}

// reset closes a connection so that the other side gets a reset.
func reset(conn net.Conn) {
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// accepting runs handle on every connection until t ends, and returns the base
// URL. The connection is closed afterwards.
func accepting(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	listener := listen(t)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				handle(conn)
				_ = conn.Close()
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// refusing returns a base URL at which nobody listens.
func refusing(t testing.TB) string {
	t.Helper()
	listener := listen(t)
	_ = listener.Close()
	return "http://" + listener.Addr().String()
}

// listen listens on loopback until t ends.
func listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}
