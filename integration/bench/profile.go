// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
)

// profile puts one more load on each target, which is not measured, and writes
// what its processor time went to into a file of dir, for go tool pprof.
func (b *bench) profile(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making a folder for profiles: %w", err)
	}
	const seconds = 10
	for _, t := range b.targets {
		path := filepath.Join(dir, t.fileName()+".pprof")
		written := make(chan error, 1)
		go func() { written <- t.writeProfile(ctx, path, seconds) }()
		report, loadErr := runWrk(ctx, b.wrk, t.load(b.settings, seconds+1))
		if err := <-written; err != nil {
			return fmt.Errorf("profiling %s: %w", t.name, err)
		}
		if loadErr != nil {
			return fmt.Errorf("profiling %s: %w", t.name, loadErr)
		}
		progress("profile of %s, at %.0f requests/s: %s", t.name, report.throughput(), path)
	}
	return nil
}

// writeProfile asks Caddy's admin endpoint for a profile.
func (p *process) writeProfile(ctx context.Context, path string, seconds int) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.socket)
		},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/debug/pprof/profile?seconds="+strconv.Itoa(seconds), nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, data)
	}
	return os.WriteFile(path, data, 0o644)
}
