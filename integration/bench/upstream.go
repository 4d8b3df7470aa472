// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
)

// echoPath is answered with the header lines of the request.
const echoPath = "/echo"

// upstreamBody is the answer to everything else.
const upstreamBody = `{"orders":[{"id":1001,"state":"paid"},{"id":1002,"state":"sent"}]}`

// upstream is the app behind every target. It reads requests line by line and
// writes a constant, which costs a fraction of what net/http does: the less it
// takes of the machine, the more is the comparison about the proxies. It
// understands GET only.
type upstream struct {
	listener net.Listener
	answer   []byte
}

// startUpstream starts the upstream on a loopback port.
func startUpstream() (*upstream, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the upstream: %w", err)
	}
	u := &upstream{listener: listener, answer: httpAnswer("application/json", upstreamBody)}
	go u.accept()
	return u, nil
}

// address returns where the upstream listens.
func (u *upstream) address() string { return u.listener.Addr().String() }

// close stops listening. Connections end with the proxies.
func (u *upstream) close() { _ = u.listener.Close() }

func (u *upstream) accept() {
	for {
		conn, err := u.listener.Accept()
		if err != nil {
			return
		}
		go u.serve(conn)
	}
}

// serve answers the requests of a connection until it ends.
func (u *upstream) serve(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReaderSize(conn, 16<<10)
	for {
		echo, err := readHead(reader)
		if err != nil {
			return
		}
		answer := u.answer
		if echo != nil {
			answer = httpAnswer("text/plain", *echo)
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// readHead reads a request up to the empty line. For echoPath, and only then,
// it returns the header lines.
func readHead(reader *bufio.Reader) (*string, error) {
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	echo := bytes.HasPrefix(line, []byte("GET "+echoPath+" "))
	var header strings.Builder
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		if echo {
			header.Write(line)
		}
	}
	if !echo {
		return nil, nil
	}
	text := header.String()
	return &text, nil
}

// httpAnswer returns an HTTP answer as bytes.
func httpAnswer(contentType, body string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", contentType, len(body), body)
}
