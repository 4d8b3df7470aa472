// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"syscall"
	"time"
)

// What can become of an attempt, apart from the end of the context.
var (
	errConnect  = errors.New("connecting: no connection in time")
	errClosed   = errors.New("waiting for the answer: the connection was closed")
	errBroke    = errors.New("waiting for the answer: the connection broke")
	errMangled  = &unreadable{"not HTTP"}
	errEncoding = &unreadable{"its encoding is broken or unknown"}
	errTooLarge = &unreadable{fmt.Sprintf("more than %d bytes", MaxAnswer)}
)

// unreadable says why an answer that came cannot be read.
type unreadable struct{ why string }

// Error implements error.
func (e *unreadable) Error() string { return "reading the answer: " + e.why }

// attempt is the sending of one request to one base URL.
type attempt struct {
	// connect bounds the time until there is a connection; zero: unbounded.
	connect time.Duration
	// connected is set before the first byte of the request can be written:
	// net/http reports a connection (GotConn) on the goroutine of the call and
	// writes afterwards. Dialing, TLS and a proxy's CONNECT come before it.
	connected bool
	// answered is set with the first byte of an answer.
	answered atomic.Bool
}

// do sends the request and reads the answer to its end. The errors it returns
// hold no text that the platform chose once the request has been sent.
func (a *attempt) do(ctx context.Context, transport *http.Transport, request *http.Request) (*Answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var timer *time.Timer
	if a.connect > 0 {
		timer = time.AfterFunc(a.connect, func() { cancel(errConnect) })
	}
	trace := &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			a.connected = true
			if timer != nil {
				timer.Stop()
			}
		},
		GotFirstResponseByte: func() { a.answered.Store(true) },
	}
	response, err := transport.RoundTrip(request.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if timer != nil {
		timer.Stop()
	}
	switch {
	case err != nil && !a.connected:
		return nil, connecting(ctx, err)
	case err != nil:
		return nil, a.describe(ctx, err, errMangled)
	}
	defer func() { _ = response.Body.Close() }()
	return a.read(ctx, response)
}

// read reads an answer whose head has arrived.
func (a *attempt) read(ctx context.Context, response *http.Response) (*Answer, error) {
	switch encoding := response.Header.Get("Content-Encoding"); {
	case response.StatusCode < 200:
		return nil, errMangled
	case response.StatusCode >= 300 && response.StatusCode < 400:
		return nil, &unreadable{fmt.Sprintf("a redirect (status %d)", response.StatusCode)}
	case encoding != "" && encoding != "identity":
		return nil, errEncoding
	case response.ContentLength > MaxAnswer:
		return nil, errTooLarge
	}
	body, err := readAll(response.Body, response.ContentLength)
	if err != nil {
		return nil, a.describe(ctx, err, errEncoding)
	}
	if len(body) > MaxAnswer {
		return nil, errTooLarge
	}
	return &Answer{Status: response.StatusCode, Header: response.Header, Body: body}, nil
}

// readAll reads up to one byte more than an answer may have. The length that
// the platform announced is a hint for the first buffer.
func readAll(r io.Reader, length int64) ([]byte, error) {
	size := int64(512)
	if length >= 0 {
		size = length + 1
	}
	buf := make([]byte, 0, size)
	for len(buf) <= MaxAnswer {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):min(cap(buf), MaxAnswer+1)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return buf, nil
}

// connecting puts the failure to get a connection into words. Nothing of the
// request has been sent, so that nothing of it can be in the text; but a
// server's certificate may be, and it may hold anything.
func connecting(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return &described{text: Clean(err.Error()), cause: kept(err)}
}

// describe puts a failure after sending into words that show nothing of the
// request or the answer: net/http's own errors quote what the server sent,
// which may be an echo. If it is none of the connection's, it is otherwise.
func (a *attempt) describe(ctx context.Context, err, otherwise error) error {
	var timeout net.Error
	switch cause := kept(err); {
	case ctx.Err() != nil:
		return ended(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return errClosed
	case cause != nil:
		return fmt.Errorf("%w: %w", errBroke, cause)
	case errors.As(err, &timeout), !a.answered.Load():
		return errBroke
	}
	return otherwise
}

// ended says how the context of an attempt ended. The cause that a caller gave
// its own context is not shown, because its text is not ours.
func ended(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), errConnect) {
		return errConnect
	}
	return ctx.Err()
}

// kept returns the operating system's error at the root of err, if there is
// one: the only cause that is both telling and free of foreign text.
func kept(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return nil
}

// described is an error with our own text and a cause that is not shown again.
type described struct {
	text  string
	cause error
}

// Error implements error.
func (e *described) Error() string { return e.text }

// Unwrap returns the cause.
func (e *described) Unwrap() error { return e.cause }

// Interface guards
var (
	_ error = (*unreadable)(nil)
	_ error = (*described)(nil)
)
