// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package module holds the Caddy modules of the gateway itself: the app that
// knows programs, store and keys, the handler that guards a site, and what
// belongs to them.
package module

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/session"
	"github.com/minigate/minigate/module/store"
)

func init() { caddy.RegisterModule(new(App)) }

// defaultStore is the store that is used where none is configured.
const defaultStore = "file"

// App is the mini-program gateway: the programs whose users can sign in, the
// store that keeps their sessions, and the keys that protect them. Sites use it
// through the handler http.handlers.miniprogram.
//
// Every string in the configuration of a program or store may hold the
// placeholders {env.*} and {file.*}. A file behind such a placeholder is
// watched, for programs and seal keys: when it changes, the change takes effect
// without a reload.
type App struct {
	// The programs (mini-programs) whose users can sign in. At least one.
	ProgramsRaw []json.RawMessage `json:"programs,omitempty" caddy:"namespace=miniprogram.providers inline_key=provider"`

	// Where sessions are kept. Default: a file in Caddy's data directory.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=miniprogram.stores inline_key=store"`

	// The master keys, each 32 bytes in base64. The first signs and seals; the
	// others only verify and open what they made before. Placeholders are
	// allowed. Default: one key, made at first start and kept in Caddy's
	// storage.
	SealKeys []string `json:"seal_keys,omitempty"`

	// How long sessions last.
	Session SessionConfig `json:"session,omitzero"`

	// How user information is kept.
	Profile ProfileConfig `json:"profile,omitzero"`

	// How platforms are called.
	Exchange ExchangeConfig `json:"exchange,omitzero"`

	ctx      caddy.Context
	logger   *zap.Logger
	metrics  *metrics
	programs map[string]*program
	opener   store.Opener
	secrets  *secretWatch
	keys     *keyring.Ring // nil until made, where none is configured

	guard          atomic.Pointer[identity.Guard]
	protectMu      sync.Mutex
	protectedNames []string

	mu       sync.Mutex
	stopped  bool
	acquired any // key in states, if this instance holds a reference
	joined   *nodes
	running  atomic.Pointer[runtime]
}

// SessionConfig says how long sessions last.
type SessionConfig struct {
	// How long a session lasts from login; it is never extended. Default: 30d.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// How long a session lasts from its last use. Default: 7d.
	Idle caddy.Duration `json:"idle,omitempty"`

	// How many sessions a user can have; a new one ends the oldest. Default: 10.
	PerUser int `json:"per_user,omitempty"`

	// After which time the platform is asked whether a user's session key is
	// still good, before data is opened with it; and whether it is, where data
	// could not be opened. Default: it is not asked.
	Recheck caddy.Duration `json:"recheck,omitempty"`
}

// ProfileConfig says how user information is kept.
type ProfileConfig struct {
	// How long the profile of a user is kept who is not seen any more. Default:
	// until it is deleted.
	Keep caddy.Duration `json:"keep,omitempty"`

	// The directory for pictures that users upload. Default: the store.
	Avatars string `json:"avatars,omitempty"`
}

// ExchangeConfig says how platforms are called.
type ExchangeConfig struct {
	// How long one exchange may take, fail-over included. Default: 5s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How many calls to one program's platform may be under way at once. Those
	// beyond it are answered 503 at once. Default: 256.
	Concurrency int `json:"concurrency,omitempty"`
}

// Defaults of ExchangeConfig.
const (
	defaultExchangeTimeout = 5 * time.Second
	defaultConcurrency     = 256
)

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "miniprogram", New: func() caddy.Module { return new(App) }}
}

// Provision sets up the app. It opens neither the store nor a connection.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	a.logger = ctx.Logger()
	a.metrics = registerMetrics(ctx)
	a.secrets = newSecretWatch(a.logger)
	a.protect(nil)
	if a.Exchange.Timeout == 0 {
		a.Exchange.Timeout = caddy.Duration(defaultExchangeTimeout)
	}
	if a.Exchange.Concurrency == 0 {
		a.Exchange.Concurrency = defaultConcurrency
	}
	var err error
	if a.Profile.Avatars, err = resolve(a.Profile.Avatars); err != nil {
		return fmt.Errorf("avatars: %w", err)
	}
	if err := a.loadPrograms(ctx); err != nil {
		return err
	}
	if err := a.loadStore(ctx); err != nil {
		return err
	}
	return a.loadSealKeys()
}

// Validate reports a configuration that can never work, or that cannot take the
// place of the one in use.
func (a *App) Validate() error {
	if err := a.judge(); err != nil {
		return err
	}
	return a.openEarly()
}

// judge reports a configuration that can never work.
func (a *App) judge() error {
	switch {
	case len(a.programs) == 0:
		return errors.New("no program is configured")
	case isShared(a.opener) && len(a.SealKeys) == 0:
		return errors.New("seal_key is required with this store: all nodes must have the same")
	case a.Session.Lifetime < 0 || a.Session.Idle < 0 || a.Exchange.Timeout < 0:
		return errors.New("durations must be above zero")
	case a.Session.Recheck < 0 || a.Profile.Keep < 0:
		return errors.New("recheck and keep must be above zero")
	case a.Profile.Keep > 0 && a.Profile.Keep < max(shortestKeep, cmp.Or(a.Session.Idle, caddy.Duration(session.DefaultIdle))):
		return errors.New("keep of profiles must be at least one day, and at least the idle time of sessions")
	case tooShort(a.Session.Lifetime) || tooShort(a.Session.Idle):
		return errors.New("lifetime and idle of sessions must be at least one second")
	case a.Session.PerUser < 0 || a.Exchange.Concurrency < 0:
		return errors.New("per_user and concurrency must be above zero")
	}
	return nil
}

// openEarly opens the store before anybody is served by this configuration, if
// another one is in use. Caddy starts its apps in any order, and whoever came to a
// server that is up before the store is open would have to wait for it, and perhaps
// in vain, while the configuration in use could have served him. At the first start
// there is none; and validation by itself opens nothing.
func (a *App) openEarly() error {
	if caddy.ActiveContext().Context == nil {
		return nil
	}
	_, err := a.runtime()
	return err
}

// shortestKeep is the least time to keep profiles: users who sign in every day
// keep theirs.
const shortestKeep = caddy.Duration(24 * time.Hour)

// tooShort reports whether a duration that is set is less than sessions count.
func tooShort(d caddy.Duration) bool { return d > 0 && d < caddy.Duration(time.Second) }

// protect adds names to the headers that no client of any site may set. All
// sites share one guard, because an upstream behind two of them believes a
// header whichever way it comes.
func (a *App) protect(names []string) {
	a.protectMu.Lock()
	defer a.protectMu.Unlock()
	a.protectedNames = append(a.protectedNames, names...)
	a.guard.Store(identity.NewGuard(a.protectedNames...))
}

func (a *App) loadPrograms(ctx caddy.Context) error {
	a.programs = make(map[string]*program, len(a.ProgramsRaw))
	for i, raw := range a.ProgramsRaw {
		p, err := loadProgram(ctx, raw, a)
		if err != nil {
			return fmt.Errorf("program %d: %w", i+1, err)
		}
		if _, twice := a.programs[p.appID]; twice {
			return fmt.Errorf("program %d: %s is already configured", i+1, p.appID)
		}
		a.programs[p.appID] = p
	}
	return nil
}

func (a *App) loadStore(ctx caddy.Context) error {
	opener, _, err := loadOpener(ctx, a.storeConfig())
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	a.opener = opener
	return nil
}

// storeConfig returns the configuration of the store, also where it is left out.
func (a *App) storeConfig() json.RawMessage {
	if a.StoreRaw == nil {
		return json.RawMessage(`{"store":"` + defaultStore + `"}`)
	}
	return a.StoreRaw
}

// loadOpener loads the store that raw configures, and returns its name, too.
func loadOpener(ctx caddy.Context, raw json.RawMessage) (opener store.Opener, name string, err error) {
	g, err := parseGuest("miniprogram.stores", "store", raw)
	if err != nil {
		return nil, "", err
	}
	instance, err := g.load(ctx)
	if err != nil {
		return nil, g.name, err
	}
	opener, ok := instance.(store.Opener)
	if !ok {
		return nil, g.name, fmt.Errorf("module %s is not a store", g.id)
	}
	return opener, g.name, nil
}

func (a *App) loadSealKeys() error {
	if len(a.SealKeys) == 0 {
		return nil
	}
	masters, err := a.readSealKeys()
	if err != nil {
		return err
	}
	if a.keys, err = keyring.New(masters...); err != nil {
		return fmt.Errorf("seal_key: %w", err)
	}
	a.secrets.add(watchSealKeys(a))
	return nil
}

// readSealKeys resolves the configured keys.
func (a *App) readSealKeys() ([][]byte, error) {
	masters := make([][]byte, len(a.SealKeys))
	for i, configured := range a.SealKeys {
		text, err := resolve(configured)
		if err != nil {
			return nil, fmt.Errorf("seal_key %d: %w", i+1, err)
		}
		if masters[i], err = keyring.ParseMaster(text); err != nil {
			return nil, fmt.Errorf("seal_key %d: %w", i+1, err)
		}
	}
	return masters, nil
}

// Start opens the store and begins to watch secret files.
func (a *App) Start() error {
	if err := a.inspect(); err != nil {
		return err
	}
	if _, err := a.runtime(); err != nil {
		return err
	}
	a.secrets.start()
	a.maintain()
	running.add(a)
	a.logger.Info("mini-program gateway is ready",
		zap.Int("programs", len(a.programs)),
		zap.Strings("keys", a.running.Load().keys.IDs()))
	return nil
}

// Stop ends the watch. Requests that are under way keep what they use until
// Cleanup. Connections that were opened with this configuration are held to the
// one that has taken its place.
func (a *App) Stop() error {
	running.remove(a)
	a.secrets.stop()
	if rt := a.running.Load(); rt != nil {
		rt.state.connections.checkAll()
	}
	return nil
}

// stragglers is how long a store that no configuration uses any more stays open.
// A server that is shut down does not wait for a connection which it has
// accepted at the very last moment; whoever is on it is still answered.
const stragglers = 3 * time.Second

// Cleanup releases what this instance holds of the state that outlives it.
func (a *App) Cleanup() error {
	running.remove(a)
	a.secrets.stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	if a.acquired == nil {
		return nil
	}
	served := a.running.Load() != nil
	if users, _ := states.References(a.acquired); users > 1 || !served || caddy.Exiting() {
		return a.release()
	}
	time.AfterFunc(stragglers, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if err := a.release(); err != nil {
			a.logger.Error("store is not closed as it should be", zap.Error(err))
		}
	})
	return nil
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
