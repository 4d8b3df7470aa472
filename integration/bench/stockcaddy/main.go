// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Command stockcaddy is Caddy as everyone knows it, for the comparison: its own
// command and standard modules, nothing of the gateway, and no word about
// garbage collection.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() { caddycmd.Main() }
