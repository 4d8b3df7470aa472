// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func TestModule(t *testing.T) {
	info, err := caddy.GetModule("miniprogram.stores.memory")
	if err != nil {
		t.Fatalf("the module is not registered: %v", err)
	}
	if _, ok := info.New().(*Opener); !ok {
		t.Errorf("New returns %T", info.New())
	}
}

func TestUnmarshalCaddyfile(t *testing.T) {
	for _, c := range []struct {
		name, input string
		err         string // part of the error; "" means none
	}{
		{"alone", "memory", ""},
		{"empty block", "memory {\n}", ""},
		{"surplus", "memory /path", "wrong argument count or unexpected line ending after '/path'"},
		{"empty argument", `memory ""`, "wrong argument count"},
		{"option", "memory {\n\tsize 3\n}", "memory takes no block"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := caddyfile.NewTestDispenser(c.input)
			d.Next() // to the store's name, as the global option does
			unm, err := caddyfile.UnmarshalModule(d, "miniprogram.stores.memory")
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), "Testfile:") {
					t.Fatalf("error %v, want one with %q and the line", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if encoded, err := json.Marshal(unm); err != nil || string(encoded) != "{}" {
				t.Errorf("JSON %s, error %v", encoded, err)
			}
		})
	}
}

// TestJSON loads the store the way the app does: strictly, from its JSON.
func TestJSON(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	loaded, err := ctx.LoadModuleByID("miniprogram.stores.memory", json.RawMessage(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := loaded.(*Opener); !ok {
		t.Errorf("loaded %T", loaded)
	}
	if _, err := ctx.LoadModuleByID("miniprogram.stores.memory", json.RawMessage(`{"path":"/x"}`)); err == nil {
		t.Error("an unknown field is accepted")
	}
}

func TestOpener(t *testing.T) {
	var a, b Opener
	if a.Identity() != b.Identity() || a.Identity() == "" {
		t.Errorf("identities %q and %q, want the same", a.Identity(), b.Identity())
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := a.Open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a cancelled context: error %v", err)
	}
}
