// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// MaxAnswer is the most bytes of an answer that Client reads, counted
	// after decompression.
	MaxAnswer = 64 << 10

	// connectTimeout bounds a TCP connect, and again a TLS handshake.
	connectTimeout = 3 * time.Second

	// idleTimeout is shorter than the keep-alive time of common servers
	// (nginx: 75 s), so that it is we who close an idle connection: a request
	// that meets the server's close on the way is lost, and its code with it.
	idleTimeout = 45 * time.Second

	// idlePerHost keeps the connections of 256 calls in flight.
	idlePerHost = 256

	// failedFor is how long a base URL that gave no answer is tried last.
	failedFor = 15 * time.Second
)

// Client calls the HTTP interface of a platform. It is made for requests that
// carry a credential which works once: no request is ever written twice.
//
// A Client has one base URL or more. A call goes to the first; it goes to the
// next only when the one before gave no connection to write the request on
// (name lookup, TCP, proxy or TLS failed), because from the moment that a
// request has a connection the platform may have seen it. For the same reason
// net/http's own repetition on a connection that the server closed is switched
// off. A base URL that gave no answer is tried last for a short while.
//
// Client speaks HTTP/1.1 only. One connection then carries one request, so
// that a connection that breaks costs one code; in HTTP/2 it would cost every
// code in flight, and net/http repeats a stream that the server refused.
//
// It follows no redirect, keeps no cookie, and lets the context bound the call
// to the last byte of the answer. All methods may be called concurrently.
type Client struct {
	bases     []*base
	transport *http.Transport
	now       func() time.Time
}

// base is one base URL and what is known of it.
type base struct {
	url url.URL
	// failedUntil is a time in Unix nanoseconds, zero when all is well.
	failedUntil atomic.Int64
}

// Answer is what a platform answered, whatever its status and content type.
type Answer struct {
	// Status is the HTTP status. Platforms send refusals with status 200 and
	// success with others: judge by the body.
	Status int
	Header http.Header
	// Body has at most MaxAnswer bytes.
	Body []byte
}

// NewClient makes a client of base URLs such as https://api.weixin.qq.com.
// Plain http is for a simulator on the same machine: the host must then be
// localhost or a loopback address. It makes no network call.
func NewClient(baseURLs []string) (*Client, error) {
	if len(baseURLs) == 0 {
		return nil, errors.New("reading the base URLs: there is none")
	}
	c := &Client{now: time.Now}
	seen := make(map[string]bool)
	for i, raw := range baseURLs {
		u, err := parseBase(raw)
		if err != nil {
			return nil, fmt.Errorf("reading base URL %d: %w", i+1, err)
		}
		if seen[u.String()] {
			return nil, fmt.Errorf("reading base URL %d: host %q is listed twice", i+1, u.Host)
		}
		seen[u.String()] = true
		c.bases = append(c.bases, &base{url: *u})
	}
	c.transport = newTransport()
	return c, nil
}

// newTransport returns a transport that holds a few connections for long. It
// bounds neither the wait for an answer (the context does) nor the number of
// connections (the gateway bounds the calls in flight).
func newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    connectTimeout,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: MaxAnswer,
		Protocols:              protocols,
	}
}

// proxy is http.ProxyFromEnvironment with an error that does not repeat the
// proxy's URL, which may hold a password.
func proxy(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if err != nil {
		return nil, errors.New("reading the proxy of the environment: not a URL")
	}
	return u, nil
}

// parseBase reads a base URL. Its errors show no more of it than the scheme
// and the host, because what does not belong there may be a secret.
func parseBase(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	switch {
	case u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("it must have the form https://host/path")
	case u.User != nil:
		return nil, fmt.Errorf("host %q: a user name or password does not belong there", u.Host)
	case strings.ContainsAny(raw, "?#"):
		return nil, fmt.Errorf("host %q: a query or fragment does not belong there", u.Host)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("host %q: plain http goes to a loopback host only, use https", u.Host)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("scheme %q: it must be https", u.Scheme)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = strings.TrimRight(u.RawPath, "/")
	return u, nil
}

// isLoopback reports whether a host name can only mean this machine.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Get sends a GET request to path below a base URL. The path is empty or begins
// with a slash and is the provider's own; what a client sent goes into query.
//
// Every error is an *Error of reason Unavailable (no answer; its cause is a
// *NoAnswerError) or PlatformFault (an answer that cannot be read). Neither shows
// the path, the query, the body or a byte of the answer.
func (c *Client) Get(ctx context.Context, path string, query url.Values) (*Answer, error) {
	return c.call(ctx, path, query, func(r *http.Request) {
		r.Method = http.MethodGet
		// A GET without a body is one that net/http repeats by itself when a
		// kept connection breaks. With a body that it cannot rewind it does
		// not; "identity" says that the length of nothing need not be written,
		// so that the request on the wire has neither body nor header of one.
		r.Body = nothing{}
		r.TransferEncoding = []string{"identity"}
	})
}

// Post sends a POST request with a body of the given content type. For the rest
// it does as Get does.
func (c *Client) Post(ctx context.Context, path string, query url.Values, contentType string, body []byte) (*Answer, error) {
	return c.call(ctx, path, query, func(r *http.Request) {
		r.Method = http.MethodPost
		r.Header.Set("Content-Type", contentType)
		if len(body) == 0 {
			return
		}
		// GetBody is left out, so that net/http cannot send the body again.
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength = int64(len(body))
	})
}

// CloseIdleConnections closes the connections that no call uses.
func (c *Client) CloseIdleConnections() { c.transport.CloseIdleConnections() }

// call tries one base URL after the other until one has taken the request.
func (c *Client) call(ctx context.Context, path string, query url.Values, prepare func(*http.Request)) (*Answer, error) {
	encoded := query.Encode()
	var failures error
	bases := c.order()
	for i, b := range bases {
		if err := ctx.Err(); err != nil {
			return nil, noAnswer(false, join(failures, b.url.Host, err))
		}
		u := b.url
		u.Path += path
		if u.RawPath != "" {
			u.RawPath += path
		}
		u.RawQuery = encoded
		request := &http.Request{
			URL:        &u,
			Host:       u.Host,
			Proto:      "HTTP/1.1",
			ProtoMajor: 1,
			ProtoMinor: 1,
			Header:     http.Header{"User-Agent": {"minigate"}, "Accept": {"*/*"}},
		}
		prepare(request)
		a := &attempt{connect: c.connectTime(ctx, len(bases)-i-1)}
		answer, err := a.do(ctx, c.transport, request)
		c.note(ctx, b, err)
		switch {
		case err == nil:
			return answer, nil
		case errors.As(err, new(*unreadable)):
			return nil, fault(fmt.Errorf("%s: %w", u.Host, err))
		case a.connected:
			return nil, noAnswer(true, join(failures, u.Host, err))
		}
		failures = join(failures, u.Host, err)
	}
	return nil, noAnswer(false, failures)
}

// order returns the base URLs in the order to try them.
func (c *Client) order() []*base {
	if len(c.bases) == 1 || c.bases[0].failedUntil.Load() == 0 {
		return c.bases
	}
	now := c.now().UnixNano()
	well := make([]*base, 0, len(c.bases))
	var failed []*base
	for _, b := range c.bases {
		if b.failedUntil.Load() > now {
			failed = append(failed, b)
		} else {
			well = append(well, b)
		}
	}
	return append(well, failed...)
}

// note remembers whether a base URL gave an answer. A call that the caller gave
// up says nothing about it.
func (c *Client) note(ctx context.Context, b *base, err error) {
	switch {
	case err == nil || errors.As(err, new(*unreadable)):
		if b.failedUntil.Load() != 0 {
			b.failedUntil.Store(0)
		}
	case !errors.Is(ctx.Err(), context.Canceled):
		b.failedUntil.Store(c.now().Add(failedFor).UnixNano())
	}
}

// connectTime is how long the next base URL may take to give a connection when
// others are left to try: an equal part of the time there is, one part being
// for the answer. Zero means as long as the context and the dialer allow.
func (c *Client) connectTime(ctx context.Context, left int) time.Duration {
	if left == 0 {
		return 0
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return connectTimeout
	}
	return max(min(connectTimeout, deadline.Sub(c.now())/time.Duration(left+2)), 1)
}

// nothing is an empty body that net/http does not know to be empty.
type nothing struct{}

// Read implements io.Reader.
func (nothing) Read([]byte) (int, error) { return 0, io.EOF }

// WriteTo implements io.WriterTo, which spares a copy buffer of 32 KiB a request.
func (nothing) WriteTo(io.Writer) (int64, error) { return 0, nil }

// Close implements io.Closer.
func (nothing) Close() error { return nil }

// Interface guards
var (
	_ io.ReadCloser = nothing{}
	_ io.WriterTo   = nothing{}
)
