// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// streamWriter writes the answer to a request of a signed-in user. It finds out
// when the answer is one that goes on for as long as anybody likes: a WebSocket,
// or an event stream. Such a connection ends with the session that opened it. To
// any other answer it does nothing.
type streamWriter struct {
	caddyhttp.ResponseWriterWrapper
	visitor *visitor
	token   string
	cancel  context.CancelFunc // ends the request; nil where there is another way
	body    *tunnelBody        // of a CONNECT request
	stream  *stream            // nil unless the answer goes on

	wrote    bool
	switched bool // the answer is 101, to WebSocket
}

// newStreamWriter returns the writer for an answer to r, and the request to hand
// on in place of r. The caller calls finish when the request has been served.
func newStreamWriter(w http.ResponseWriter, r *http.Request, v *visitor, token string) (*streamWriter, *http.Request) {
	s := &streamWriter{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, visitor: v, token: token}
	if r.Header["Upgrade"] != nil || r.Method == http.MethodConnect || (r.ProtoMajor >= 3 && acceptsEvents(r)) {
		// These do not end with what a ResponseController can do.
		var ctx context.Context
		ctx, s.cancel = context.WithCancel(r.Context())
		r = r.WithContext(ctx)
	}
	if r.Method == http.MethodConnect && r.Body != nil {
		s.body = &tunnelBody{ReadCloser: r.Body}
		r.Body = s.body
	}
	return s, r
}

// eventStream is the media type of server-sent events.
const eventStream = "text/event-stream"

// acceptsEvents reports whether a client asks for an event stream.
func acceptsEvents(r *http.Request) bool {
	return slices.ContainsFunc(r.Header["Accept"], func(line string) bool { return strings.Contains(strings.ToLower(line), eventStream) })
}

// isEventStream reports whether an answer with this header is an event stream.
func isEventStream(h http.Header) bool {
	lines := h["Content-Type"]
	if len(lines) == 0 {
		return false
	}
	mediaType, _, _ := strings.Cut(lines[0], ";")
	return strings.EqualFold(strings.TrimSpace(mediaType), eventStream)
}

// finish says that the handlers are done with the request. What is left of it
// may not be touched any more.
func (w *streamWriter) finish() {
	if w.cancel != nil {
		w.cancel()
	}
	if w.stream != nil {
		w.stream.finish()
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *streamWriter) WriteHeader(status int) {
	first := !w.wrote && (status >= 200 || status == http.StatusSwitchingProtocols)
	if first {
		w.wrote = true
		w.switched = status == http.StatusSwitchingProtocols && strings.EqualFold(w.Header().Get("Upgrade"), "websocket")
	}
	w.ResponseWriter.WriteHeader(status)
	switch {
	case !first:
	case w.body != nil && status < 300:
		w.stream = newStream(w)
		w.stream.carry(w.body)
		w.stream.open = w.visitor.connections.add(w.visitor.session.Subject, w.token, w.stream.tunnel.end)
	case w.body == nil && isEventStream(w.Header()):
		w.stream = newStream(w)
		w.stream.open = w.visitor.connections.add(w.visitor.session.Subject, w.token, w.stream.end)
	}
}

// begin begins the answer if nobody has.
func (w *streamWriter) begin() {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
}

// Write implements http.ResponseWriter.
func (w *streamWriter) Write(p []byte) (int, error) {
	w.begin()
	if w.stream != nil {
		return w.stream.write(p)
	}
	return w.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom.
func (w *streamWriter) ReadFrom(r io.Reader) (int64, error) {
	w.begin()
	if w.stream != nil {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError flushes the answer, as http.ResponseController wants it.
func (w *streamWriter) FlushError() error {
	w.begin()
	if w.stream != nil && w.stream.tunnel != nil {
		return w.stream.tunnel.sendNow()
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack implements http.Hijacker. What it hands out stays the gateway's to end.
func (w *streamWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	watched := newTunnelConn(conn, w.switched, w.cancel)
	buffer.Writer.Reset(watched)
	if early, _ := buffer.Peek(buffer.Reader.Buffered()); len(early) > 0 {
		// It was sent before the upgrade was answered.
		early = bytes.Clone(early)
		watched.tunnel.received.Follow(early)
		buffer.Reader.Reset(io.MultiReader(bytes.NewReader(early), watched))
		_, _ = buffer.Peek(len(early)) // it is in the buffer again
	} else {
		buffer.Reader.Reset(watched)
	}
	watched.open = w.visitor.connections.add(w.visitor.session.Subject, w.token, watched.tunnel.end)
	return watched, buffer, nil
}

// stream is an answer that goes on and is not hijacked: an event stream, or the
// WebSocket of a CONNECT request.
type stream struct {
	writer http.ResponseWriter
	cancel context.CancelFunc // may be nil
	tunnel *tunnel            // nil for an event stream
	open   *connection
	ended  atomic.Bool

	mu   sync.Mutex
	over bool // the server has the writer back
}

func newStream(w *streamWriter) *stream { return &stream{writer: w.ResponseWriter, cancel: w.cancel} }

// carry makes the stream that of a WebSocket, of which body is the other half.
func (s *stream) carry(body *tunnelBody) {
	s.tunnel = newTunnel(s.cancel)
	s.tunnel.write = s.writer.Write
	s.tunnel.flush = http.NewResponseController(s.writer).Flush
	s.tunnel.hurry = func(deadline time.Time) {
		s.control(func(c *http.ResponseController) { _ = c.SetWriteDeadline(deadline) })
	}
	s.tunnel.leave = func(said bool) {
		if !said {
			s.cut()
		}
		_ = body.shut()
	}
	body.tunnel.Store(s.tunnel)
}

// write writes p to the client.
func (s *stream) write(p []byte) (int, error) {
	switch {
	case s.tunnel != nil:
		return s.tunnel.send(p)
	case s.ended.Load():
		return 0, errEnded
	default:
		return s.writer.Write(p)
	}
}

// end ends an event stream.
func (s *stream) end(ending) {
	s.ended.Store(true)
	if s.cancel != nil {
		s.cancel()
	}
	s.cut()
}

// cut ends the request, and has what is being written to the client fail. In
// HTTP/1.1 the server reads ahead while a request is served, to notice when the
// client goes away; it takes a read that fails for that, and cancels the context
// of the request. In HTTP/2 a write deadline in the past resets the stream, which
// does the same.
func (s *stream) cut() {
	s.control(func(c *http.ResponseController) {
		past := time.Unix(1, 0)
		_ = c.SetReadDeadline(past)
		_ = c.SetWriteDeadline(past)
	})
}

// control calls do unless the request has been served.
func (s *stream) control(do func(*http.ResponseController)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		do(http.NewResponseController(s.writer))
	}
}

// finish says that the request has been served.
func (s *stream) finish() {
	s.open.remove()
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	if s.tunnel != nil {
		s.tunnel.letGo()
		s.tunnel.stop()
	}
}

// Interface guards
var (
	_ http.ResponseWriter = (*streamWriter)(nil)
	_ http.Hijacker       = (*streamWriter)(nil)
	_ io.ReaderFrom       = (*streamWriter)(nil)
	_ net.Conn            = (*tunnelConn)(nil)
	_ io.ReadCloser       = (*tunnelBody)(nil)
)
