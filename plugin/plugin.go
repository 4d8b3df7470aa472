// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package plugin puts the gateway together: its modules, its Caddyfile syntax
// and its guests. A guest is added by one line here.
package plugin

import (
	_ "github.com/minigate/minigate/caddyfile"
	_ "github.com/minigate/minigate/module"
	_ "github.com/minigate/minigate/plugin/providers/alipay"
	_ "github.com/minigate/minigate/plugin/providers/wechat"
	_ "github.com/minigate/minigate/plugin/stores/file"
	_ "github.com/minigate/minigate/plugin/stores/memory"
	_ "github.com/minigate/minigate/plugin/stores/redis"
)
