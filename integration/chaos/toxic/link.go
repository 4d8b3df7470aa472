// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package toxic

import (
	"net"
	"sync"
	"time"
)

const (
	chunkSize = 32 << 10
	// underWay is how many chunks can be on their way in one direction; a sender
	// of more has to wait, as for a window that is full.
	underWay = 256
)

// link is one connection through the proxy.
type link struct {
	proxy  *Proxy
	owner  string
	client net.Conn
	ended  chan struct{} // closed by reset

	mu     sync.Mutex
	server net.Conn // nil until connected
	isOver bool
}

// chunk is what is on its way.
type chunk struct {
	data []byte
	sent time.Time
}

// connect notes the other half. ok is false if the link was reset meanwhile.
func (l *link) connect(server net.Conn) (ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.server = server
	return !l.isOver
}

// reset ends both halves without a farewell.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range []net.Conn{l.client, l.server} {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
		}
	}
	if !l.isOver {
		l.isOver = true
		close(l.ended)
	}
}

// await returns when what was sent then has arrived, or false if it never does.
func (l *link) await(sent time.Time) bool {
	for {
		condition, changed := l.proxy.condition(l.owner)
		var arrival <-chan time.Time
		switch left := time.Until(sent.Add(condition.Latency)); {
		case condition.Refused:
			return false
		case condition.Stalled:
		case left <= 0:
			return true
		default:
			timer := time.NewTimer(left)
			defer timer.Stop()
			arrival = timer.C
		}
		select {
		case <-arrival:
		case <-changed:
		case <-l.ended:
			return false
		}
	}
}

// pump carries what from says to to. When from has said everything, to is told
// so; when to listens no more, the link ends.
func (l *link) pump(to, from net.Conn) {
	chunks := make(chan chunk, underWay)
	l.proxy.running.Go(func() {
		defer close(chunks)
		for {
			data := make([]byte, chunkSize)
			n, err := from.Read(data)
			if n > 0 {
				select {
				case chunks <- chunk{data[:n], time.Now()}:
				case <-l.ended:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	for c := range chunks {
		if !l.await(c.sent) {
			l.reset()
			return
		}
		if _, err := to.Write(c.data); err != nil {
			l.reset()
			return
		}
	}
	if !l.await(time.Now()) {
		l.reset()
		return
	}
	// Neither program that this is for goes on after half of a connection is
	// closed.
	_ = to.Close()
	_ = from.Close()
}
