// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// liveApp is an app that talks: WebSockets at /ws, event streams at /events and a
// long answer at /slow. It knows its connections by the query's name.
type liveApp struct {
	address string

	mu   sync.Mutex
	open map[string]int      // connections, by name
	said map[string][]string // what clients sent, by name
	more chan struct{}       // closed when /slow may go on
}

func startLiveApp(t *testing.T) *liveApp {
	t.Helper()
	a := &liveApp{open: make(map[string]int), said: make(map[string][]string), more: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", a.webSocket)
	mux.HandleFunc("/events", a.events)
	mux.HandleFunc("/slow", a.slow)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	a.address = server.Listener.Addr().String()
	return a
}

// count returns how many connections of this name are open.
func (a *liveApp) count(name string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open[name]
}

// heard returns what the clients of this name sent.
func (a *liveApp) heard(name string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.said[name]...)
}

// begin notes that a connection is open, until the function that it returns is
// called.
func (a *liveApp) begin(name string) (end func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open[name]++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.open[name]--
	}
}

// webSocket echoes what it receives. With a query's flood it sends frames of that
// size instead, as fast as it can; with half, the first half of one.
func (a *liveApp) webSocket(w http.ResponseWriter, r *http.Request) {
	conn, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	query := r.URL.Query()
	name := query.Get("name")
	defer a.begin(name)()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	if size, err := strconv.Atoi(query.Get("flood")); err == nil {
		go func() {
			for err == nil {
				_, err = conn.Write(wsFrame(2, make([]byte, size), false))
			}
		}()
	}
	if query.Has("half") {
		frame := wsFrame(2, make([]byte, 1000), false)
		if _, err := conn.Write(frame[:500]); err != nil {
			return
		}
	}
	for {
		opcode, payload, err := readFrame(buffer.Reader)
		if err != nil {
			return
		}
		a.mu.Lock()
		a.said[name] = append(a.said[name], string(payload))
		a.mu.Unlock()
		if _, err := conn.Write(wsFrame(opcode, payload, false)); err != nil || opcode == 8 {
			return
		}
	}
}

// events sends one event and is silent from then on, until the request ends. With
// a query's chatty it goes on and on.
func (a *liveApp) events(w http.ResponseWriter, r *http.Request) {
	defer a.begin(r.URL.Query().Get("name"))()
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	for n := 0; ; n++ {
		fmt.Fprintf(w, "data: %d\n\n", n)
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		if r.URL.Query().Has("chatty") && r.Context().Err() == nil {
			continue
		}
		<-r.Context().Done()
		return
	}
}

// slow sends the first half of its answer, and the second when more is closed.
func (a *liveApp) slow(w http.ResponseWriter, r *http.Request) {
	defer a.begin(r.URL.Query().Get("name"))()
	half := strings.Repeat("x", 100_000)
	w.Header().Set("Content-Length", strconv.Itoa(2*len(half)))
	io.WriteString(w, half)
	http.NewResponseController(w).Flush()
	select {
	case <-a.more:
		io.WriteString(w, half)
	case <-r.Context().Done():
	}
}

// wsFrame returns a WebSocket frame.
func wsFrame(opcode byte, payload []byte, masked bool) []byte {
	second := byte(0)
	if masked {
		second = 0x80
	}
	f := []byte{0x80 | opcode}
	switch length := len(payload); {
	case length < 126:
		f = append(f, second|byte(length))
	case length <= 0xffff:
		f = binary.BigEndian.AppendUint16(append(f, second|126), uint16(length))
	default:
		f = binary.BigEndian.AppendUint64(append(f, second|127), uint64(length))
	}
	if !masked {
		return append(f, payload...)
	}
	key := [4]byte{0x12, 0x34, 0x56, 0x78}
	f = append(f, key[:]...)
	for i, b := range payload {
		f = append(f, b^key[i%4])
	}
	return f
}

// readFrame reads one WebSocket frame. Those that no endpoint would take are an
// error.
func readFrame(r io.Reader) (opcode byte, payload []byte, err error) {
	var header [14]byte
	if _, err := io.ReadFull(r, header[:2]); err != nil {
		return 0, nil, err
	}
	opcode = header[0] & 0x0f
	if header[0]&0xf0 != 0x80 || (opcode != 1 && opcode != 2 && opcode < 8) || opcode > 10 {
		return 0, nil, fmt.Errorf("a frame begins with %#x", header[0])
	}
	length := uint64(header[1] & 0x7f)
	extended := map[uint64]int{126: 2, 127: 8}[length]
	if _, err := io.ReadFull(r, header[2:2+extended]); err != nil {
		return 0, nil, errors.Join(io.ErrUnexpectedEOF, err)
	}
	switch extended {
	case 2:
		length = uint64(binary.BigEndian.Uint16(header[2:]))
	case 8:
		length = binary.BigEndian.Uint64(header[2:])
	}
	if length > 1<<26 {
		return 0, nil, fmt.Errorf("a frame of %d bytes", length)
	}
	var key [4]byte
	if header[1]&0x80 != 0 {
		if _, err := io.ReadFull(r, key[:]); err != nil {
			return 0, nil, errors.Join(io.ErrUnexpectedEOF, err)
		}
	}
	payload = make([]byte, length)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, errors.Join(io.ErrUnexpectedEOF, err)
	}
	for i := range payload {
		payload[i] ^= key[i%4]
	}
	return opcode, payload, nil
}

// webSocket is the client's end of a WebSocket.
type webSocket struct {
	t *testing.T
	net.Conn
	reader *bufio.Reader
}

// dialWebSocket opens a WebSocket. early is sent along with the request.
func (g *gateway) dialWebSocket(query, authorization string, early ...byte) *webSocket {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	return g.openWebSocket(conn, g.address, query, authorization, early...)
}

// openWebSocket opens a WebSocket on a connection of its own.
func (g *gateway) openWebSocket(conn net.Conn, host, query, authorization string, early ...byte) *webSocket {
	g.t.Helper()
	g.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		g.t.Fatal(err)
	}
	request := "GET /ws?" + query + " HTTP/1.1\r\nHost: " + host + "\r\n" + authorization +
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	if _, err := conn.Write(append([]byte(request), early...)); err != nil {
		g.t.Fatal(err)
	}
	ws := &webSocket{t: g.t, Conn: conn, reader: bufio.NewReader(conn)}
	response, err := http.ReadResponse(ws.reader, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		g.t.Fatalf("the upgrade is answered %s\n%s", response.Status, g.log)
	}
	return ws
}

// says sends a text.
func (ws *webSocket) says(text string) {
	ws.t.Helper()
	if _, err := ws.Write(wsFrame(1, []byte(text), true)); err != nil {
		ws.t.Fatal(err)
	}
}

// hears fails the test unless the next frame is this text.
func (ws *webSocket) hears(text string) {
	ws.t.Helper()
	if opcode, payload, err := readFrame(ws.reader); err != nil || opcode != 1 || string(payload) != text {
		ws.t.Fatalf("heard %d %q, %v, want %q", opcode, payload, err, text)
	}
}

// lives fails the test unless the WebSocket works.
func (ws *webSocket) lives(text string) {
	ws.t.Helper()
	ws.says(text)
	ws.hears(text)
}

// readClose reads frames up to the close frame, and returns its code and reason.
func (ws *webSocket) readClose() (code int, reason string, err error) {
	for {
		opcode, payload, err := readFrame(ws.reader)
		switch {
		case err != nil:
			return 0, "", err
		case opcode == 8 && len(payload) >= 2:
			return int(binary.BigEndian.Uint16(payload)), string(payload[2:]), nil
		}
	}
}

// isClosed fails the test unless the gateway closes the WebSocket: in good order,
// with nothing after the close frame, and as soon as that was answered.
func (ws *webSocket) isClosed(code int, reason string) {
	ws.t.Helper()
	ws.closesWith(code, reason)
	ws.says("one more thing")
	if _, err := ws.Write(wsFrame(8, binary.BigEndian.AppendUint16(nil, uint16(code)), true)); err != nil {
		ws.t.Fatal(err)
	}
	begun := time.Now()
	ws.ends()
	if took := time.Since(begun); took > 900*time.Millisecond {
		ws.t.Errorf("the close frame was answered, and the connection is closed %s later", took)
	}
}

// closesWith fails the test unless there is a close frame with this code and
// reason.
func (ws *webSocket) closesWith(code int, reason string) {
	ws.t.Helper()
	gotCode, gotReason, err := ws.readClose()
	if err != nil || gotCode != code || gotReason != reason {
		ws.t.Fatalf("closed with %d %q, %v, want %d %q", gotCode, gotReason, err, code, reason)
	}
}

// ends fails the test unless there is nothing more to read.
func (ws *webSocket) ends() {
	ws.t.Helper()
	if rest, err := io.ReadAll(ws.reader); err != nil || len(rest) > 0 {
		ws.t.Fatalf("after the close frame: %q, %v", rest, err)
	}
	ws.Close()
}

// stopRedis ends a Redis server.
func stopRedis(t *testing.T, address string) {
	t.Helper()
	if err := exec.Command("redis-cli", "-u", "redis://"+address, "shutdown", "nosave").Run(); err != nil {
		t.Fatal(err)
	}
}
