// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/minigate/minigate/module/websocket"
)

// pipedTunnel is a tunnel whose client is a pipe that is read to its end.
type pipedTunnel struct {
	*tunnelConn
	client net.Conn
	// received is what the client has read, once reading is closed.
	received bytes.Buffer
	reading  chan struct{}
	canceled bool
}

func newPipedTunnel(framed bool) *pipedTunnel {
	gateway, client := net.Pipe()
	p := &pipedTunnel{client: client, reading: make(chan struct{})}
	_, cancel := context.WithCancel(context.Background())
	p.tunnelConn = newTunnelConn(gateway, framed, func() {
		p.canceled = true
		cancel()
	})
	p.open = newConnections(connectionOptions{}).orphan()
	return p
}

// orphan returns a connection that is not in the registry.
func (r *connections) orphan() *connection { return &connection{registry: r} }

// read reads what is sent to the client.
func (p *pipedTunnel) read() {
	defer close(p.reading)
	_, _ = p.received.ReadFrom(p.client)
}

var sessionRevoked = ending{"session_revoked", closeUnauthorized, time.Second}

// textFrame returns a frame with n bytes of text, which look like close frames.
func textFrame(n int) []byte {
	frame := []byte{0x81, 126, byte(n >> 8), byte(n)}
	return append(frame, bytes.Repeat([]byte{0x88}, n)...)
}

// Whatever an upstream has sent when a session ends, and in whatever pieces: what
// the client gets is whole frames, then the close frame, and nothing else; or, if
// the upstream does not complete its frame, the end.
func TestEndBetweenFrames(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var stream []byte
		boundaries := map[int]bool{0: true}
		for range rapid.IntRange(1, 6).Draw(r, "frames") {
			stream = append(stream, textFrame(rapid.IntRange(0, 300).Draw(r, "length"))...)
			boundaries[len(stream)] = true
		}
		sent := stream[:rapid.IntRange(0, len(stream)).Draw(r, "sent")]
		before := rapid.IntRange(0, len(sent)).Draw(r, "before the end")
		sizes := rapid.SliceOfN(rapid.IntRange(1, 200), 1, 10).Draw(r, "pieces")
		var got []byte
		var canceled bool
		// In a bubble of its own time, in which nobody waits for a second.
		synctest.Test(t, func(t *testing.T) { got, canceled = endedAfter(t, sent, before, sizes) })
		body, polite := bytes.CutSuffix(got, websocket.CloseFrame(sessionRevoked.code, sessionRevoked.word))
		switch {
		case !bytes.HasPrefix(sent, body) || len(body) < before:
			r.Fatalf("the client got %q, the upstream sent %q", got, sent)
		case polite != boundaries[len(body)]:
			r.Fatalf("after %d bytes, of %d sent, there is a close frame: %v", len(body), len(sent), polite)
		case !polite && len(body) != len(sent):
			r.Fatalf("it gave up after %d bytes, of %d sent", len(body), len(sent))
		case !canceled:
			r.Fatal("the upstream is not told")
		}
	})
}

// endedAfter sends bytes to a client, in pieces of these sizes, with the end of the
// session after so many of them. It returns what the client got, and whether the
// upstream was told.
func endedAfter(t *testing.T, sent []byte, before int, sizes []int) ([]byte, bool) {
	p := newPipedTunnel(true)
	go p.read()
	var ending sync.WaitGroup
	begin := sync.OnceFunc(func() {
		ending.Go(func() { p.tunnel.end(sessionRevoked) })
		synctest.Wait()
	})
	for at, i := 0, 0; at < len(sent); i++ {
		limit := len(sent)
		if at < before {
			limit = before
		} else {
			begin()
		}
		piece := sent[at:min(limit, at+sizes[i%len(sizes)])]
		if n, err := p.Write(piece); (n < len(piece)) != errors.Is(err, errEnded) {
			t.Errorf("%d of %d bytes written: %v", n, len(piece), err)
		}
		at += len(piece)
	}
	begin()
	ending.Wait()
	<-p.reading
	return p.received.Bytes(), p.canceled
}

// From the moment on that a session has ended, nothing of what its client sends
// reaches the upstream; and who has answered the close frame is let go at once.
func TestNothingPassesAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipedTunnel(true)
		go p.read()
		var passed bytes.Buffer
		var busy sync.WaitGroup
		busy.Go(func() {
			if _, err := io.Copy(&passed, p); !errors.Is(err, errEnded) {
				t.Errorf("the proxy reads: %v", err)
			}
		})
		write := func(frame []byte) {
			if _, err := p.client.Write(frame); err != nil {
				t.Error(err)
			}
		}
		write(textFrame(5))
		synctest.Wait()
		begun := time.Now()
		busy.Go(func() { p.tunnel.end(sessionRevoked) })
		synctest.Wait()
		write(textFrame(7))
		time.Sleep(500 * time.Millisecond)
		write(websocket.CloseFrame(4401, ""))
		busy.Wait()
		<-p.reading
		if took := time.Since(begun); took != 500*time.Millisecond {
			t.Errorf("it takes %s", took)
		}
		if !bytes.Equal(passed.Bytes(), textFrame(5)) {
			t.Errorf("the upstream heard %q", passed.Bytes())
		}
		if n, err := p.Write([]byte("x")); n != 0 || !errors.Is(err, errEnded) {
			t.Errorf("written after the end: %d, %v", n, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Clients that do not answer, or do not read, and upstreams that say goodbye
// themselves, or no more than half of it.
func TestEndOfOthers(t *testing.T) {
	farewell := string(websocket.CloseFrame(sessionRevoked.code, sessionRevoked.word))
	for name, test := range map[string]struct {
		framed, deaf bool
		sent, want   string
		took         time.Duration
	}{
		"silent":                      {true, false, "", farewell, time.Second},
		"deaf":                        {true, true, "", "", time.Second},
		"the upstream was faster":     {true, false, "\x88\x00", "\x88\x00", time.Second},
		"the upstream is half way":    {true, false, "\x88", "\x88", time.Second},
		"frames that cannot be told":  {false, false, "HTTP/1.1 101 x\r\n\r\n\x81\x00", "HTTP/1.1 101 x\r\n\r\n\x81\x00", 0},
		"nothing that can be told":    {false, false, "", "", 0},
		"a frame longer than allowed": {true, false, "\x81\x7f" + strings.Repeat("\xff", 20), "\x81\x7f" + strings.Repeat("\xff", 20), time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipedTunnel(test.framed)
				if !test.deaf {
					go p.read()
				}
				if test.sent != "" {
					if _, err := io.WriteString(p, test.sent); err != nil {
						t.Fatal(err)
					}
				}
				begun := time.Now()
				p.tunnel.end(sessionRevoked)
				p.tunnel.end(sessionRevoked)
				if took := time.Since(begun); took != test.took {
					t.Errorf("it takes %s, want %s", took, test.took)
				}
				if test.deaf {
					p.read()
				} else {
					<-p.reading
				}
				if got := p.received.String(); got != test.want || !p.canceled {
					t.Errorf("the client got %q, want %q; the upstream was told: %v", got, test.want, p.canceled)
				}
			})
		})
	}
}

// A handler that takes a connection over without having been asked to: there is no
// upgrade, no frame and no upstream that is known.
func TestEndOfWhatIsNoWebSocket(t *testing.T) {
	gateway, client := net.Pipe()
	v := newVisitorForTest(t)
	w, _ := newStreamWriter(hijackable{httptest.NewRecorder(), gateway}, httptest.NewRequest(http.MethodGet, "/", http.NoBody), v, "token")
	conn, buffer, err := w.Hijack()
	if err != nil || v.connections.count.Load() != 1 {
		t.Fatalf("%d connections are open, %v", v.connections.count.Load(), err)
	}
	go func() {
		io.WriteString(buffer, "HTTP/1.1 101 x\r\n\r\n\x81")
		buffer.Flush()
		conn.(*tunnelConn).tunnel.end(sessionRevoked)
	}()
	if said, err := io.ReadAll(client); err != nil || string(said) != "HTTP/1.1 101 x\r\n\r\n\x81" {
		t.Errorf("the client got %q, %v", said, err)
	}
	if err := conn.Close(); err != nil || v.connections.count.Load() != 0 {
		t.Errorf("%d connections are open, %v", v.connections.count.Load(), err)
	}
}

// hijackable is a writer that lets its connection be taken over.
type hijackable struct {
	*httptest.ResponseRecorder
	net.Conn
}

func (h hijackable) Write(p []byte) (int, error) { return h.ResponseRecorder.Write(p) }

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.Conn, bufio.NewReadWriter(bufio.NewReader(h.Conn), bufio.NewWriter(h.Conn)), nil
}

// The proxy lets go of a connection while it is being ended: then there is nothing
// to wait for. And one that nobody ends is closed as ever.
func TestCloseOfTheProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipedTunnel(true)
		go p.read()
		if _, err := p.Write(textFrame(10)[:6]); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		go func() {
			time.Sleep(100 * time.Millisecond)
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}()
		p.tunnel.end(sessionRevoked)
		<-p.reading
		if took := time.Since(begun); took != 100*time.Millisecond {
			t.Errorf("it takes %s", took)
		}

		p = newPipedTunnel(true)
		go p.read()
		if err := p.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) { // of a pipe
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		<-p.reading
		p.tunnel.end(sessionRevoked)
		if p.received.Len() > 0 {
			t.Errorf("the client got %q", p.received.Bytes())
		}
	})
}
