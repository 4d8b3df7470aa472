// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/sony/gobreaker/v2"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/provider"
)

// The breaker of a program: after this many calls in a row without an answer
// the platform is left alone for a while, so that clients get their 503 at once
// and not after a time-out each.
const (
	breakerFailures = 10
	breakerPause    = 5 * time.Second
)

// program is one mini-program at run time.
type program struct {
	platform string
	appID    string
	timeout  time.Duration
	logger   *zap.Logger
	metrics  *programMetrics

	provider atomic.Pointer[handover] // replaced when a secret file changes
	slots    chan struct{}
	breaker  *gobreaker.CircuitBreaker[struct{}]
	token    appToken
	health   health
}

// loadProgram loads the program that raw configures.
func loadProgram(ctx caddy.Context, raw json.RawMessage, app *App) (*program, error) {
	g, err := parseGuest("miniprogram.providers", "provider", raw)
	if err != nil {
		return nil, err
	}
	first, err := loadProvider(ctx, g)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", g.name, err)
	}
	p := &program{
		platform: g.name,
		appID:    first.AppID(),
		timeout:  time.Duration(app.Exchange.Timeout),
		logger:   app.logger.With(zap.String("platform", g.name), zap.String("program", first.AppID())),
		metrics:  app.metrics.program(g.name, first.AppID()),
		slots:    make(chan struct{}, max(app.Exchange.Concurrency, 0)), // Validate refuses what is below zero
		token:    appToken{gate: make(chan struct{}, 1)},
	}
	p.provider.Store(&handover{current: first})
	p.metrics.breaker(gobreaker.StateClosed)
	p.breaker = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name:         p.appID,
		Timeout:      breakerPause,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakerFailures },
		IsSuccessful: answered,
		IsExcluded:   uncalled,
		OnStateChange: func(_ string, _, to gobreaker.State) {
			p.metrics.breaker(to)
			p.logger.Warn("platform breaker changed", zap.Stringer("state", to))
		},
	})
	if g.watchable() {
		app.secrets.add(watchProgram(ctx, g, p))
	}
	return p, nil
}

// loadProvider makes an instance of a provider that lives as long as ctx.
func loadProvider(ctx caddy.Context, g *guest) (provider.Provider, error) {
	loaded, err := g.load(ctx)
	if err != nil {
		return nil, err
	}
	p, ok := loaded.(provider.Provider)
	if !ok {
		return nil, fmt.Errorf("module %s is not a provider", g.id)
	}
	return p, nil
}

// abilities returns the provider in use, for what it can do beyond signing in.
func (p *program) abilities() any { return p.provider.Load().current }

// exchange trades a login code for a grant, within the program's limits.
func (p *program) exchange(ctx context.Context, code string) (provider.Grant, error) {
	start := time.Now()
	grant, err := withProvider(p, func(from provider.Provider) (provider.Grant, error) {
		return call(ctx, p, func(ctx context.Context) (provider.Grant, error) { return from.Exchange(ctx, code) })
	})
	if !errors.As(err, new(notSentError)) {
		p.metrics.exchanged(time.Since(start))
	}
	return grant, err
}

// call runs a call to the platform of p within the program's limits.
func call[T any](ctx context.Context, p *program, run func(context.Context) (T, error)) (result T, err error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		return result, notSentError{errors.New("too many calls are under way")}
	}
	_, err = p.breaker.Execute(func() (struct{}, error) {
		ctx, cancel := context.WithTimeout(ctx, p.timeout)
		defer cancel()
		var err error
		result, err = run(ctx)
		p.health.note(err)
		return struct{}{}, err
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return result, notSentError{err}
	}
	return result, err
}

// answered reports whether the platform gave an answer of its own. Only the
// lack of one counts against it: what a client can bring about with a bad code
// must not shut everyone out.
func answered(err error) bool {
	var e *provider.Error
	if err == nil || !errors.As(err, &e) {
		return err == nil
	}
	return e.PlatformCode != "" || (e.Reason != provider.Unavailable && e.Reason != provider.PlatformFault)
}

// uncalled reports whether an exchange ended without a call. It says nothing
// about the platform, or a client could keep the breaker closed with rubbish.
func uncalled(err error) bool {
	var e *provider.Error
	return errors.As(err, &e) && e.PlatformCode == "" && e.Reason != provider.Unavailable && e.Reason != provider.PlatformFault
}

// notSentError says that a code was not sent: it can be tried again.
type notSentError struct{ cause error }

func (e notSentError) Error() string { return "not sent: " + e.cause.Error() }
func (e notSentError) Unwrap() error { return e.cause }

// As makes it a provider.Error.
func (e notSentError) As(target any) bool {
	t, ok := target.(**provider.Error)
	if ok {
		*t = &provider.Error{Reason: provider.Unavailable, RetryAfter: defaultRetryAfter, Err: e.cause}
	}
	return ok
}
