// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module_test

import (
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/minigate/minigate/integration/simulator"
	"github.com/minigate/minigate/module"
	"github.com/minigate/minigate/plugin/providers/wechat"
)

// Caddy cleans up after a Provision that failed, wherever it failed: on zero
// values, twice, in any order.
func TestCleanupOfZeroValues(t *testing.T) {
	for _, m := range []caddy.CleanerUpper{new(module.App), new(wechat.Provider), new(simulator.Handler)} {
		for range 2 {
			if err := m.Cleanup(); err != nil {
				t.Errorf("%T: %v", m, err)
			}
		}
	}
	app := new(module.App)
	if err := app.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// A configuration that fails late has acquired nothing that it keeps.
func TestFailedProvisionCleansUp(t *testing.T) {
	for name, app := range map[string]string{
		"no program":      `{"store":{"store":"memory"}}`,
		"unknown guest":   `{"programs":[{"provider":"nonsense"}]}`,
		"unnamed guest":   `{"programs":[{}]}`,
		"no object":       `{"programs":[5]}`,
		"unknown store":   `{"programs":[{"provider":"wechat","app_id":"wx1","secret":"s"}],"store":{"store":"nonsense"}}`,
		"bad seal key":    `{"programs":[{"provider":"wechat","app_id":"wx1","secret":"s"}],"seal_keys":["x"]}`,
		"not a provider":  `{"programs":[{"provider":"wechat","app_id":"wx1","secret":{}}]}`,
		"negative values": `{"programs":[{"provider":"wechat","app_id":"wx1","secret":"s"}],"session":{"per_user":-1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			config := &caddy.Config{
				Admin:   &caddy.AdminConfig{Disabled: true},
				AppsRaw: caddy.ModuleMap{"miniprogram": json.RawMessage(app)},
			}
			if err := caddy.Validate(config); err == nil {
				t.Error("it is accepted")
			}
		})
	}
}
