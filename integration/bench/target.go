// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// What every target has in common.
const caddyfileCommon = `{
	admin unix/SOCKET
	persist_config off
	LOG
	GLOBAL
}
http://ADDRESS {
	bind 127.0.0.1
	DIRECTIVES
	reverse_proxy UPSTREAM
}
`

// Logs that a target may have: Caddy's own default, on standard error, where a
// line for each request would be seen in the figures; or none, with which
// Caddy's proxy does not prepare lines that it never writes.
var logs = map[string]string{
	"default": "",
	"discard": "log default {\n\t\toutput discard\n\t}",
}

// What the guarded target has in addition.
const (
	gatewayGlobal = `miniprogram {
		program wechat ` + benchProgram + ` {
			secret ` + benchSecret + `
			api PLATFORM
		}
		store file DIR/sessions.db
	}`
	gatewayDirectives = `miniprogram {
		headers user
	}`
)

// floorDirectives change the headers as the gateway does, for one user and
// without a look at the request.
const floorDirectives = `request_header -Authorization
	request_header X-User-Id OPENID
	request_header X-User-Platform wechat
	request_header X-User-Program ` + benchProgram + `
	request_header X-User-Openid OPENID
	request_header X-User-Unionid UNIONID`

// target is something that is measured.
type target struct {
	name       string
	what       string // for people
	binary     string
	global     string // lines of the global options
	directives string // lines before the proxy
	gogc       string // set in the environment of the process unless it is empty
	address    string
	headers    []string // of each request, for wrk
	*process
}

// guarded says whether a session is needed.
func (t *target) guarded() bool { return t.directives == gatewayDirectives }

// identifies says whether the upstream is told who the user is.
func (t *target) identifies() bool { return t.directives != "" }

// Names of the targets that are always measured, and of the floor.
const (
	stock = "stock"
	off   = "off"
	on    = "on"
	floor = "floor"
	nodeA = "node A"
	nodeB = "node B"
)

// targets returns what is to be measured, not started yet.
func targets(stockBinary, minigateBinary string, s Settings) []*target {
	list := []*target{
		{name: stock, what: "stock Caddy, reverse_proxy only", binary: stockBinary},
		{name: off, what: "minigate, reverse_proxy only", binary: minigateBinary},
		{
			name: on, what: "minigate, miniprogram and reverse_proxy", binary: minigateBinary,
			global: gatewayGlobal, directives: gatewayDirectives,
		},
	}
	if s.GOGC != "" {
		for _, t := range list[1:3] {
			variant := *t
			variant.gogc = s.GOGC
			variant.name += variantSuffix(s.GOGC)
			variant.what += ", GOGC=" + s.GOGC
			list = append(list, &variant)
		}
	}
	if s.Redis != "" {
		store := "store redis " + s.Redis + "\n\t\tseal_key AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
		for _, name := range []string{nodeA, nodeB} {
			list = append(list, &target{
				name: name, what: "one of two gateways that share a Redis", binary: minigateBinary,
				global:     strings.Replace(gatewayGlobal, "store file DIR/sessions.db", store, 1),
				directives: gatewayDirectives,
			})
		}
	}
	if s.Floor {
		list = append(list, &target{
			name: floor, what: "minigate, request_header and reverse_proxy", binary: minigateBinary,
			directives: floorDirectives,
		})
	}
	return list
}

// ratios names what is compared with what.
func ratios(s Settings) [][2]string {
	pairs := [][2]string{{on, off}, {on, stock}, {off, stock}}
	if s.GOGC != "" {
		variant := variantSuffix(s.GOGC)
		pairs = append(pairs,
			[2]string{on + variant, off + variant}, [2]string{off + variant, stock},
			[2]string{off, off + variant}, [2]string{on, on + variant})
	}
	if s.Redis != "" {
		pairs = append(pairs, [2]string{nodeA, on}, [2]string{nodeB, on})
	}
	if s.Floor {
		pairs = append(pairs, [2]string{floor, off}, [2]string{on, floor})
	}
	return pairs
}

// variantSuffix is what a target's name has after it if its GOGC is set.
func variantSuffix(gogc string) string { return " gogc=" + gogc }

// start starts the process of a target in a folder of its own below dir.
func (t *target) start(ctx context.Context, dir, upstream string, p *platform, s Settings) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	t.address = address
	dir = filepath.Join(dir, t.fileName())
	text := strings.NewReplacer("LOG", logs[s.Log], "GLOBAL", t.global, "DIRECTIVES", t.directives).Replace(caddyfileCommon)
	text = strings.NewReplacer("SOCKET", adminSocket(dir), "DIR", dir, "ADDRESS", address, "UPSTREAM", upstream,
		"PLATFORM", p.server.URL, "OPENID", p.identity.OpenID, "UNIONID", p.identity.UnionID).Replace(text)
	env := []string{"GOMAXPROCS=" + strconv.Itoa(s.Procs)}
	if t.gogc != "" {
		env = append(env, "GOGC="+t.gogc)
	}
	t.process, err = startProcess(ctx, t.binary, dir, text, address, env...)
	if err != nil {
		return fmt.Errorf("starting %s: %w", t.what, err)
	}
	return nil
}

// fileName returns the name of a target as a part of a path.
func (t *target) fileName() string { return strings.NewReplacer(" ", "-", "=", "-").Replace(t.name) }

// load returns the load for a target.
func (t *target) load(s Settings, seconds int) load {
	return load{
		url: "http://" + t.address + "/orders", seconds: seconds,
		connections: s.Connections, threads: s.Threads, headers: t.headers,
	}
}

// freeAddress returns a loopback address that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
