// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/keyring"
)

// secretPoll is how often files with secrets are read again.
const secretPoll = time.Second

// watchedSecret is something that depends on the content of files.
type watchedSecret struct {
	name string
	// read returns the value as it is now.
	read func() (string, error)
	// apply puts a changed value into effect, or gives up when ctx is done.
	apply func(ctx context.Context) error

	current   string // in effect
	candidate string // seen once, not yet in effect
	failing   bool   // the operator has been told
}

// secretWatch reads secrets again and again and puts changed ones into effect.
// Reading beats file events here: it sees replaced files, swapped links and
// mounted volumes alike, and the files are few and small.
type secretWatch struct {
	logger  *zap.Logger
	secrets []*watchedSecret
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

func newSecretWatch(logger *zap.Logger) *secretWatch { return &secretWatch{logger: logger} }

// add adds a secret. It must not be called after start.
func (w *secretWatch) add(s *watchedSecret) {
	if value, err := s.read(); err == nil {
		s.current = value
	}
	w.secrets = append(w.secrets, s)
}

// start begins to watch, if there is anything to watch.
func (w *secretWatch) start() {
	if len(w.secrets) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.done.Go(func() {
		ticker := time.NewTicker(secretPoll)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				for _, s := range w.secrets {
					w.check(ctx, s)
				}
			}
		}
	})
}

// stop ends the watch and waits until it has ended. It may be called often, and
// on nil.
func (w *secretWatch) stop() {
	if w == nil || w.cancel == nil {
		return
	}
	w.cancel()
	w.done.Wait()
}

// check puts a secret into effect when it has changed and then stayed the same
// for one interval: a file that is just being written is not taken half.
func (w *secretWatch) check(ctx context.Context, s *watchedSecret) {
	value, err := s.read()
	if err != nil {
		if !s.failing {
			w.logger.Error("secret file cannot be read; the value in use stays", zap.String("secret", s.name), zap.Error(err))
		}
		s.failing, s.candidate = true, ""
		return
	}
	switch value {
	case s.current:
		s.candidate, s.failing = "", false
	case s.candidate:
		if err := s.apply(ctx); err != nil {
			if !s.failing {
				w.logger.Error("changed secret cannot be used; the value in use stays", zap.String("secret", s.name), zap.Error(err))
			}
			s.failing = true
			return
		}
		s.current, s.candidate, s.failing = value, "", false
		w.logger.Info("changed secret is in use", zap.String("secret", s.name))
	default:
		s.candidate, s.failing = value, false
	}
}

// watchSealKeys watches the files that seal keys come from.
func watchSealKeys(a *App) *watchedSecret {
	return &watchedSecret{
		name: "seal_key",
		read: func() (string, error) {
			masters, err := a.readSealKeys()
			return string(slices.Concat(masters...)), err
		},
		apply: func(ctx context.Context) error {
			masters, err := a.readSealKeys()
			if err != nil {
				return err
			}
			if err := a.replaceKeys(ctx, masters); err != nil {
				return err
			}
			a.maintainNow()
			return nil
		},
	}
}

// replaceKeys puts other seal keys into use, when the gateways that share the store
// know of them.
func (a *App) replaceKeys(ctx context.Context, masters [][]byte) error {
	replace := func() error { return a.keys.Replace(masters...) }
	rt := a.running.Load()
	if rt == nil || rt.state.nodes == nil {
		return replace()
	}
	next, err := keyring.New(masters...)
	if err != nil {
		return err
	}
	return rt.state.nodes.changing(ctx, next.IDs(), replace)
}

// watchProgram watches the files that the configuration of a program names. A
// change makes a new instance of the provider, which like the old one ends with
// the configuration. (A context of its own could end it sooner, but ending such
// a context runs the clean-up functions of its parent as well.)
func watchProgram(ctx caddy.Context, g *guest, p *program) *watchedSecret {
	return &watchedSecret{
		name: "program " + p.appID,
		read: func() (string, error) {
			config, err := g.resolved()
			return string(config), err
		},
		apply: func(context.Context) error {
			next, err := loadProvider(ctx, g)
			if err != nil {
				return err
			}
			if next.AppID() != p.appID {
				return errors.New("the app id must not change")
			}
			p.provider.Store(p.provider.Load().next(next, time.Now()))
			return nil
		},
	}
}
