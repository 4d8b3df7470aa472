// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// upstream is an app that shows, byte by byte, what reached it. It answers each
// request with its raw bytes, and an upgrade with the raw bytes after a 101.
type upstream struct {
	address string

	mu       sync.Mutex
	requests []string
}

func startUpstream(t *testing.T) *upstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{address: l.Addr().String()}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go u.serve(conn)
		}
	}()
	t.Cleanup(func() { l.Close() })
	return u
}

// serve answers the requests of one connection.
func (u *upstream) serve(conn net.Conn) {
	defer conn.Close()
	var raw bytes.Buffer
	reader := bufio.NewReaderSize(&oneByte{io.TeeReader(conn, &raw)}, 16)
	for {
		raw.Reset()
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return
		}
		received := raw.String()
		u.mu.Lock()
		u.requests = append(u.requests, received)
		u.mu.Unlock()
		if request.Header.Get("Upgrade") != "" {
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n%s",
				request.Header.Get("Upgrade"), received)
			return
		}
		answer := received
		if answerAs := request.URL.Query().Get("answer"); answerAs != "" {
			answer = answerAs
		}
		extra := ""
		for _, header := range request.URL.Query()["header"] {
			extra += header + "\r\n"
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n%sContent-Length: %d\r\n\r\n%s", extra, len(answer), answer)
	}
}

// oneByte makes a reader hand out single bytes, so that a buffered reader on it
// has read no further than it was asked to.
type oneByte struct{ io.Reader }

func (r *oneByte) Read(p []byte) (int, error) { return r.Reader.Read(p[:1]) }

// count returns how many requests reached the upstream.
func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.requests)
}

// headerLines returns the header and trailer lines of a raw request.
func headerLines(raw string) []string {
	var lines []string
	for line := range strings.SplitSeq(raw, "\r\n") {
		if name, _, ok := strings.Cut(line, ":"); ok && name != "" && !strings.ContainsAny(name, " /{") {
			lines = append(lines, line)
		}
	}
	return lines
}

// identities returns the values which a raw request shows under names that an
// upstream may take for name: those with the same letters and digits.
func identities(raw, name string) []string {
	var values []string
	for _, line := range headerLines(raw) {
		lineName, value, _ := strings.Cut(line, ":")
		if folded(lineName) == folded(name) {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

// folded returns the letters and digits of a header name, in lower case.
func folded(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case 'A' <= c && c <= 'Z':
			return c + 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			return c
		default:
			return -1
		}
	}, name)
}
