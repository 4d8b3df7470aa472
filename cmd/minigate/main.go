// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Command minigate is Caddy with the gateway in it, and with the simulator that
// examples and tests run against. Its commands are Caddy's, and those below
// `minigate miniprogram`.
package main

import (
	"os"
	"runtime/debug"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/minigate/minigate"
	_ "github.com/minigate/minigate/integration/simulator"
)

// gcPercent trades memory for throughput: with Go's default of 100 a proxy that
// keeps little alive collects garbage all the time. Measured with
// integration/bench, it is worth about a tenth.
const gcPercent = 400

func main() {
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
	}
	caddycmd.Main()
}
