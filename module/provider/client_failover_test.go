// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// listen runs handle for every connection, on a goroutine of its own.
func listen(t testing.TB, handle func(net.Conn)) net.Addr {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				handle(conn)
			}()
		}
	}()
	return listener.Addr()
}

func TestFailOver(t *testing.T) {
	untrusted := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a server that is not trusted got the request")
	}))
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	silent := listen(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	rude := listen(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "no TLS here\r\n") })
	proxying := listen(t, func(conn net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		_, _ = io.WriteString(conn, "HTTP/1.1 403 not\x01 through me\r\n\r\n")
	})

	for name, first := range map[string]string{
		"refused":             refusing(t),
		"not trusted":         untrusted.URL,
		"handshake is silent": "https://" + silent.String(),
		"not TLS":             "https://" + rude.String(),
		"proxy refuses":       "https://proxied.example",
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			second := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				_, _ = io.WriteString(w, "{}")
			})
			useProxy := func(c *Client) {
				c.transport.Proxy = func(r *http.Request) (*url.URL, error) {
					if r.URL.Hostname() != "proxied.example" {
						return nil, nil
					}
					return &url.URL{Scheme: "http", Host: proxying.String()}, nil
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			c := newClient(t, first, second.URL)
			useProxy(c)
			answer, err := get(ctx, t, c)
			if err != nil || string(answer.Body) != "{}" || calls.Load() != 1 {
				t.Errorf("got %v %v, %d calls", answer, err, calls.Load())
			}

			ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			c = newClient(t, first, refusing(t))
			useProxy(c)
			_, err = get(ctx, t, c)
			if reasonOf(t, err) != Unavailable || MayHaveSeen(err) {
				t.Errorf("got %v, want unavailable and not seen", err)
			}
			if !errors.Is(err, syscall.ECONNREFUSED) || strings.ContainsRune(err.Error(), 1) {
				t.Errorf("got %q", err)
			}
		})
	}
}

// All base URLs get their turn within the time of the caller.
func TestConnectTime(t *testing.T) {
	c := newClient(t, "https://h.example")
	start := time.Now()
	c.now = func() time.Time { return start }
	for _, test := range []struct {
		within time.Duration
		left   int
		want   time.Duration
	}{
		{0, 0, 0},
		{0, 1, connectTimeout},
		{6 * time.Second, 0, 0},
		{6 * time.Second, 1, 2 * time.Second},
		{6 * time.Second, 2, 1500 * time.Millisecond},
		{time.Minute, 1, connectTimeout},
		{-time.Second, 1, 1},
	} {
		ctx := t.Context()
		if test.within != 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, start.Add(test.within))
			defer cancel()
		}
		if got := c.connectTime(ctx, test.left); got != test.want {
			t.Errorf("%v with %d left: got %v, want %v", test.within, test.left, got, test.want)
		}
	}
}

func TestFailedBaseIsTriedLast(t *testing.T) {
	var dialed atomic.Int32
	first := listen(t, func(net.Conn) { dialed.Add(1) })
	second := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") })
	c := newClient(t, "https://"+first.String(), second.URL)
	now := time.Now()
	c.now = func() time.Time { return now }
	for i, test := range []struct {
		after time.Duration
		want  int32
	}{
		{0, 1},
		{0, 1},
		{failedFor - 1, 1},
		{1, 2},
		{0, 2},
	} {
		now = now.Add(test.after)
		if _, err := get(t.Context(), t, c); err != nil {
			t.Fatal(err)
		}
		if got := dialed.Load(); got != test.want {
			t.Errorf("call %d: %d dials, want %d", i, got, test.want)
		}
	}
	second.Close()
	c.CloseIdleConnections()
	if _, err := get(t.Context(), t, c); reasonOf(t, err) != Unavailable || dialed.Load() != 3 {
		t.Errorf("a failed base is not tried at all: %v, %d dials", err, dialed.Load())
	}
}

func TestRecoveredBaseIsFirstAgain(t *testing.T) {
	server := serve(t, func(http.ResponseWriter, *http.Request) {})
	c := newClient(t, server.URL, refusing(t))
	for _, b := range c.bases {
		b.failedUntil.Store(time.Now().Add(time.Hour).UnixNano())
	}
	if _, err := get(t.Context(), t, c); err != nil {
		t.Fatal(err)
	}
	if c.bases[0].failedUntil.Load() != 0 {
		t.Error("an answer does not clear the failure")
	}
}

// keepAlive answers the first request of a connection and ends the connection
// in its own way once it has read the second. It counts what it reads.
func keepAlive(t testing.TB, end func(net.Conn)) (addr net.Addr, second *atomic.Int32, wire chan string) {
	second, wire = new(atomic.Int32), make(chan string, 100)
	addr = listen(t, func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		for n := 1; ; n++ {
			head, err := readHead(reader)
			if err != nil {
				return
			}
			wire <- head
			if strings.Contains(head, "second") {
				second.Add(1)
			}
			if n == 2 {
				end(conn)
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
		}
	})
	return addr, second, wire
}

// readHead reads a request and returns its head.
func readHead(r *bufio.Reader) (string, error) {
	var head strings.Builder
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		head.WriteString(line)
		if line == "\r\n" {
			_, err := r.Discard(length)
			return head.String(), err
		}
		_, _ = fmt.Sscanf(line, "Content-Length: %d", &length)
	}
}

// endings are the ways in which a kept connection can break.
var endings = map[string]func(net.Conn){
	"closed": func(net.Conn) {},
	"reset":  func(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) },
}

func TestNoRequestIsWrittenTwice(t *testing.T) {
	send := func(c *Client, method, code, body string) error {
		query := url.Values{"code": {code}}
		if method == http.MethodGet {
			_, err := c.Get(t.Context(), "/", query)
			return err
		}
		_, err := c.Post(t.Context(), "/", query, "text/plain", []byte(body))
		return err
	}
	for _, test := range []struct{ method, body string }{{"GET", ""}, {"POST", ""}, {"POST", "body"}} {
		for name, end := range endings {
			t.Run(test.method+" "+test.body+" "+name, func(t *testing.T) {
				addr, second, _ := keepAlive(t, end)
				var elsewhere atomic.Int32
				other := serve(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
				c := newClient(t, "http://"+addr.String(), other.URL)
				if err := send(c, test.method, "first", test.body); err != nil {
					t.Fatal(err)
				}
				err := send(c, test.method, "second", test.body)
				if reasonOf(t, err) != Unavailable || !MayHaveSeen(err) {
					t.Errorf("got %v, want unavailable and maybe seen", err)
				}
				if second.Load() != 1 || elsewhere.Load() != 0 {
					t.Errorf("the code was seen %d times here and %d times elsewhere", second.Load(), elsewhere.Load())
				}
			})
		}
	}
}

// The server of the test above does catch a client that repeats: net/http is one.
func TestPlainTransportRepeats(t *testing.T) {
	for name, end := range endings {
		addr, second, _ := keepAlive(t, end)
		transport := newTransport()
		t.Cleanup(transport.CloseIdleConnections)
		for _, code := range []string{"first", "second"} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/?code=%s", addr, code), nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := transport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
		if second.Load() != 2 {
			t.Errorf("%s: seen %d times, want 2", name, second.Load())
		}
	}
}

// What keeps a request from being repeated leaves no trace on the wire.
func TestRequestOnTheWire(t *testing.T) {
	addr, _, wire := keepAlive(t, endings["closed"])
	c := newClient(t, "http://"+addr.String())
	if _, err := c.Get(t.Context(), "/sns/jscode2session", url.Values{"js_code": {"a b&c"}}); err != nil {
		t.Fatal(err)
	}
	want := "GET /sns/jscode2session?js_code=a+b%26c HTTP/1.1\r\nHost: " + addr.String() +
		"\r\nUser-Agent: minigate\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n"
	if got := <-wire; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
