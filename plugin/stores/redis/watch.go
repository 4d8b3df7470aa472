// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/minigate/minigate/module/store"
)

var (
	errFlushed  = errors.New("the connection is lost, or the database was flushed")
	errDemoted  = errors.New("is not a primary any more")
	errSwitched = errors.New("another server is in charge")
)

// watch is one call of Watch. It has a connection of its own to each primary.
type watch struct {
	*client
	prefix  string
	nodes   []rueidis.Client
	lost    chan error    // has room for the first reason to give up
	started chan struct{} // one for each subscription

	mu       sync.Mutex
	observer store.Observer
	telling  bool // between Started and the end
}

// Watch implements store.Store. It reports expiry, too, but for invalidation by
// pub/sub. With tracking it reports what this store writes as well: the server
// can leave that out, but then leaves out what another node wrote to the same
// key a moment before.
func (c *client) Watch(ctx context.Context, prefix string, observer store.Observer) error {
	if err := c.usable(ctx); err != nil {
		return err
	}
	w := &watch{client: c, prefix: prefix, observer: observer, lost: make(chan error, 1)}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)() // Close ends it
	defer w.stop()
	err := w.run(watching)
	return c.failure(ctx, "watching", err)
}

// run returns why the watch ends.
func (w *watch) run(ctx context.Context) error {
	addresses, err := w.primaryAddresses(ctx)
	if err != nil {
		return err
	}
	w.started = make(chan struct{}, len(addresses))
	for _, address := range addresses {
		node, err := connect(ctx, w.connection(ctx, address))
		if err != nil {
			return fmt.Errorf("connecting to %s: %w", address, err)
		}
		w.nodes = append(w.nodes, node)
		if w.pubsub {
			go func() { w.fail(w.subscribe(ctx, node)) }()
		} else {
			w.started <- struct{}{} // connecting has switched tracking on
		}
	}
	for range addresses {
		select {
		case <-w.started:
		case err := <-w.lost:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := w.check(ctx, addresses); err != nil {
		return err
	}
	w.tell(func() {
		w.telling = true
		if w.observer.Started != nil {
			w.observer.Started()
		}
	})
	go w.checkOften(ctx, addresses)
	select {
	case err := <-w.lost:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// connection returns the options of the connection to one primary.
func (w *watch) connection(ctx context.Context, address string) rueidis.ClientOption {
	options := w.options
	options.InitAddress = []string{address}
	options.Sentinel = rueidis.SentinelOption{}
	options.ForceSingleClient = true
	options.DisableRetry = true
	options.PipelineMultiplex = -1 // one connection
	options.DialCtxFn = dialUntil(ctx)
	if !w.pubsub {
		// rueidis has its own uses for tracking; this is its way to switch it on
		// with each connection. It calls with nil when the connection is lost.
		options.DisableCache = false
		options.CacheSizeEachConn = 1 << 10
		options.ClientTrackingOptions = []string{"BCAST", "PREFIX", w.keys.literal(w.prefix)}
		options.OnInvalidations = w.invalidated
	}
	return options
}

// invalidated is called with the keys that the server says have changed.
func (w *watch) invalidated(keys []rueidis.RedisMessage) {
	if keys == nil {
		w.fail(errFlushed)
		return
	}
	for i := range keys {
		redisKey, err := keys[i].ToString()
		if err != nil {
			w.fail(err)
			return
		}
		if key, ok := w.keys.decode(redisKey); ok {
			w.changed(key)
		}
	}
}

// subscribe receives what other nodes publish, until the connection is lost.
func (w *watch) subscribe(ctx context.Context, node rueidis.Client) error {
	confirmed := sync.OnceFunc(func() { w.started <- struct{}{} })
	ctx = rueidis.WithOnSubscriptionHook(ctx, func(s rueidis.PubSubSubscription) {
		if s.Kind == "subscribe" {
			confirmed()
		}
	})
	err := node.Receive(ctx, node.B().Subscribe().Channel(w.keys.channel()).Build(), func(m rueidis.PubSubMessage) {
		if author, key, ok := strings.Cut(m.Message, " "); ok && author != w.node {
			w.changed(key)
		}
	})
	if err == nil {
		err = errors.New("the subscription has ended")
	}
	return err
}

// changed tells the observer of a key.
func (w *watch) changed(key string) {
	if !strings.HasPrefix(key, w.prefix) {
		return
	}
	w.tell(func() {
		if w.telling && w.observer.Changed != nil {
			w.observer.Changed(key)
		}
	})
}

// tell calls do, one call at a time.
func (w *watch) tell(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

// fail ends the watch. The first reason counts.
func (w *watch) fail(err error) {
	select {
	case w.lost <- err:
	default:
	}
}

// stop has the observer left alone and closes the connections, which may take a
// while with a server that hangs.
func (w *watch) stop() {
	w.tell(func() { w.telling = false })
	for _, node := range w.nodes {
		go node.Close()
	}
}

// checkOften ends the watch when a server does not answer in time, is no primary
// any more, or others are in charge. A connection that is silent looks like one
// that has nothing to tell.
func (w *watch) checkOften(ctx context.Context, addresses []string) {
	ticker := time.NewTicker(pingPause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := w.check(ctx, addresses); err != nil {
			w.fail(err)
			return
		}
	}
}

func (w *watch) check(ctx context.Context, addresses []string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	for i, node := range w.nodes {
		if err := checkPrimary(ctx, node); err != nil {
			return fmt.Errorf("%s %w", addresses[i], err)
		}
	}
	if w.cluster {
		return w.checkCluster(ctx, addresses)
	}
	current, err := w.primaryAddresses(ctx)
	if err != nil {
		return err
	}
	if !slices.Equal(current, addresses) {
		return errSwitched
	}
	return nil
}

// checkCluster checks that all nodes watched say that these are the primaries. A
// node that is cut off from the others does not know better.
func (w *watch) checkCluster(ctx context.Context, addresses []string) error {
	for i, node := range w.nodes {
		t, err := askTopology(ctx, node, addresses[i])
		if err != nil {
			return fmt.Errorf("asking %s: %w", addresses[i], err)
		}
		if !slices.Equal(slices.Sorted(maps.Keys(t.addresses)), addresses) {
			return errSwitched
		}
	}
	return nil
}

// checkPrimary checks that a server answers, and says that it is a primary. One
// that does not know the question, or may not answer it, is believed to be one.
func checkPrimary(ctx context.Context, node rueidis.Client) error {
	role, err := node.Do(ctx, node.B().Role().Build()).ToArray()
	if refusal, refused := rueidis.IsRedisErr(err); refused && !refusal.IsLoading() {
		err = node.Do(ctx, node.B().Ping().Build()).Error()
		if err != nil {
			return fmt.Errorf("does not answer: %w", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("does not answer: %w", err)
	}
	if len(role) > 0 {
		if name, err := role[0].ToString(); err == nil && name != "master" {
			return errDemoted
		}
	}
	return nil
}
