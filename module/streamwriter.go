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

	http1    bool // the request came in HTTP/1
	wrote    bool
	switched bool // the answer is 101, to WebSocket
}

// newStreamWriter returns the writer for an answer to r, and the request to hand
// on in place of r. The caller calls finish when the request has been served.
func newStreamWriter(w http.ResponseWriter, r *http.Request, v *visitor, token string) (*streamWriter, *http.Request) {
	s := &streamWriter{
		ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w},
		visitor:               v, token: token, http1: r.ProtoMajor == 1,
	}
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
	if w.stream != nil {
		return w.stream.flush()
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
	// server is the server's own writer. Deadlines are set on that, which may be
	// done at any time; what others wrap around it has them set in turn only.
	server http.ResponseWriter
	cancel context.CancelFunc // may be nil
	http1  bool
	tunnel *tunnel // nil for an event stream
	open   *connection

	writing sync.Mutex // held while the answer is written to
	ended   bool       // nothing is written any more

	mu   sync.Mutex
	over bool // the server has its writer back
}

func newStream(w *streamWriter) *stream {
	s := &stream{writer: w.ResponseWriter, server: w.ResponseWriter, cancel: w.cancel, http1: w.http1}
	for {
		wrapper, ok := s.server.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return s
		}
		s.server = wrapper.Unwrap()
	}
}

// carry makes the stream that of a WebSocket, of which body is the other half.
func (s *stream) carry(body *tunnelBody) {
	s.tunnel = newTunnel(s.cancel)
	s.tunnel.write = s.writer.Write
	s.tunnel.flush = http.NewResponseController(s.writer).Flush
	s.tunnel.cut = s.cut
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
	if s.tunnel != nil {
		return s.tunnel.send(p)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.ended {
		return 0, errEnded
	}
	return s.writer.Write(p)
}

// flush sends what was written.
func (s *stream) flush() error {
	if s.tunnel != nil {
		return s.tunnel.sendNow()
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.ended {
		return errEnded
	}
	return http.NewResponseController(s.writer).Flush()
}

// end ends an event stream.
func (s *stream) end(ending) {
	if s.cancel != nil {
		s.cancel()
	}
	s.cut()
	s.writing.Lock() // whoever is writing lets go
	defer s.writing.Unlock()
	s.ended = true
	if s.http1 {
		s.fail()
	}
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// cut ends the request, and has what is being written to the client fail. In
// HTTP/1.1 the server reads ahead while a request is served, to notice when the
// client goes away; it takes a read that fails for that, and cancels the context
// of the request. In HTTP/2 a write deadline in the past resets the stream, which
// does the same.
func (s *stream) cut() {
	s.control(func(server *http.ResponseController) {
		_ = server.SetReadDeadline(past)
		_ = server.SetWriteDeadline(past)
	})
}

// fail has a write to the client fail, which ends a request in HTTP/1.1, too. The
// server has stopped to read ahead if the client has sent more than one request.
// The caller holds writing.
func (s *stream) fail() {
	s.control(func(server *http.ResponseController) {
		_ = server.SetWriteDeadline(past) // whoever was writing may have set another
		_, _ = io.WriteString(s.server, ":\n\n")
		_ = server.Flush()
	})
}

// control calls do unless the request has been served.
func (s *stream) control(do func(server *http.ResponseController)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		do(http.NewResponseController(s.server))
	}
}

// finish says that the request has been served.
func (s *stream) finish() {
	s.open.remove()
	if s.tunnel != nil {
		s.tunnel.letGo()
		s.tunnel.stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// Interface guards
var (
	_ http.ResponseWriter = (*streamWriter)(nil)
	_ http.Hijacker       = (*streamWriter)(nil)
	_ io.ReaderFrom       = (*streamWriter)(nil)
	_ net.Conn            = (*tunnelConn)(nil)
	_ io.ReadCloser       = (*tunnelBody)(nil)
)
