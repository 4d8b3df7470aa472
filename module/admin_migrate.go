// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/migrate"
	"github.com/minigate/minigate/module/store"
)

// migrationPath is the path of the admin endpoint for migrations:
//
//	POST    copies the store to another one, and answers when all is verified
//	GET     tells how far it has come
//	DELETE  has writes not followed any more
const migrationPath = "/miniprogram/store/migrate"

// migrationMethods are the methods of migrationPath.
const migrationMethods = "GET, POST, DELETE"

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

var (
	errNoApp       = errors.New("the miniprogram app is not configured")
	errOtherSource = errors.New("this gateway uses another store than the one to be copied")
)

// badMigrationError says that a request is not understood.
type badMigrationError struct{ error }

// Unwrap returns the cause.
func (e badMigrationError) Unwrap() error { return e.error }

// serveMigration answers a call of migrationPath and leaves a line in the log.
func (a *Admin) serveMigration(w http.ResponseWriter, r *http.Request) error {
	var answer migrationStatus
	var err error
	status := http.StatusOK
	switch r.Method {
	case http.MethodGet:
		answer, err = a.showMigration()
	case http.MethodPost:
		answer, err = a.startMigration(r)
	case http.MethodDelete:
		status, err = http.StatusNoContent, a.stopMigration()
	default:
		w.Header().Set("Allow", migrationMethods)
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("method not allowed")}
	}
	if r.Method != http.MethodGet || err != nil {
		a.logger.Info("admin call", zap.String("action", "migrate"), zap.String("method", r.Method),
			zap.String("from", answer.From), zap.String("to", answer.To), zap.String("remote", r.RemoteAddr), zap.Error(err))
	}
	switch {
	case err != nil:
		return caddy.APIError{HTTPStatus: migrationErrorStatus(err), Err: err}
	case status == http.StatusNoContent:
		w.WriteHeader(status)
		return nil
	}
	return writeJSON(w, status, answer)
}

// migrationErrorStatus returns the HTTP status for an error.
func migrationErrorStatus(err error) int {
	if failure, ok := errors.AsType[*Error](err); ok {
		return failure.Status
	}
	if _, bad := errors.AsType[badMigrationError](err); bad || errors.Is(err, errNoApp) {
		return http.StatusBadRequest
	}
	for _, conflict := range []error{
		errMigrating, errOtherMigration, errHasMoved, errOpenHere, errSourceShared, errOtherSource, errOtherSealKey,
		migrate.ErrSame, migrate.ErrTaken, migrate.ErrBusy, store.ErrInUse,
	} {
		if errors.Is(err, conflict) {
			return http.StatusConflict
		}
	}
	return http.StatusServiceUnavailable
}

// migrationRuntime returns what the calls work on.
func (a *Admin) migrationRuntime() (*runtime, error) {
	if a.app == nil {
		return nil, errNoApp
	}
	return a.app.runtime()
}

func (a *Admin) showMigration() (answer migrationStatus, err error) {
	rt, err := a.migrationRuntime()
	if err != nil {
		return answer, err
	}
	return rt.state.migration().status(), nil
}

func (a *Admin) stopMigration() error {
	rt, err := a.migrationRuntime()
	if err != nil {
		return err
	}
	return rt.state.stopMigration()
}

// startMigration answers a POST.
func (a *Admin) startMigration(r *http.Request) (answer migrationStatus, err error) {
	rt, err := a.migrationRuntime()
	if err != nil {
		return answer, err
	}
	data, failure := readObject(r, false)
	if failure != nil {
		return answer, failure
	}
	var body migrationRequest
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil {
		return answer, badMigrationError{errInvalidRequest}
	}
	// What is loaded to open a store is not needed any longer than that.
	ctx, cancel := caddy.NewContext(a.app.ctx)
	defer cancel()
	order, err := body.order(ctx, a.app.opener)
	answer = migrationStatus{From: order.from, To: order.to}
	if err != nil {
		return answer, err
	}
	if _, err := rt.state.migrate(r.Context(), order); err != nil {
		return answer, err
	}
	return rt.state.migration().status(), nil
}

// order returns what a request asks for. source opens the store in use.
func (body *migrationRequest) order(ctx caddy.Context, source store.Opener) (order migrationOrder, err error) {
	if body.To == nil {
		return order, badMigrationError{errors.New("to, the store to copy to, is missing")}
	}
	order.from = storeName(source)
	if order.opener, order.to, err = loadOpener(ctx, body.To); err != nil {
		return order, badMigrationError{fmt.Errorf("to: %w", err)}
	}
	if order.opener.Identity() == source.Identity() {
		return order, migrate.ErrSame
	}
	if body.From != nil {
		expected, _, err := loadOpener(ctx, body.From)
		if err != nil {
			return order, badMigrationError{fmt.Errorf("from: %w", err)}
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
		return order, badMigrationError{err}
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
