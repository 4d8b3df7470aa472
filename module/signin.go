// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/session"
)

// signIn exchanges a login code, which came from the address client, and makes
// a session of what the platform says. login holds what is known of it before;
// serves says why the site does not serve a user, or nil if it does.
func (a *App) signIn(ctx context.Context, rt *runtime, p *program, code, client string, login session.Login, serves func(identity.Identity) *Error) (signedIn, *Error) {
	result, err := rt.state.exchanges.do(ctx, p.appID, code, client, func(ctx context.Context) (signedIn, error) {
		grant, err := p.exchange(ctx, code)
		if err != nil {
			return signedIn{}, err
		}
		login.PlatformKey = grant.SessionKey
		if login.User, err = rt.directory.identify(ctx, p.platform, p.appID, grant); err != nil {
			return signedIn{}, &storeError{err}
		}
		if failure := serves(login.User); failure != nil {
			return signedIn{}, failure
		}
		s, token, err := rt.sessions.Create(ctx, login)
		if err != nil {
			return signedIn{}, &storeError{err}
		}
		return signedIn{session: s, token: token}, nil
	})
	if err == nil {
		p.metrics.login("ok")
		a.logger.Debug("user signed in", zap.String("platform", p.platform), zap.String("program", p.appID),
			zap.String("user", rt.keys.Digest(result.session.Subject)))
		return result, nil
	}
	failure := p.signInFailure(err)
	p.metrics.login(failure.Word)
	return signedIn{}, failure
}

// storeError says that the platform's grant could not be kept.
type storeError struct{ cause error }

func (e *storeError) Error() string { return e.cause.Error() }
func (e *storeError) Unwrap() error { return e.cause }

// signInFailure translates what went wrong and tells the operator, as loudly as
// he has to act.
func (p *program) signInFailure(err error) *Error {
	var unstored *storeError
	var refused *Error
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &unstored):
		p.logger.Error("session cannot be stored", zap.Error(err))
		return errStore.retryAfter(0)
	case errors.Is(err, errForeignCode):
		p.logger.Info("login code refused", zap.Error(err))
		return errCodeUsed
	case errors.Is(err, context.Canceled):
		return errPlatformDown.retryAfter(0)
	}
	failure := platformError(err)
	fields := []zap.Field{zap.String("error", failure.Word), zap.NamedError("cause", err)}
	var e *provider.Error
	if errors.As(err, &e) && e.TraceID != "" {
		fields = append(fields, zap.String("platform_trace_id", e.TraceID))
	}
	switch {
	case failure == errMisconfigured:
		p.logger.Error("program is misconfigured", fields...)
	case failure.Status >= 500:
		p.logger.Warn("platform call failed", fields...)
	default:
		p.logger.Info("login refused", fields...)
	}
	return failure
}
