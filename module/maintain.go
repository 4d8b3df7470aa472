// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/profile"
	"github.com/minigate/minigate/module/store"
)

// lasting begins the keys of records that are kept for good, or for long.
// Sessions end, and new ones are sealed with the active key; these records would
// keep an old key in use for ever.
var lasting = []string{directoryPrefix, "key/", bringerPrefix}

const (
	// maintenancePause is the time between two rounds of maintenance.
	maintenancePause = 24 * time.Hour

	// maintenanceFresh is for how long a round counts after which the
	// configuration was loaded again.
	maintenanceFresh = time.Hour

	// refreshTimeout bounds the refresh of one profile.
	refreshTimeout = 10 * time.Second

	// maxRefreshes is how many profiles are refreshed at once.
	maxRefreshes = 16
)

// maintain keeps up what is stored, in the background, for as long as the
// configuration is in use: it removes what was kept long enough, and seals with
// the active key what is kept for long.
func (a *App) maintain() {
	rt := a.running.Load()
	if rt == nil {
		return
	}
	rt.state.run(func() {
		// It ends with this configuration, or with the state.
		ctx, cancel := context.WithCancel(a.ctx)
		defer cancel()
		defer context.AfterFunc(rt.state.ctx, cancel)()
		ticker := time.NewTicker(maintenancePause)
		defer ticker.Stop()
		if about := fmt.Sprint(rt.keys.IDs(), a.Profile); rt.state.dueFor(about) && a.round(ctx, rt) {
			rt.state.doneFor(about)
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				a.round(ctx, rt)
			}
		}
	})
}

// maintainNow begins a round of maintenance, because the keys have changed, and
// has open connections checked, whose tokens may be void now.
func (a *App) maintainNow() {
	if rt := a.running.Load(); rt != nil {
		rt.state.connections.checkAll()
		rt.state.run(func() { a.round(rt.state.ctx, rt) })
	}
}

// round is one round of maintenance. It reports whether all went well.
func (a *App) round(ctx context.Context, rt *runtime) bool {
	sealed, failed, active := 0, false, rt.keys.ActiveID()
	for _, task := range []func() (int, error){
		func() (int, error) { return reseal(ctx, rt.state.store, rt.keys) },
		func() (int, error) { return rt.sessions.ResealCutoffs(ctx) },
		func() (int, error) { return rt.profiles.Sweep(ctx) },
		func() (int, error) { return 0, rt.avatars.Sweep(ctx) },
	} {
		n, err := task()
		sealed += n
		if err != nil && ctx.Err() == nil {
			failed = true
			a.logger.Warn("not everything that is stored is up to date; keep older seal keys", zap.Error(err))
		}
	}
	if ctx.Err() != nil || failed {
		return false
	}
	rt.state.resealed.Store(&resealing{active, time.Now()})
	if len(rt.keys.IDs()) > 1 {
		a.logger.Info("all lasting records are sealed with the active key", zap.Int("changed", sealed))
	}
	return true
}

// resealing is a round of maintenance that left nothing sealed with another key
// than the active one, which is called keyID.
type resealing struct {
	keyID string
	at    time.Time
}

// dueFor reports whether maintenance for a configuration of this description is
// due.
func (s *state) dueFor(description string) bool {
	s.maintenance.Lock()
	defer s.maintenance.Unlock()
	return s.maintenance.of != description || time.Since(s.maintenance.at) >= maintenanceFresh
}

// doneFor notes that maintenance for a configuration of this description is done.
func (s *state) doneFor(description string) {
	s.maintenance.Lock()
	defer s.maintenance.Unlock()
	s.maintenance.of, s.maintenance.at = description, time.Now()
}

// refreshProfile notes in the background that the user of a profile was seen, so
// that it is kept on.
func (rt *runtime) refreshProfile(logger *zap.Logger, subject string, p *profile.Profile) {
	select {
	case rt.state.refreshes <- struct{}{}:
	default:
		return // another time
	}
	started := rt.state.run(func() {
		defer func() { <-rt.state.refreshes }()
		ctx, cancel := context.WithTimeout(rt.state.ctx, refreshTimeout)
		defer cancel()
		err := rt.profiles.Refresh(ctx, subject, p)
		if err == nil && p.Avatar != "" {
			err = rt.avatars.Refresh(ctx, p.Avatar)
		}
		if err != nil {
			logger.Warn("profile is not refreshed", zap.String("user", rt.keys.Digest(subject)), zap.Error(err))
		}
	})
	if !started {
		<-rt.state.refreshes
	}
}

// reseal seals the lasting records of s anew that are sealed with another key
// than the active one, and returns how many.
func reseal(ctx context.Context, s store.Store, keys *keyring.Ring) (n int, err error) {
	if len(keys.IDs()) < 2 {
		return 0, nil
	}
	var unreadable error
	for _, prefix := range lasting {
		var outdated []string
		err := s.Scan(ctx, prefix, func(e store.Entry) error {
			key, value := e.Key, e.Value
			if !keys.SealedByActive(value) {
				outdated = append(outdated, key)
			}
			return nil
		})
		if err != nil {
			return n, fmt.Errorf("looking for records to seal anew: %w", err)
		}
		for _, key := range outdated {
			err := s.Update(ctx, key, func(old []byte) ([]byte, time.Duration, error) { return resealed(keys, old) })
			switch {
			case errors.Is(err, errNotOpened):
				unreadable = err
			case err != nil:
				return n, fmt.Errorf("sealing a record anew: %w", err)
			default:
				n++
			}
		}
	}
	if unreadable != nil {
		return n, fmt.Errorf("a record stays as it is: %w", unreadable)
	}
	return n, nil
}

// errNotOpened says that no key opens a record.
var errNotOpened = errors.New("no seal key opens it")

// resealed is a store.Change: it seals a record with the active key. A record
// that has an end says so.
func resealed(keys *keyring.Ring, old []byte) ([]byte, time.Duration, error) {
	if old == nil {
		return nil, 0, nil // deleted meanwhile
	}
	plain, err := keys.Open(old)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errNotOpened, err)
	}
	var record struct {
		Until int64 `json:"until"`
	}
	if err := json.Unmarshal(plain, &record); err != nil {
		return nil, 0, err
	}
	var ttl time.Duration
	if record.Until > 0 {
		ttl = max(time.Until(time.Unix(record.Until, 0)), time.Second)
	}
	sealed, err := keys.Seal(plain)
	return sealed, ttl, err
}
