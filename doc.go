// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package minigate is an authentication gateway for mini-programs, built as
// Caddy modules. Importing it, as in
//
//	xcaddy build --with github.com/minigate/minigate
//
// adds all of them: the global option and the directive miniprogram, a matcher,
// an authentication provider, and the platforms and stores.
package minigate

import (
	_ "github.com/minigate/minigate/plugin" // all modules
)
