// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Frame types and flags of HTTP/2 (RFC 9113, section 6).
const (
	h2Data, h2Headers, h2Reset, h2Settings, h2Ping, h2GoAway = 0, 1, 3, 4, 6, 7
	h2EndStream, h2Ack, h2EndHeaders                         = 1, 1, 4
)

// http2Conn is a connection of a client that opens WebSockets in HTTP/2 (RFC 8441),
// which net/http's does not. It has no flow control of its own: who is sent more
// than 64 KiB gets no more.
type http2Conn struct {
	t *testing.T
	net.Conn
	mu      sync.Mutex
	streams map[uint32]*http2Stream
	last    uint32
}

// http2Stream is one WebSocket of an http2Conn.
type http2Stream struct {
	conn     *http2Conn
	id       uint32
	accepted chan []byte // the header block of the answer
	received *io.PipeReader
	data     *io.PipeWriter
}

// errReset says that the server reset a stream before it was at its end.
var errReset = errors.New("the stream was reset")

func (g *gateway) dialHTTP2() *http2Conn {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		g.t.Fatal(err)
	}
	c := &http2Conn{t: g.t, Conn: conn, streams: make(map[uint32]*http2Stream)}
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); err != nil {
		g.t.Fatal(err)
	}
	c.frame(h2Settings, 0, 0, nil)
	go c.read()
	return c
}

// frame sends a frame.
func (c *http2Conn) frame(kind, flags byte, stream uint32, payload []byte) {
	c.t.Helper()
	header := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	header = binary.BigEndian.AppendUint32(append(header, flags), stream)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.Write(append(header, payload...)); err != nil {
		c.t.Errorf("sending a frame: %v", err)
	}
}

// read hands what the server sends to the streams.
func (c *http2Conn) read() {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, s := range c.streams {
			s.data.CloseWithError(io.ErrNoProgress) // unless it was closed
		}
	}()
	r := bufio.NewReader(c.Conn)
	for {
		var header [9]byte
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return
		}
		payload := make([]byte, binary.BigEndian.Uint32(header[:4])>>8)
		if _, err := io.ReadFull(r, payload); err != nil {
			return
		}
		flags, id := header[4], binary.BigEndian.Uint32(header[5:])
		c.mu.Lock()
		s := c.streams[id]
		c.mu.Unlock()
		switch kind := header[3]; {
		case kind == h2Settings && flags&h2Ack == 0:
			c.frame(h2Settings, h2Ack, 0, nil)
		case kind == h2Ping && flags&h2Ack == 0:
			c.frame(h2Ping, h2Ack, 0, payload)
		case kind == h2GoAway && binary.BigEndian.Uint32(payload[4:]) != 0:
			c.t.Errorf("the server goes away: %q", payload)
		case s == nil:
		case kind == h2Headers:
			s.accepted <- payload
		case kind == h2Data:
			if _, err := s.data.Write(payload); err != nil {
				return
			}
		case kind == h2Reset:
			s.data.CloseWithError(errReset) // unless it was closed
		}
		if s != nil && flags&h2EndStream != 0 && (header[3] == h2Data || header[3] == h2Headers) {
			s.data.Close()
		}
	}
}

// open opens a WebSocket.
func (c *http2Conn) open(authority, query, authorization string) *http2Stream {
	c.t.Helper()
	c.mu.Lock()
	id := 2*c.last + 1
	c.last++
	s := &http2Stream{conn: c, id: id, accepted: make(chan []byte, 1)}
	s.received, s.data = io.Pipe()
	c.streams[id] = s
	c.mu.Unlock()
	var block []byte
	for _, field := range [][2]string{
		{":method", "CONNECT"},
		{":protocol", "websocket"},
		{":scheme", "http"},
		{":authority", authority},
		{":path", "/ws?" + query},
		{"authorization", authorization},
		{"sec-websocket-version", "13"},
	} {
		block = append(block, 0) // a literal that is not indexed (RFC 7541, 6.2.2)
		for _, text := range field {
			block = append(hpackLength(block, len(text)), text...)
		}
	}
	c.frame(h2Headers, h2EndHeaders, id, block)
	select {
	case answer := <-s.accepted:
		if !bytes.Contains(answer[:2], []byte{0x88}) { // :status 200 (RFC 7541, appendix A)
			c.t.Fatalf("the answer is %q", answer)
		}
	case <-time.After(patience):
		c.t.Fatal("there is no answer")
	}
	return s
}

// hpackLength appends an integer with a prefix of 7 bits (RFC 7541, 5.1).
func hpackLength(block []byte, n int) []byte {
	if n < 127 {
		return append(block, byte(n))
	}
	return binary.AppendUvarint(append(block, 127), uint64(n-127))
}

// Read implements io.Reader.
func (s *http2Stream) Read(p []byte) (int, error) { return s.received.Read(p) }

// says sends a WebSocket frame.
func (s *http2Stream) says(opcode byte, payload string) {
	s.conn.t.Helper()
	s.conn.frame(h2Data, 0, s.id, wsFrame(opcode, []byte(payload), true))
}

// lives fails the test unless the WebSocket works.
func (s *http2Stream) lives(text string) {
	s.conn.t.Helper()
	s.says(1, text)
	if opcode, payload, err := readFrame(s); err != nil || opcode != 1 || string(payload) != text {
		s.conn.t.Fatalf("heard %d %q, %v, want %q", opcode, payload, err, text)
	}
}

// WebSockets in HTTP/2 are streams of one connection: that of the session which
// ended is closed with a close frame, in order, and the others go on.
func TestLogoutClosesWebSocketsInHTTP2(t *testing.T) {
	t.Setenv("GODEBUG", "http2xconnect=1") // net/http has it switched off
	for name, s := range map[string]setup{"plain": {}, "logged": {routes: "log {\noutput file DIR/access.log\n}\nencode"}} {
		t.Run(name, func(t *testing.T) {
			s.global = "servers {\nprotocols h1 h2c\n}"
			g, app := startLive(t, s)
			token, bob := g.login(programA, "alice"), g.login(programA, "bob")
			c := g.dialHTTP2()
			ws, other := c.open(g.address, "name=alice", "Bearer "+token), c.open(g.address, "name=bob", "Bearer "+bob)
			ws.lives("hello")
			other.lives("hello")
			g.logout(token)
			opcode, payload, err := readFrame(ws)
			if want := "\x11\x31session_revoked"; err != nil || opcode != 8 || string(payload) != want {
				t.Fatalf("heard %d %q, %v, want %q", opcode, payload, err, want)
			}
			ws.says(1, "one more thing")
			ws.says(8, "\x11\x31")
			begun := time.Now()
			if rest, err := io.ReadAll(ws); err != nil || len(rest) > 0 {
				t.Errorf("after the close frame: %q, %v", rest, err)
			}
			if took := time.Since(begun); took > 900*time.Millisecond {
				t.Errorf("the close frame was answered, and the stream ends %s later", took)
			}
			app.ended(t, "alice")
			if heard := app.heard("alice"); len(heard) != 1 {
				t.Errorf("the app heard %q", heard)
			}
			other.lives("still there")
			third := c.open(g.address, "name=carol", "Bearer "+g.login(programA, "carol"))
			third.lives("hello")
			for _, s := range []*http2Stream{other, third} {
				s.says(8, "\x03\xe8")
			}
			app.ended(t, "bob")
			app.ended(t, "carol")
			eventually(t, "no connection is open", func() bool { return g.metric("caddy_miniprogram_connections_open") == 0 })
			if closed := g.closed("session_revoked"); closed != 1 {
				t.Errorf("%v connections closed", closed)
			}
		})
	}
}

// What must not happen in HTTP/1.1 must not happen here either: no close frame
// inside another frame, and nobody keeps a connection by not reading from it.
func TestWebSocketsInHTTP2StayWholeOrEnd(t *testing.T) {
	t.Setenv("GODEBUG", "http2xconnect=1")
	g, app := startLive(t, setup{global: "servers {\nprotocols h1 h2c\n}"})
	for query, whole := range map[string]bool{"half": false, "flood=1000000": false, "flood=60000": false, "silent": true} {
		t.Run(query, func(t *testing.T) {
			g.t = t
			token := g.login(programA, "user of "+query)
			c := g.dialHTTP2()
			ws := c.open(g.address, "name=x&"+query, "Bearer "+token)
			eventually(t, "it is open", func() bool { return g.metric("caddy_miniprogram_connections_open") == 1 })
			g.logout(token)
			var err error
			var opcode byte
			for err == nil && opcode != 8 {
				opcode, _, err = readFrame(ws)
			}
			if whole != (err == nil) {
				t.Errorf("the last frame is %d, %v", opcode, err)
			}
			if !whole && !errors.Is(err, errReset) {
				t.Errorf("it ends with %v", err)
			}
			app.ended(t, "x")
		})
	}
	g.t = t
	if closed := g.closed("session_revoked"); closed != 4 {
		t.Errorf("%v connections closed", closed)
	}
	if open := g.metric("caddy_miniprogram_connections_open"); open != 0 {
		t.Errorf("%v connections are open", open)
	}
}
