// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package toxic

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
)

const patience = 20 * time.Second

// echo starts a server that says what it hears.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

func listen(t *testing.T, identify func(net.Addr) string) *Proxy {
	t.Helper()
	p, err := Listen(echo(t), identify)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// say sends text and waits for its echo. It returns why there is none.
func say(conn net.Conn, text string, within time.Duration) error {
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	return hear(conn, text, within)
}

func hear(conn net.Conn, text string, within time.Duration) error {
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	heard := make([]byte, len(text))
	if _, err := io.ReadFull(conn, heard); err != nil {
		return err
	}
	if string(heard) != text {
		return errors.New("another text")
	}
	return nil
}

// A test of what happens when the network is slow, silent or gone is worth
// nothing if the network is not.
func TestConditions(t *testing.T) {
	p := listen(t, nil)
	conn := dial(t, p)
	if err := say(conn, "hello", patience); err != nil {
		t.Fatal(err)
	}

	p.Set(Condition{Latency: 50 * time.Millisecond})
	begun := time.Now()
	if err := say(conn, "slow", patience); err != nil || time.Since(begun) < 100*time.Millisecond {
		t.Errorf("there and back in %v, error %v", time.Since(begun), err)
	}

	p.Set(Condition{Stalled: true})
	if err := say(conn, "late", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("stalled: %v", err)
	}
	waiting := dial(t, p) // a connection can be made
	if err := say(waiting, "too", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("stalled, a new connection: %v", err)
	}
	p.Set(Condition{})
	if err := hear(conn, "late", patience); err != nil {
		t.Errorf("what was sent before: %v", err)
	}
	if err := hear(waiting, "too", patience); err != nil {
		t.Errorf("what was sent before on a new connection: %v", err)
	}

	p.Set(Condition{Refused: true})
	if err := say(conn, "x", patience); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("refused: %v", err)
	}
	if err := say(dial(t, p), "x", patience); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("refused, a new connection: %v", err)
	}
	p.Set(Condition{})
	again := dial(t, p)
	if err := say(again, "again", patience); err != nil {
		t.Error(err)
	}
	p.Cut()
	if err := say(again, "x", patience); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("cut: %v", err)
	}
	if err := say(dial(t, p), "on", patience); err != nil {
		t.Errorf("after a cut: %v", err)
	}
}

// One of several who use a server is cut off from it, the others are not.
func TestConditionOfOneOwner(t *testing.T) {
	owners := make(chan string, 2)
	p := listen(t, func(net.Addr) string { return <-owners })
	owners <- "a"
	a := dial(t, p)
	if err := say(a, "hello", patience); err != nil {
		t.Fatal(err)
	}
	owners <- "b"
	b := dial(t, p)
	p.SetFor("a", Condition{Stalled: true})
	if err := say(a, "late", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the one cut off: %v", err)
	}
	if err := say(b, "hello", patience); err != nil {
		t.Errorf("the other: %v", err)
	}
	p.Set(Condition{})
	if err := hear(a, "late", patience); err != nil {
		t.Error(err)
	}
}

// A run of hours must not end with a million goroutines.
func TestCloseLeavesNothing(t *testing.T) {
	p := listen(t, nil)
	before := runtime.NumGoroutine()
	for i := range 20 {
		conn := dial(t, p)
		if err := say(conn, "x", patience); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			conn.Close()
		}
	}
	p.Set(Condition{Stalled: true})
	dial(t, p)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), before)
		}
	}
}
