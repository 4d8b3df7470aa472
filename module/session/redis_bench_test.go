// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"net"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/session"
	"github.com/minigate/minigate/plugin/stores/redis"
)

// startBenchRedis starts a Redis server and returns its address; empty where none
// is installed.
func startBenchRedis(b *testing.B) string {
	b.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		b.Log("LEFT OUT: redis-server is not installed")
		return ""
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	listener.Close()
	server := exec.Command(program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", b.TempDir())
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return address
		}
		if time.Now().After(deadline) {
			b.Fatal("redis-server does not listen")
		}
	}
}

// BenchmarkValidateColdWithRedis is the first request of a session on a gateway:
// the token is verified, and its record read from Redis on loopback and opened.
// Of all that are measured, p50 and p99 are told.
func BenchmarkValidateColdWithRedis(b *testing.B) {
	address := startBenchRedis(b)
	if address == "" {
		return
	}
	opener := &redis.Opener{Addresses: []string{address}}
	if err := opener.Provision(caddy.Context{}); err != nil {
		b.Fatal(err)
	}
	opened, err := opener.Open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { opened.Close() })
	keys, err := keyring.New(keyring.NewMaster())
	if err != nil {
		b.Fatal(err)
	}
	m := session.NewManager(session.Options{Store: opened, Keys: keys, Cache: session.NewCache()})
	const users = 1000
	tokens := make([]string, users)
	subjects := make([]string, users)
	for i := range tokens {
		s, token, err := m.Create(b.Context(), session.Login{User: benchUser(i)})
		if err != nil {
			b.Fatal(err)
		}
		tokens[i], subjects[i] = token, s.Subject
	}
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		m.Cache.Invalidate(subjects[i%users])
		begun := time.Now()
		if _, _, err := m.Validate(context.Background(), tokens[i%users]); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
