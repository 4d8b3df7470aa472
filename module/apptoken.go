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

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/store"
)

const (
	// appTokenPrefix begins the store keys of app tokens.
	appTokenPrefix = "token/"

	// refreshAhead is how long before its end an app token is replaced. For the
	// last five minutes of one, WeChat has a newer one already, and takes both:
	// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-access-token/getStableAccessToken.html
	refreshAhead = 5 * time.Minute

	// refreshJitter is by how much of that nodes differ, so that they do not
	// all ask at once.
	refreshJitter = time.Minute

	// shortestUse is for how long a token is used at least that ends soon.
	shortestUse = 30 * time.Second

	// appTokenSlack is how long store and lock may take when a token is renewed.
	appTokenSlack = 10 * time.Second

	// tokenPause is how long the platform is not asked again for a token when it
	// gave none.
	tokenPause = time.Second

	// tokenRetryAfter is what clients are told to wait where the platform
	// refuses the token which it has just handed out.
	tokenRetryAfter = 10 * time.Second
)

// appToken is the token of one program, as this process knows it.
type appToken struct {
	known atomic.Pointer[appTokenRecord]
	gate  chan struct{} // held by the one who asks store or platform

	// failure is why there is no token, for a moment after the platform was asked
	// in vain. Both are guarded by gate.
	failure      error
	failureUntil time.Time
}

// appTokenRecord is what is stored of an app token. Times are unix seconds.
type appTokenRecord struct {
	// Key is the store key, so that no other sealed record can take its place.
	Key       string `json:"key"`
	Token     string `json:"token"`
	RefreshAt int64  `json:"refresh_at"`
	ExpiresAt int64  `json:"expires_at"`
}

// usable reports whether the token can be used without asking for another.
func (t *appTokenRecord) usable(now int64, rejected string) bool {
	return t != nil && t.Token != rejected && now < t.RefreshAt
}

// withAppToken runs a call that needs the program's app token, and runs it once
// more with another token if the platform refuses the first.
//
// All nodes share one token, because on some platforms a new one is the end of
// the one before. It is given up only if it is still the one that was refused:
// somebody else may have noticed first.
func withAppToken[T any](ctx context.Context, rt *runtime, p *program, run func(ctx context.Context, token string) (T, error)) (T, error) {
	var none T
	ctx, cancel := context.WithTimeout(ctx, 2*(p.timeout+appTokenSlack))
	defer cancel()
	token, err := p.appToken(ctx, rt, "")
	if err != nil {
		return none, err
	}
	attempt := func(token string) (T, error) {
		return call(ctx, p, func(ctx context.Context) (T, error) { return run(ctx, token) })
	}
	result, err := attempt(token)
	if !isReason(err, provider.TokenRejected) {
		return result, err
	}
	p.logger.Info("platform refused the app token", zap.NamedError("cause", err))
	if token, err = p.appToken(ctx, rt, token); err != nil {
		return none, err
	}
	result, err = attempt(token)
	if isReason(err, provider.TokenRejected) {
		err = &provider.Error{Reason: provider.Unavailable, RetryAfter: tokenRetryAfter, Err: err}
	}
	return result, err
}

// isReason reports whether err is a platform's failure for this reason.
func isReason(err error, reason provider.Reason) bool {
	var e *provider.Error
	return errors.As(err, &e) && e.Reason == reason
}

// appToken returns a token other than rejected.
func (p *program) appToken(ctx context.Context, rt *runtime, rejected string) (string, error) {
	if t := p.token.known.Load(); t.usable(time.Now().Unix(), rejected) {
		return t.Token, nil
	}
	select {
	case p.token.gate <- struct{}{}:
		defer func() { <-p.token.gate }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if t := p.token.known.Load(); t.usable(time.Now().Unix(), rejected) {
		return t.Token, nil // somebody asked meanwhile
	}
	if p.token.failure != nil && time.Now().Before(p.token.failureUntil) {
		return "", p.token.failure // and got none
	}
	// Whoever waits for it may go away; the next one needs it as well.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.timeout+appTokenSlack)
	defer cancel()
	t, err := p.renewToken(ctx, rt, rejected)
	p.token.failure = err
	if err != nil {
		pause := tokenPause
		if e, ok := errors.AsType[*provider.Error](err); ok {
			pause = max(pause, e.RetryAfter)
		}
		p.token.failureUntil = time.Now().Add(pause)
		return "", err
	}
	p.token.known.Store(t)
	return t.Token, nil
}

// renewToken returns the token that another node stored, or a new one from the
// platform.
func (p *program) renewToken(ctx context.Context, rt *runtime, rejected string) (*appTokenRecord, error) {
	key := p.tokenKey()
	stored, err := loadToken(ctx, rt, key)
	if err != nil || stored.usable(time.Now().Unix(), rejected) {
		return stored, err
	}
	unlock, err := rt.state.store.Lock(ctx, key)
	if err != nil {
		return nil, &storeError{fmt.Errorf("locking an app token: %w", err)}
	}
	defer unlock()
	if stored, err = loadToken(ctx, rt, key); err != nil || stored.usable(time.Now().Unix(), rejected) {
		return stored, err
	}
	fresh, err := fetchToken(ctx, p, key)
	switch {
	case err != nil && stored != nil && stored.Token != rejected && time.Now().Unix() < stored.ExpiresAt:
		p.logger.Warn("app token is not refreshed; the old one goes on to its end", zap.NamedError("cause", err))
		return stored, nil
	case err != nil:
		return nil, err
	case fresh.Token == rejected:
		return nil, &provider.Error{
			Reason: provider.Unavailable, RetryAfter: tokenRetryAfter,
			Err: errors.New("the platform refuses the app token that it hands out"),
		}
	}
	return fresh, saveToken(ctx, rt, key, fresh)
}

// newToken has the platform hand out a token, though there may be a good one: it
// proves that the platform takes the program's secret now.
func (p *program) newToken(ctx context.Context, rt *runtime) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.timeout+appTokenSlack)
	defer cancel()
	select {
	case p.token.gate <- struct{}{}:
		defer func() { <-p.token.gate }()
	case <-ctx.Done():
		return ctx.Err()
	}
	key := p.tokenKey()
	unlock, err := rt.state.store.Lock(ctx, key)
	if err != nil {
		return &storeError{fmt.Errorf("locking an app token: %w", err)}
	}
	defer unlock()
	fresh, err := fetchToken(ctx, p, key)
	if err == nil {
		err = saveToken(ctx, rt, key, fresh)
	}
	if err != nil {
		return err
	}
	p.token.known.Store(fresh)
	p.token.failure = nil
	return nil
}

// tokenKey is the store key of the program's app token.
func (p *program) tokenKey() string { return appTokenPrefix + p.platform + "/" + p.appID }

// fetchToken asks the platform for a token.
func fetchToken(ctx context.Context, p *program, key string) (*appTokenRecord, error) {
	now := time.Now()
	var lifetime time.Duration
	token, err := withProvider(p, func(from provider.Provider) (string, error) {
		tokens, ok := from.(provider.AppTokens)
		if !ok {
			return "", errUnable
		}
		return call(ctx, p, func(ctx context.Context) (token string, err error) {
			token, lifetime, err = tokens.AppToken(ctx)
			return token, err
		})
	})
	if err != nil {
		return nil, err
	}
	jitter := time.Duration(now.UnixNano()) % refreshJitter
	use := max(lifetime-refreshAhead-jitter, min(shortestUse, lifetime))
	return &appTokenRecord{Key: key, Token: token, RefreshAt: now.Add(use).Unix(), ExpiresAt: now.Add(lifetime).Unix()}, nil
}

// loadToken reads the stored token; nil where there is none that can be read.
func loadToken(ctx context.Context, rt *runtime, key string) (*appTokenRecord, error) {
	sealed, err := rt.state.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, &storeError{fmt.Errorf("reading an app token: %w", err)}
	}
	record := new(appTokenRecord)
	plain, err := rt.keys.Open(sealed)
	if errors.Is(err, keyring.ErrElsewhere) {
		return nil, &storeError{fmt.Errorf("reading an app token: %w", err)}
	}
	if err != nil || json.Unmarshal(plain, record) != nil || record.Key != key || record.Token == "" {
		return nil, nil
	}
	return record, nil
}

func saveToken(ctx context.Context, rt *runtime, key string, record *appTokenRecord) error {
	plain, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encoding an app token: %w", err)
	}
	sealed, err := rt.keys.Seal(plain)
	if err != nil {
		return err
	}
	ttl := max(time.Until(time.Unix(record.ExpiresAt, 0)), time.Second)
	if err := rt.state.store.Put(ctx, key, sealed, ttl); err != nil {
		return &storeError{fmt.Errorf("storing an app token: %w", err)}
	}
	return nil
}
