// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// canary stands for every secret of a request.
const canary = "canary-0712cDoV0cfty22AeloV0daMoV02cDog"

// newClient makes a client that is closed with the test.
func newClient(t testing.TB, bases ...string) *Client {
	t.Helper()
	c, err := NewClient(bases)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// serve runs a quiet server.
func serve(t testing.TB, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// refusing returns a base URL at which nobody listens.
func refusing(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return "http://" + listener.Addr().String()
}

// get calls with a secret in the query, and checks that no error shows it.
func get(ctx context.Context, t testing.TB, c *Client) (*Answer, error) {
	t.Helper()
	answer, err := c.Get(ctx, "/sns/jscode2session", url.Values{"js_code": {canary}})
	checkError(t, err)
	return answer, err
}

// checkError checks that err, if it is one, is an *Error without a secret.
func checkError(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if !errors.As(err, new(*Error)) {
		t.Errorf("not an *Error: %T %v", err, err)
	}
	if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "jscode2session") {
		t.Errorf("error shows the request: %v", err)
	}
}

// reasonOf returns the reason of an error that must be one.
func reasonOf(t testing.TB, err error) Reason {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("want an *Error, got %v", err)
	}
	return e.Reason
}

func TestNewClient(t *testing.T) {
	for raw, want := range map[string]string{
		"https://api.weixin.qq.com":          "",
		"https://openapi.example/gate.do":    "",
		"https://api.weixin.qq.com:8443/":    "",
		"http://localhost:9801":              "",
		"http://127.0.0.1:9801/wechat":       "",
		"http://[::1]:9801":                  "",
		"":                                   "it must have the form https://host/path",
		"api.weixin.qq.com":                  "it must have the form https://host/path",
		"https:///path":                      "it must have the form https://host/path",
		"https:api.weixin.qq.com":            "it must have the form https://host/path",
		"https://:443":                       "it must have the form https://host/path",
		"https://a b/":                       "not a URL",
		"http://api.weixin.qq.com":           `host "api.weixin.qq.com": plain http goes to a loopback host only, use https`,
		"http://localhost.evil.example":      `host "localhost.evil.example": plain http goes to a loopback host only, use https`,
		"ftp://api.weixin.qq.com":            `scheme "ftp": it must be https`,
		"https://api.weixin.qq.com?x=1":      `host "api.weixin.qq.com": a query or fragment does not belong there`,
		"https://api.weixin.qq.com?":         `host "api.weixin.qq.com": a query or fragment does not belong there`,
		"https://api.weixin.qq.com#x":        `host "api.weixin.qq.com": a query or fragment does not belong there`,
		"https://u:" + canary + "@h.example": `host "h.example": a user name or password does not belong there`,
		"https://h.example/%zz" + canary:     "not a URL",
	} {
		_, err := NewClient([]string{raw})
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", raw, err)
		case want != "" && (err == nil || err.Error() != "reading base URL 1: "+want):
			t.Errorf("%q:\n got %v\nwant %s", raw, err, want)
		}
	}
	if _, err := NewClient(nil); err == nil {
		t.Error("no base URL: want an error")
	}
	_, err := NewClient([]string{"https://h.example", "https://h.example/"})
	if err == nil || err.Error() != `reading base URL 2: host "h.example" is listed twice` {
		t.Errorf("listed twice: %v", err)
	}
}

func TestAnswerIsHandedOver(t *testing.T) {
	for _, status := range []int{200, 201, 204, 400, 403, 404, 429, 500, 503} {
		server := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(status)
			if status != 204 {
				_, _ = io.WriteString(w, r.URL.Path+" "+r.URL.Query().Get("js_code"))
			}
		})
		answer, err := get(t.Context(), t, newClient(t, server.URL+"/below/"))
		if err != nil {
			t.Fatalf("%d: %v", status, err)
		}
		want := "/below/sns/jscode2session " + canary
		if status == 204 {
			want = ""
		}
		if answer.Status != status || string(answer.Body) != want || answer.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("%d: got %d %q", status, answer.Status, answer.Body)
		}
	}
}

func TestPost(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Method+" "+r.URL.String()+" "+r.Header.Get("Content-Type")+" "+string(body))
	})
	c := newClient(t, server.URL)
	for body, want := range map[string]string{
		`{"a":1}`: `POST /x?q=1 application/json {"a":1}`,
		"":        "POST /x?q=1 application/json ",
	} {
		answer, err := c.Post(t.Context(), "/x", url.Values{"q": {"1"}}, "application/json", []byte(body))
		if err != nil || string(answer.Body) != want {
			t.Errorf("got %v %v, want %q", answer, err, want)
		}
	}
}

func TestAnswersThatCannotBeRead(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"too large, announced": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, MaxAnswer+1))
		},
		"too large, chunked": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		},
		"too large once unpacked": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			pack := gzip.NewWriter(w)
			_, _ = pack.Write(make([]byte, MaxAnswer+1))
			_ = pack.Close()
		},
		"not gzip": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, "this is not a gzip stream at all")
		},
		"unknown encoding": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, "{}")
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				t.Error("a redirect was followed")
			}
			http.Redirect(w, r, "/elsewhere?"+r.URL.RawQuery, http.StatusFound)
		},
		"not modified":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) },
		"no status":          raw("hello " + canary + "\r\n\r\n"),
		"half a status":      raw("HTTP/1.1 20"),
		"half a header":      raw("HTTP/1.1 200 OK\r\nContent-Le"),
		"two lengths":        raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
		"broken header":      raw("HTTP/1.1 200 OK\r\n" + canary + "\r\n\r\n"),
		"endless header":     raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*MaxAnswer) + "\r\n\r\n"),
		"broken chunk":       raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + canary + "\r\n0\r\n\r\n"),
		"another protocol":   raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"),
		"a newer protocol":   raw("HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
		"unknown transfer":   raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: " + canary + "\r\n\r\n{}"),
		"length not numeric": raw("HTTP/1.1 200 OK\r\nContent-Length: " + canary + "\r\n\r\n{}"),
	} {
		t.Run(name, func(t *testing.T) {
			var second atomic.Int32
			other := serve(t, func(http.ResponseWriter, *http.Request) { second.Add(1) })
			_, err := get(t.Context(), t, newClient(t, serve(t, handler).URL, other.URL))
			if name == "a newer protocol" && err == nil {
				return // net/http reads it as it does any other version
			}
			if reasonOf(t, err) != PlatformFault || !MayHaveSeen(err) {
				t.Errorf("got %v, want a platform fault", err)
			}
			if second.Load() != 0 {
				t.Error("the code went to a second base URL")
			}
		})
	}
}

// raw answers with bytes of its own and closes the connection.
func raw(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, answer)
		_ = conn.Close()
	}
}

func TestAnswersThatDoNotCome(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"closed":       raw(""),
		"half a head":  raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"),
		"half a body":  raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
		"half a chunk": raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{"),
		"reset": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			var second atomic.Int32
			other := serve(t, func(http.ResponseWriter, *http.Request) { second.Add(1) })
			_, err := get(t.Context(), t, newClient(t, serve(t, handler).URL, other.URL))
			if reasonOf(t, err) != Unavailable || !MayHaveSeen(err) {
				t.Errorf("got %v, want unavailable and maybe seen", err)
			}
			if second.Load() != 0 {
				t.Error("the code went to a second base URL")
			}
		})
	}
}

func TestLargestAnswer(t *testing.T) {
	want := bytes.Repeat([]byte("x"), MaxAnswer)
	for name, handler := range map[string]http.HandlerFunc{
		"announced": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(want) },
		"chunked": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(want[:100])
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(want[100:])
		},
		"gzip": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			pack := gzip.NewWriter(w)
			_, _ = pack.Write(want)
			_ = pack.Close()
		},
	} {
		answer, err := get(t.Context(), t, newClient(t, serve(t, handler).URL))
		if err != nil || !bytes.Equal(answer.Body, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The deadline covers the answer to its last byte, and a call that the caller
// gave up ends at once.
func TestContextEndsTheCall(t *testing.T) {
	arrived := make(chan struct{}, 1)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_ = http.NewResponseController(w).Flush()
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	c := newClient(t, server.URL, refusing(t))

	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New(canary))
	defer cancel()
	_, err := get(ctx, t, c)
	if reasonOf(t, err) != Unavailable || !errors.Is(err, context.DeadlineExceeded) || !MayHaveSeen(err) {
		t.Errorf("deadline: %v", err)
	}
	<-arrived

	ctx, cancel = context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	c = newClient(t, server.URL, refusing(t))
	_, err = get(ctx, t, c)
	if reasonOf(t, err) != Unavailable || !errors.Is(err, context.Canceled) || !MayHaveSeen(err) {
		t.Errorf("cancelled: %v", err)
	}
	if c.bases[0].failedUntil.Load() != 0 {
		t.Error("a call that the caller gave up counts as the platform's failure")
	}

	_, err = get(ctx, t, c)
	if reasonOf(t, err) != Unavailable || !errors.Is(err, context.Canceled) || MayHaveSeen(err) {
		t.Errorf("cancelled before: %v", err)
	}
}

func TestTransport(t *testing.T) {
	c := newClient(t, "https://h.example")
	if c.transport.TLSClientConfig.MinVersion != tls.VersionTLS12 {
		t.Error("TLS older than 1.2 is accepted")
	}
	offered := make(chan []string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("got HTTP/%d", r.ProtoMajor)
		}
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		offered <- hello.SupportedProtos
		return nil, nil
	}}
	server.StartTLS()
	t.Cleanup(server.Close)
	c = newClient(t, server.URL)
	c.transport.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if _, err := get(t.Context(), t, c); err != nil {
		t.Fatal(err)
	}
	for _, protocol := range <-offered {
		if protocol == "h2" {
			t.Error("HTTP/2 is offered")
		}
	}
}

func TestProxyOfTheEnvironment(t *testing.T) {
	c := newClient(t, "https://h.example")
	c.transport.Proxy = func(*http.Request) (*url.URL, error) {
		return nil, errors.New("invalid proxy")
	}
	if _, err := get(t.Context(), t, c); reasonOf(t, err) != Unavailable || MayHaveSeen(err) {
		t.Errorf("got %v", err)
	}
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/", nil)
	if u, err := proxy(request); u != nil || err != nil {
		t.Errorf("loopback: got %v %v, want no proxy", u, err)
	}
}
