// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/minigate/minigate/module/store"
)

// client is the store.Store in Redis.
type client struct {
	redis    rueidis.Client
	options  rueidis.ClientOption // those that redis was made with
	keys     keyspace
	pubsub   bool
	replicas int
	cluster  bool
	node     string // who we are in published messages

	topology atomic.Pointer[topology] // of a cluster; only writes that wait for replicas use it
	updates  store.Locks              // by key: who updates, of this process
	locks    store.Locks              // by name: who holds or tries to get the lock, of this process

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	closing <-chan struct{}
	close   sync.Once
}

// Get implements store.Store.
func (c *client) Get(ctx context.Context, key string) ([]byte, error) {
	if err := c.check(ctx, key); err != nil {
		return nil, err
	}
	value, err := c.get(ctx, key)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, store.ErrNotFound
	}
	return value, nil
}

// get returns the value of key, or nil.
func (c *client) get(ctx context.Context, key string) ([]byte, error) {
	redisKey := c.keys.encode(key)
	result := c.send(ctx, func() rueidis.RedisResult {
		return c.redis.Do(ctx, c.redis.B().Get().Key(redisKey).Build())
	})
	value, err := valueOf(result)
	if err != nil {
		return nil, c.failure(ctx, "reading", err)
	}
	return value, nil
}

// Put implements store.Store.
func (c *client) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := c.check(ctx, key); err != nil {
		return err
	}
	if err := store.CheckValue(value); err != nil {
		return err
	}
	// The copy is for a command that is still to be sent when ctx is done.
	_, err := c.write(ctx, key, edit{value: string(value), ttl: milliseconds(ttl)})
	return err
}

// Delete implements store.Store.
func (c *client) Delete(ctx context.Context, key string) error {
	if err := c.check(ctx, key); err != nil {
		return err
	}
	_, err := c.write(ctx, key, edit{remove: true})
	return err
}

// Update implements store.Store. It is optimistic: what change returns is
// written if the value is still the one that change saw. Updates of one key by
// this process wait for each other, so that only other nodes can get in between.
func (c *client) Update(ctx context.Context, key string, do store.Change) error {
	if err := c.check(ctx, key); err != nil {
		return err
	}
	unlock, err := c.updates.Lock(ctx, key, c.closing)
	if err != nil {
		return err
	}
	defer unlock()
	found, err := c.get(ctx, key)
	if err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		next := edit{conditional: true, present: found != nil, old: string(found)}
		value, ttl, err := do(found)
		if err != nil {
			return err
		}
		if value == nil && !next.present {
			return nil
		}
		if err := store.CheckValue(value); err != nil {
			return err
		}
		next.remove, next.value, next.ttl = value == nil, string(value), milliseconds(ttl)
		result, err := c.write(ctx, key, next)
		if err != nil || result.done {
			return err
		}
		found = result.found
		if err := c.backOff(ctx, attempt); err != nil {
			return err
		}
	}
}

// backOff waits a random time, longer with each attempt, so that two nodes that
// update one key do not stay in step.
func (c *client) backOff(ctx context.Context, attempt int) error {
	if attempt == 0 {
		return c.usable(ctx)
	}
	return c.sleep(ctx, jitter(time.Millisecond<<min(attempt, 5)))
}

// jitter returns a random time below d.
func jitter(d time.Duration) time.Duration {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return d * time.Duration(binary.LittleEndian.Uint32(random[:])) >> 32
}

// sleep waits until d is over, ctx is done or the store is closed.
func (c *client) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.closing:
		return store.ErrClosed
	}
}

// Close implements store.Store.
func (c *client) Close() error {
	c.close.Do(func() {
		c.cancel()
		c.redis.Close()
	})
	return nil
}

// check returns why a call for key cannot be made, if so.
func (c *client) check(ctx context.Context, key string) error {
	if err := c.usable(ctx); err != nil {
		return err
	}
	return store.CheckKey(key)
}

// usable returns why no call can be made, if so.
func (c *client) usable(ctx context.Context) error {
	select {
	case <-c.closing:
		return store.ErrClosed
	default:
		return ctx.Err()
	}
}

// send calls do, which sends a command, until it was sent: whoever comes first
// makes the connection for all, and if his context ends meanwhile, all who wait
// for it get the error of that context.
func (c *client) send(ctx context.Context, do func() rueidis.RedisResult) rueidis.RedisResult {
	for begin := time.Now(); ; {
		result, err := await(ctx, do)
		if err != nil {
			return rueidis.NewErrorResult(err)
		}
		if !c.unsent(ctx, begin, result.NonRedisError()) {
			return result
		}
	}
}

// await returns what call returns, or the error of ctx as soon as it is done:
// rueidis honours ctx once there is a connection, but not while it waits for one
// to a server that hangs.
func await[T any](ctx context.Context, call func() T) (result T, err error) {
	done := make(chan T, 1)
	go func() { done <- call() }()
	select {
	case result = <-done:
		return result, nil
	case <-ctx.Done():
		return result, ctx.Err()
	}
}

// unsent reports whether err, of a call that began at begin, is that of somebody
// else's context. A server that does not greet in time looks the same, but for
// the time.
func (c *client) unsent(ctx context.Context, begin time.Time, err error) bool {
	return ofContext(err) && c.usable(ctx) == nil && time.Since(begin) < answerTimeout/2
}

func ofContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// failure returns the error of a call that failed with err.
func (c *client) failure(ctx context.Context, doing string, err error) error {
	if unusable := c.usable(ctx); unusable != nil {
		return unusable
	}
	return fmt.Errorf("%s redis: %w", doing, clean(err, c.options.Password, c.options.Sentinel.Password))
}

// clean returns err, or one with its text where err has a secret in it, or looks
// like that of the caller's context and is not.
func clean(err error, secrets ...string) error {
	text := err.Error()
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "(secret)")
		}
	}
	if ofContext(err) {
		text = strings.ReplaceAll(text, context.DeadlineExceeded.Error(), "no answer in time")
	}
	if text != err.Error() || ofContext(err) {
		return errors.New(text)
	}
	return err
}

// valueOf returns the value that a command returned, or nil where there is none.
func valueOf(result rueidis.RedisResult) ([]byte, error) {
	value, err := result.AsBytes()
	switch {
	case rueidis.IsRedisNil(err):
		return nil, nil
	case err != nil:
		return nil, err
	case value == nil:
		return []byte{}, nil // an empty value is not an absent one
	}
	return value, nil
}

// milliseconds returns a ttl as Redis counts it: rounded up, and 0 for none.
func milliseconds(ttl time.Duration) int64 {
	if ttl <= 0 {
		return 0
	}
	return int64((ttl-1)/time.Millisecond) + 1
}

// Interface guard
var _ store.Store = (*client)(nil)
