// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/migrate"
	"github.com/minigate/minigate/module/store"
)

// migrationAction is the name of the calls for migrations, below adminPath.
const migrationAction = "store/migrate"

// migrationActions are those calls, by their methods.
var migrationActions = map[string]adminAction{
	http.MethodPost:   {http.MethodPost, startMigration},
	http.MethodGet:    {http.MethodGet, showMigration},
	http.MethodDelete: {http.MethodDelete, stopMigration},
}

// migrationRoute returns the route of the calls for migrations.
func (a *Admin) migrationRoute() caddy.AdminRoute {
	return caddy.AdminRoute{
		Pattern: adminPath + migrationAction,
		Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			action, ok := migrationActions[r.Method]
			if !ok {
				action.method = "DELETE, GET, POST"
			}
			return a.serve(w, r, migrationAction, action)
		}),
	}
}

// migrationRequest is the body of a POST. Stores are as in the configuration;
// placeholders are resolved by the gateway.
type migrationRequest struct {
	// To is where to copy to.
	To json.RawMessage `json:"to"`
	// From is the store that the gateway is believed to use. Optional.
	From json.RawMessage `json:"from,omitempty"`
	// SealKeys are those of the configuration that is to use the copy. Optional.
	SealKeys []string `json:"seal_keys,omitempty"`
}

var errOtherSource = errors.New("this gateway uses another store than the one to be copied")

// isMigrationConflict reports whether a migration is refused because of how things
// are.
func isMigrationConflict(err error) bool {
	return slices.ContainsFunc([]error{
		errMigrating, errOtherMigration, errHasMoved, errOpenHere, errSourceShared, errOtherSource, errOtherSealKey,
		migrate.ErrSame, migrate.ErrTaken, migrate.ErrBusy, store.ErrInUse,
	}, func(conflict error) bool { return errors.Is(err, conflict) })
}

// showMigration answers GET /miniprogram/store/migrate.
func showMigration(c *adminCall) (any, error) { return c.state.migration().status(), nil }

// stopMigration answers DELETE /miniprogram/store/migrate: what is written is not
// followed any more.
func stopMigration(c *adminCall) (any, error) { return nil, c.state.stopMigration() }

// startMigration answers POST /miniprogram/store/migrate, when everything is copied
// and verified.
func startMigration(c *adminCall) (any, error) {
	var body migrationRequest
	if err := c.readStrict(&body, false); err != nil {
		return nil, err
	}
	// What is loaded to open a store is not needed any longer than that.
	ctx, cancel := caddy.NewContext(c.app.ctx)
	defer cancel()
	order, err := body.order(ctx, c.app.opener)
	c.tell(zap.String("from", order.from), zap.String("to", order.to))
	if err != nil {
		return nil, err
	}
	m, err := c.state.migrate(c.Context(), order)
	if err != nil {
		return nil, err
	}
	return m.status(), nil
}

// order returns what a request asks for. source opens the store in use.
func (body *migrationRequest) order(ctx caddy.Context, source store.Opener) (order migrationOrder, err error) {
	if body.To == nil {
		return order, callError(`member "to", the store to copy to, is missing`)
	}
	order.from = storeName(source)
	if order.opener, order.to, err = loadOpener(ctx, body.To); err != nil {
		return order, callError("to: " + err.Error())
	}
	if order.opener.Identity() == source.Identity() {
		return order, migrate.ErrSame
	}
	if body.From != nil {
		expected, _, err := loadOpener(ctx, body.From)
		if err != nil {
			return order, callError("from: " + err.Error())
		}
		if expected.Identity() != source.Identity() {
			return order, errOtherSource
		}
	}
	if len(body.SealKeys) == 0 {
		return order, nil
	}
	keys, err := loadKeys(body.SealKeys)
	if err != nil {
		return order, callError(err.Error())
	}
	order.check = func(ctx context.Context, source store.Store) error { return checkSealKeys(ctx, source, keys) }
	return order, nil
}

// loadKeys makes a ring of keys as they are configured.
func loadKeys(configured []string) (*keyring.Ring, error) {
	masters, err := (&App{SealKeys: configured}).readSealKeys()
	if err != nil {
		return nil, err
	}
	return keyring.New(masters...)
}

// storeName returns the last part of the module ID of a store.
func storeName(opener store.Opener) string {
	if m, ok := opener.(caddy.Module); ok {
		return m.CaddyModule().ID.Name()
	}
	return "unknown"
}
