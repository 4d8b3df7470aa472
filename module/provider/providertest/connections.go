// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minigate/minigate/module/provider"
)

// The context ends a call whatever the platform is doing.
func testSlowAnswers(t *testing.T, s Suite) {
	for name, how := range map[string]answer{
		"silent": func(_ http.ResponseWriter, r *http.Request, _ int) { <-r.Context().Done() },
		"silent in the head": func(w http.ResponseWriter, _ *http.Request, _ int) {
			conn := take(w)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-Slow:")
			_, _ = io.Copy(io.Discard, conn) // until the provider hangs up
			_ = conn.Close()
		},
		"one byte a second": func(w http.ResponseWriter, r *http.Request, _ int) {
			second := time.NewTicker(time.Second)
			defer second.Stop()
			for {
				_, _ = io.WriteString(w, "{")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-second.C:
				case <-r.Context().Done():
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			platform := start(t, s, how)
			second := start(t, s, s.succeed)
			p := s.New(t, []string{platform.URL, second.URL})
			ctx, cancel := context.WithTimeout(t.Context(), short)
			defer cancel()
			_, err := s.exchangeWithin(ctx, t, p, s.Code(0))
			s.fails(t, err, s.Code(0), provider.Unavailable)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error does not say that the deadline passed: %v", err)
			}
			platform.sawAtMostOnce(t, 0)
			second.isUntouched(t)
		})
	}
}

func testCancellation(t *testing.T, s Suite) {
	arrived := make(chan struct{}, 1)
	platform := start(t, s, func(_ http.ResponseWriter, r *http.Request, _ int) {
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	p := s.New(t, []string{platform.URL})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		select {
		case <-arrived:
		case <-ctx.Done():
		}
		cancel()
	}()
	_, err := s.exchangeWithin(ctx, t, p, s.Code(0))
	s.fails(t, err, s.Code(0), provider.Unavailable)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error does not say that the call was cancelled: %v", err)
	}

	untouched := start(t, s, s.succeed)
	_, err = s.exchangeWithin(ctx, t, s.New(t, []string{untouched.URL}), s.Code(1))
	s.fails(t, err, s.Code(1), provider.Unavailable)
	if untouched.sightings(1) != 0 {
		t.Error("a cancelled call was made")
	}
}

// A connection that breaks may have carried the code: it is not sent again.
func testBrokenConnections(t *testing.T, s Suite) {
	for name, how := range map[string]answer{
		"closed after the request": func(w http.ResponseWriter, _ *http.Request, _ int) { _ = take(w).Close() },
		"reset after the request":  func(w http.ResponseWriter, _ *http.Request, _ int) { reset(take(w)) },
		"closed in the answer": func(w http.ResponseWriter, _ *http.Request, _ int) {
			speak(w, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
		},
		"reset in the answer": func(w http.ResponseWriter, _ *http.Request, _ int) {
			conn := take(w)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
			reset(conn)
		},
	} {
		t.Run(name, func(t *testing.T) {
			platform := start(t, s, how)
			second := start(t, s, s.succeed)
			_, err := s.exchange(t, s.New(t, []string{platform.URL, second.URL}), s.Code(0))
			s.fails(t, err, s.Code(0), provider.Unavailable)
			platform.sawAtMostOnce(t, 0)
			second.isUntouched(t)
		})
	}
	// Here the provider may find out before it writes a byte, or may not.
	for name, end := range map[string]func(net.Conn){
		"closed before the request": func(net.Conn) {},
		"reset before the request":  reset,
	} {
		t.Run(name, func(t *testing.T) {
			second := start(t, s, s.succeed)
			_, err := s.exchange(t, s.New(t, []string{accepting(t, end), second.URL}), s.Code(0))
			if err != nil {
				s.fails(t, err, s.Code(0), provider.Unavailable)
			}
			second.sawAtMostOnce(t, 0)
		})
	}
}

// A kept connection that the platform closes when it has read the next request
// is where HTTP clients like to send that request again.
func testKeptConnections(t *testing.T, s Suite) {
	const attempts = 20
	for name, end := range map[string]func(net.Conn){
		"closed": func(conn net.Conn) { _ = conn.Close() },
		"reset":  reset,
	} {
		t.Run(name, func(t *testing.T) {
			var served sync.Map // by address of the provider's end
			var broken atomic.Bool
			platform := start(t, s, func(w http.ResponseWriter, r *http.Request, n int) {
				if _, kept := served.Swap(r.RemoteAddr, true); kept && n >= 0 {
					broken.Store(true)
					end(take(w))
					return
				}
				s.succeed(w, r, n)
			})
			second := start(t, s, s.succeed)
			p := s.New(t, []string{platform.URL, second.URL})
			for n := 0; n < attempts && !broken.Load(); n++ {
				_, err := s.exchange(t, p, s.Code(n))
				if broken.Load() {
					s.fails(t, err, s.Code(n), provider.Unavailable)
				} else if err != nil {
					t.Errorf("code %d: %v", n, err)
				}
				platform.sawOnce(t, n)
			}
			if !broken.Load() {
				t.Errorf("no connection was used twice in %d calls", attempts)
			}
			second.isUntouched(t)
		})
	}
}

func testFailOver(t *testing.T, s Suite) {
	platform := start(t, s, s.succeed)
	p := s.New(t, []string{refusing(t), platform.URL})
	for n := range 3 {
		s.succeeds(t, p, n)
		platform.sawOnce(t, n)
	}
}

func testNothingListens(t *testing.T, s Suite) {
	p := s.New(t, []string{refusing(t), refusing(t)})
	for n := range 3 {
		_, err := s.exchange(t, p, s.Code(n))
		s.fails(t, err, s.Code(n), provider.Unavailable)
	}
}

// Calls run side by side, and every one gets its own answer.
func testManyAtOnce(t *testing.T, s Suite) {
	var arrived atomic.Int32
	all := make(chan struct{})
	platform := start(t, s, func(w http.ResponseWriter, r *http.Request, n int) {
		if n >= 0 {
			if arrived.Add(1) == most {
				close(all)
			}
			select {
			case <-all:
			case <-r.Context().Done():
			}
		}
		s.succeed(w, r, n)
	})
	p := s.New(t, []string{platform.URL})
	var calls sync.WaitGroup
	for n := range most {
		calls.Go(func() { s.succeeds(t, p, n) })
	}
	calls.Wait()
	for n := range most {
		platform.sawOnce(t, n)
	}
}
