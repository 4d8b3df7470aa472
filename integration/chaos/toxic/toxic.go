// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package toxic is a network that goes wrong on demand: a TCP proxy to put
// between two programs, one of which is to be tried.
package toxic

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Condition is the state of the network. The zero value is a network that works.
type Condition struct {
	// Latency is how long everything is on its way, in each direction.
	Latency time.Duration
	// Stalled says that nothing arrives and nobody is told, as if a cable were
	// cut. What was sent meanwhile arrives when it ends. A connection can still
	// be made, but nobody answers on it.
	Stalled bool
	// Refused says that connections are reset, and new ones as soon as they are
	// made.
	Refused bool
}

// Proxy hands connections on to one target. It is safe for concurrent use.
type Proxy struct {
	target   string
	listener net.Listener
	identify func(client net.Addr) string
	running  sync.WaitGroup

	mu       sync.Mutex
	general  Condition
	owned    map[string]Condition // by owner
	changed  chan struct{}        // closed when a condition changes
	links    map[*link]struct{}
	shutDown bool
}

// Listen returns a proxy to target on a free port of the loopback interface.
// identify, which may be nil, tells whose connection one from this address is,
// for SetFor.
func Listen(target string, identify func(client net.Addr) string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for %s: %w", target, err)
	}
	p := &Proxy{
		target: target, listener: listener, identify: identify,
		owned: make(map[string]Condition), changed: make(chan struct{}), links: make(map[*link]struct{}),
	}
	p.running.Go(p.accept)
	return p, nil
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Set sets the condition of all connections, those of single owners included.
func (p *Proxy) Set(c Condition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.general = c
	clear(p.owned)
	p.tell()
}

// SetFor sets the condition of the connections of one owner.
func (p *Proxy) SetFor(owner string, c Condition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owned[owner] = c
	p.tell()
}

// tell has all connections look at their condition. The caller holds p.mu.
func (p *Proxy) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
	for l := range p.links {
		if p.of(l.owner).Refused {
			l.reset()
		}
	}
}

// of returns the condition of an owner's connections. The caller holds p.mu.
func (p *Proxy) of(owner string) Condition {
	if c, ok := p.owned[owner]; ok {
		return c
	}
	return p.general
}

// condition returns the condition of an owner's connections, and what is closed
// when it changes.
func (p *Proxy) condition(owner string) (Condition, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of(owner), p.changed
}

// Cut resets all connections once.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.shutDown = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.Cut()
	p.running.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // of file descriptors, for example
			continue
		}
		p.running.Go(func() { p.serve(conn) })
	}
}

// serve hands one connection on.
func (p *Proxy) serve(client net.Conn) {
	l := &link{proxy: p, client: client, ended: make(chan struct{})}
	if p.identify != nil {
		l.owner = p.identify(client.RemoteAddr())
	}
	if !p.add(l) {
		l.reset()
		return
	}
	defer p.remove(l)
	if !l.await(time.Now()) {
		return
	}
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil || !l.connect(server) {
		l.reset()
		return
	}
	p.running.Go(func() { l.pump(server, client) })
	l.pump(client, server)
}

// add notes a connection, unless it is to be refused.
func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shutDown || p.of(l.owner).Refused {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}
