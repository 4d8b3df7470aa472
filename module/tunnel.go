// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minigate/minigate/module/websocket"
)

// errEnded is what the proxy reads from, and writes to, a connection whose
// session has ended.
var errEnded = errors.New("the session that opened this connection has ended")

// ending is why and how a connection is ended.
type ending struct {
	// word is the error word, or shutdown.
	word string
	// code is the close code of a WebSocket.
	code uint16
	// patience is how long an upstream may take to complete a frame, and how long
	// a client may take to answer the close frame.
	patience time.Duration
}

// tunnel is the gateway's hold on a WebSocket between a client and an upstream.
// The proxy copies what they say to each other; the tunnel watches it go by, and
// can end it: with a close frame between two frames, after which neither hears
// anything of the other.
type tunnel struct {
	// write writes to the client, and flush, if there is one, sees to it that it
	// is sent. They are called with mu held.
	write func(p []byte) (int, error)
	flush func() error
	// cut has what is being written to the client fail.
	cut func()
	// leave ends the connection to the client. said reports whether the close
	// frame was sent.
	leave func(said bool)
	// cancel ends the request to the upstream, if there is one.
	cancel context.CancelFunc

	// farewell is the close frame, once the connection is being ended: from then
	// on nothing of the client's goes to the upstream, and to the client only what
	// completes a frame.
	farewell atomic.Pointer[[]byte]

	mu   sync.Mutex
	sent websocket.Frames
	// opaque says that frames cannot be told, because the upgrade was not seen.
	opaque bool
	mute   bool // nothing is written any more
	said   bool
	silent chan struct{} // closed when mute

	received websocket.Frames // of those who read
	heard    chan struct{}    // closed when the client closed its side
	hear     func()           // closes heard
	gone     chan struct{}    // closed when the proxy has let go of the connection
	letGo    func()           // closes gone
}

func newTunnel(cancel context.CancelFunc) *tunnel {
	t := &tunnel{cancel: cancel, silent: make(chan struct{}), heard: make(chan struct{}), gone: make(chan struct{})}
	t.hear = sync.OnceFunc(func() { close(t.heard) })
	t.letGo = sync.OnceFunc(func() { close(t.gone) })
	return t
}

// send writes what the upstream sends to the client.
func (t *tunnel) send(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mute {
		return 0, errEnded
	}
	if t.farewell.Load() == nil {
		return t.forward(p)
	}
	n, rest := 0, t.sent.Rest(p)
	if rest > 0 {
		var err error
		if n, err = t.forward(p[:rest]); err != nil {
			return n, err
		}
	}
	t.sayFarewell()
	if n < len(p) {
		return n, errEnded
	}
	return n, nil
}

// forward writes p. The caller holds mu.
func (t *tunnel) forward(p []byte) (int, error) {
	n, err := t.write(p)
	t.sent.Follow(p[:n])
	return n, err
}

// sendNow flushes what was sent.
func (t *tunnel) sendNow() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mute {
		return errEnded
	}
	return t.flush()
}

// sayFarewell sends the close frame, unless a frame is half way through. The
// caller holds mu.
func (t *tunnel) sayFarewell() {
	frame := t.farewell.Load()
	if t.mute || t.opaque || frame == nil || !t.sent.Whole() {
		return
	}
	if t.sent.Closed() { // the upstream was faster
		t.said = true
	} else {
		_, err := t.write(*frame)
		t.said = err == nil
	}
	if t.said && t.flush != nil {
		t.said = t.flush() == nil
	}
	t.silence()
}

// silence lets nothing more be written. The caller holds mu.
func (t *tunnel) silence() {
	if !t.mute {
		t.mute = true
		close(t.silent)
	}
}

// stop returns when nothing is written any more.
func (t *tunnel) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.silence()
}

// receive reads what the client sends to the upstream.
func (t *tunnel) receive(p []byte, read func([]byte) (int, error)) (int, error) {
	for {
		n, err := read(p)
		t.received.Follow(p[:n])
		over := err != nil || t.received.Closed()
		if over {
			t.hear()
		}
		if t.farewell.Load() == nil {
			return n, err
		}
		if over {
			return 0, errEnded
		}
	}
}

// end ends the connection. It takes twice the patience at most.
func (t *tunnel) end(e ending) {
	frame := websocket.CloseFrame(e.code, e.word)
	if !t.farewell.CompareAndSwap(nil, &frame) {
		return
	}
	hurry := time.AfterFunc(e.patience, t.cut)
	t.mu.Lock()
	t.sayFarewell()
	if t.opaque {
		t.silence()
	}
	t.mu.Unlock()
	wait(e.patience, t.silent, t.gone) // for the upstream to complete the frame
	t.stop()
	hurry.Stop()
	if t.cancel != nil {
		t.cancel()
	}
	if t.said {
		wait(e.patience, t.heard, nil)
	}
	t.leave(t.said)
}

// wait returns when one of two channels is closed, or after a time.
func wait(patience time.Duration, one, other <-chan struct{}) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-one:
	case <-other:
	case <-timer.C:
	}
}

// tunnelConn is the client's connection after an upgrade in HTTP/1.1.
type tunnelConn struct {
	net.Conn
	tunnel *tunnel
	open   *connection
}

// newTunnelConn returns conn as the proxy may have it. framed says whether
// nothing but frames will be written to it.
func newTunnelConn(conn net.Conn, framed bool, cancel context.CancelFunc) *tunnelConn {
	t := newTunnel(cancel)
	t.opaque = !framed
	t.write = conn.Write
	t.cut = func() { _ = conn.SetWriteDeadline(past) }
	t.leave = func(bool) { _ = conn.Close() }
	return &tunnelConn{Conn: conn, tunnel: t}
}

// Read implements net.Conn.
func (c *tunnelConn) Read(p []byte) (int, error) { return c.tunnel.receive(p, c.Conn.Read) }

// Write implements net.Conn.
func (c *tunnelConn) Write(p []byte) (int, error) { return c.tunnel.send(p) }

// Close implements net.Conn. A connection that is being ended stays open until
// the client has read why. When Close returns, nothing is written any more: the
// server may go on to count what was.
func (c *tunnelConn) Close() (err error) {
	c.open.remove()
	c.tunnel.letGo()
	if c.tunnel.farewell.Load() == nil {
		err = c.Conn.Close()
	}
	c.tunnel.stop()
	return err
}

// CloseWrite closes the half of the connection that goes to the client, after
// which nothing can be said to it, not even farewell.
func (c *tunnelConn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	c.tunnel.mu.Lock()
	defer c.tunnel.mu.Unlock()
	if c.tunnel.mute || c.tunnel.farewell.Load() != nil {
		return errEnded
	}
	c.tunnel.opaque = true
	return half.CloseWrite()
}

// tunnelBody is the body of a CONNECT request: what the client sends through a
// WebSocket in HTTP/2 or HTTP/3.
type tunnelBody struct {
	io.ReadCloser
	tunnel atomic.Pointer[tunnel] // once the upgrade was accepted
	once   sync.Once
}

// Read implements io.Reader.
func (b *tunnelBody) Read(p []byte) (int, error) {
	t := b.tunnel.Load()
	if t == nil {
		return b.ReadCloser.Read(p)
	}
	return t.receive(p, b.ReadCloser.Read)
}

// Close implements io.Closer. Like that of tunnelConn, it leaves a connection
// open that is being ended.
func (b *tunnelBody) Close() error {
	if t := b.tunnel.Load(); t != nil {
		t.letGo()
		if t.farewell.Load() != nil {
			return nil
		}
	}
	return b.shut()
}

// shut closes the body, and with it wakes who reads it.
func (b *tunnelBody) shut() (err error) {
	b.once.Do(func() { err = b.ReadCloser.Close() })
	return err
}
