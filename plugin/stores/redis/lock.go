// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"crypto/rand"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/rueidis"
	"go.uber.org/zap"
)

const (
	// lease is how long a lock outlives the last sign of life of its holder.
	lease = 10 * time.Second
	// renewal is the time between two signs of life.
	renewal = 3 * time.Second
	// unlockTimeout bounds unlocking; the lease ends by itself.
	unlockTimeout = 3 * time.Second
	// lockPause is the longest time between two attempts to get a lock.
	lockPause = 200 * time.Millisecond
)

// renewing prolongs the lease of a lock that is still held, and of no other.
var renewing = newScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
	return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0`)

// releasing removes a lock that is still held, and no other.
var releasing = newScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
	return redis.call('DEL', KEYS[1])
end
return 0`)

// Lock implements store.Store. A lock is a key with a lease that is prolonged
// for as long as the lock is held. Callers of this process wait for each other,
// so that one of them at a time tries to get it from other nodes.
func (c *client) Lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := c.usable(ctx); err != nil {
		return nil, err
	}
	leave, err := c.locks.Lock(ctx, name, c.closing)
	if err != nil {
		return nil, err
	}
	key, token := c.keys.lock(name), rand.Text()
	if err := c.acquire(ctx, key, token); err != nil {
		leave()
		return nil, err
	}
	held, end := context.WithCancel(c.ctx)
	var renewer sync.WaitGroup
	renewer.Go(func() { c.renew(held, key, token) })
	return sync.OnceFunc(func() {
		defer leave()
		end()
		renewer.Wait()
		c.release(context.WithoutCancel(ctx), key, token)
	}), nil
}

// acquire tries to get a lock until it has it or ctx is done.
func (c *client) acquire(ctx context.Context, key, token string) error {
	for pause := lockPause / 16; ; pause = min(2*pause, lockPause) {
		_, err := c.do(ctx, key, func(b rueidis.Builder) rueidis.Completed {
			return b.Set().Key(key).Value(token).Nx().PxMilliseconds(lease.Milliseconds()).Build()
		})
		if err == nil {
			return nil
		}
		if !rueidis.IsRedisNil(err) {
			go c.release(context.WithoutCancel(ctx), key, token) // it may have been set all the same
			return c.failure(ctx, "locking in", err)
		}
		if err := c.sleep(ctx, pause/2+jitter(pause/2)); err != nil {
			return err
		}
	}
}

// renew prolongs the lease of a lock until ctx is done or the lease is lost.
// Then somebody else may hold the lock as well: its holder cannot be told.
func (c *client) renew(ctx context.Context, key, token string) {
	ticker := time.NewTicker(renewal)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		attempt, cancel := context.WithTimeout(ctx, renewal)
		result := c.exec(attempt, renewing, key, []string{token, strconv.FormatInt(lease.Milliseconds(), 10)})
		kept, err := result.AsInt64()
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && kept == 0:
			logger().Warn("the lease of a lock is lost")
			return
		case err != nil: // the next attempt may do
			logger().Warn("the lease of a lock is not renewed", zap.Error(c.failure(ctx, "locking in", err)))
		}
	}
}

// release gives a lock back. Where that fails, its lease ends by itself.
func (c *client) release(ctx context.Context, key, token string) {
	ctx, cancel := context.WithTimeout(ctx, unlockTimeout)
	defer cancel()
	_ = c.exec(ctx, releasing, key, []string{token}).Error()
}

// logger returns the logger of the configuration in use, which a store outlives.
func logger() *zap.Logger { return caddy.Log().Named("miniprogram.stores.redis") }
