// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/store"
)

const (
	// nodesKey is the store key of the list of gateways that use the store. All of
	// them write it every two seconds: it ends soon after the last of them.
	nodesKey = "node/all"

	nodePause   = 2 * time.Second
	nodeTimeout = 5 * time.Second

	// nodeAlive is for how long a gateway counts as alive that does not say so.
	nodeAlive = 15 * time.Second

	// elsewhereKept is for how long the keys of a gateway are remembered that is
	// gone: it may come back with them, after a restart.
	elsewhereKept = time.Hour
)

// node is a gateway that uses the store. It holds no secret, so that gateways
// which do not have the same seal keys can tell.
type node struct {
	Host string `json:"host"`
	// Keys are the ids of its seal keys, the active one first.
	Keys []string `json:"keys"`
	// Beat is another number each time that it says so. Clocks of other machines say
	// nothing.
	Beat int64 `json:"beat"`
}

// nodes tells the gateways that share a store of each other.
//
// They must have the same seal keys. Where they do not yet, because a new one is
// being handed out, each has to know of those that it lacks: what is sealed with
// them is not damaged, and nobody is signed out because of it.
type nodes struct {
	store store.Store
	id    string
	host  string
	now   func() time.Time

	others atomic.Pointer[[]node]

	mu        sync.Mutex
	rings     []*keyring.Ring      // of the configurations in use, the newest first
	coming    []string             // ids of keys that are about to be used
	beats     map[string]heartbeat // of the other gateways, by their ids
	elsewhere map[string]time.Time // ids of keys of other gateways, and when they were last seen
	warning   string               // what was last warned of
}

// heartbeat is the last sign of life of a gateway, and when it was seen to change.
type heartbeat struct {
	beat int64
	at   time.Time
}

func newNodes(s store.Store) *nodes {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &nodes{
		store: s, id: rand.Text(), host: host, now: time.Now, warning: "/",
		beats: make(map[string]heartbeat), elsewhere: make(map[string]time.Time),
	}
}

// errOtherKeys says that gateways with other seal keys use the store.
var errOtherKeys = errors.New("gateways that use this store have none of the seal keys of this one; configure the same seal_key, or another store or prefix")

// join makes keys known to the other gateways before anything is sealed with
// them, and fails if the others cannot have anything in common with this one.
func (n *nodes) join(ctx context.Context, keys *keyring.Ring) error {
	ids := keys.IDs()
	n.expect(ids)
	defer n.expect(nil)
	others, err := n.announce(ctx)
	if err != nil {
		return err
	}
	if len(others) > 0 && !slices.ContainsFunc(others, func(o node) bool { return haveInCommon(o.Keys, ids) }) {
		return errOtherKeys
	}
	if err := n.await(ctx, ids[0], others); err != nil {
		return err
	}
	n.mu.Lock()
	n.rings = slices.Insert(n.rings, 0, keys)
	n.mu.Unlock()
	n.learn(others)
	return nil
}

// part is the end of what join began.
func (n *nodes) part(keys *keyring.Ring) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.Index(n.rings, keys); i >= 0 {
		n.rings = slices.Delete(n.rings, i, i+1)
	}
}

// expect says which keys are about to be used, so that they are announced as long as
// it takes, also by run.
func (n *nodes) expect(ids []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.coming = ids
}

// ids returns the ids of all keys that this gateway uses or is about to use, the
// active one first. The caller holds n.mu.
func (n *nodes) ids() (all []string) {
	for _, ring := range n.rings {
		all = join(all, ring.IDs())
	}
	return join(all, n.coming)
}

// await gives the other gateways time to hear of a key that some of them lack.
func (n *nodes) await(ctx context.Context, key string, others []node) error {
	if !slices.ContainsFunc(others, func(o node) bool { return !slices.Contains(o.Keys, key) }) {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * nodePause):
		return nil
	}
}

// changing makes keys known to the others, and then calls change, which begins to
// use them.
func (n *nodes) changing(ctx context.Context, ids []string, change func() error) error {
	n.expect(ids)
	defer n.expect(nil)
	others, err := n.announce(ctx)
	if err != nil {
		return err
	}
	if err := n.await(ctx, ids[0], others); err != nil {
		return err
	}
	return change()
}

// run says again and again that this gateway is there, and learns which others
// are, until ctx is done.
func (n *nodes) run(ctx context.Context) {
	ticker := time.NewTicker(nodePause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			n.leave(context.WithoutCancel(ctx))
			return
		case <-ticker.C:
		}
		// While the store cannot be used, what was known before has to do.
		if others, err := n.announce(ctx); err == nil {
			n.learn(others)
		}
	}
}

// announce says which keys this gateway has, if it has any, and returns the other
// gateways that are alive.
func (n *nodes) announce(ctx context.Context) (others []node, err error) {
	err = n.update(ctx, func(all map[string]node) {
		n.mu.Lock()
		defer n.mu.Unlock()
		ids := n.ids()
		others = others[:0]
		for id, other := range all {
			switch {
			case id == n.id:
			case !n.alive(id, other):
				delete(all, id)
			default:
				others = append(others, other)
			}
		}
		if len(ids) > 0 {
			all[n.id] = node{Host: n.host, Keys: ids, Beat: n.now().UnixNano()}
		}
	})
	return others, err
}

// alive reports whether another gateway has given a sign of life lately, by this
// machine's clock. One that was not seen before is taken to be alive. The caller
// holds n.mu.
func (n *nodes) alive(id string, other node) bool {
	now := n.now()
	last, known := n.beats[id]
	if !known || last.beat != other.Beat {
		n.beats[id] = heartbeat{other.Beat, now}
		return true
	}
	return now.Sub(last.at) <= nodeAlive
}

// leave says that this gateway is gone. Where that fails, it is forgotten later.
func (n *nodes) leave(ctx context.Context) {
	_ = n.update(ctx, func(all map[string]node) { delete(all, n.id) })
}

func (n *nodes) update(ctx context.Context, change func(map[string]node)) error {
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	err := n.store.Update(ctx, nodesKey, func(old []byte) ([]byte, time.Duration, error) {
		all := make(map[string]node)
		if old != nil && json.Unmarshal(old, &all) != nil {
			clear(all) // each of them writes itself down again
		}
		change(all)
		if len(all) == 0 {
			return nil, 0, nil
		}
		value, err := json.Marshal(all)
		return value, nodeAlive, err
	})
	if err != nil {
		return fmt.Errorf("writing which gateways use the store: %w", err)
	}
	return nil
}

// learn takes note of the other gateways and their keys, and tells the operator
// where they do not go together.
func (n *nodes) learn(others []node) {
	n.others.Store(&others)
	n.mu.Lock()
	defer n.mu.Unlock()
	mine, now := n.ids(), n.now()
	if len(mine) == 0 {
		return // the last configuration is on its way out
	}
	var lacking, ahead []string
	for _, other := range others {
		for _, id := range other.Keys {
			n.elsewhere[id] = now
		}
		if len(other.Keys) > 0 && !slices.Contains(mine, other.Keys[0]) {
			lacking = union(lacking, other.Keys[:1])
		}
		if !slices.Contains(other.Keys, mine[0]) {
			ahead = union(ahead, []string{other.Host})
		}
	}
	maps.DeleteFunc(n.elsewhere, func(_ string, seen time.Time) bool { return now.Sub(seen) > elsewhereKept })
	maps.DeleteFunc(n.beats, func(_ string, last heartbeat) bool { return now.Sub(last.at) > elsewhereKept })
	for _, ring := range n.rings {
		ring.SetElsewhere(slices.Collect(maps.Keys(n.elsewhere)))
	}
	warning := strings.Join(lacking, " ") + "/" + strings.Join(ahead, " ")
	if warning == n.warning {
		return
	}
	n.warning = warning
	logger := caddy.Log().Named("miniprogram") // of the configuration in use, which this outlives
	if len(lacking) > 0 {
		logger.Error("other gateways seal with keys that this one lacks: users signed in there are answered 503 here", zap.Strings("keys", lacking))
	}
	if len(ahead) > 0 {
		logger.Error("other gateways lack the active seal key of this one: users signed in here are answered 503 there", zap.Strings("hosts", ahead))
	}
	if len(lacking) == 0 && len(ahead) == 0 {
		logger.Info("all gateways have the seal keys that they need")
	}
}

// known returns the other gateways, as far as is known.
func (n *nodes) known() []node {
	if n == nil {
		return nil
	}
	if others := n.others.Load(); others != nil {
		return *others
	}
	return nil
}

// count returns how many gateways use the store, as far as is known.
func (n *nodes) count() int {
	return 1 + len(n.known())
}

// join appends to a what is in b only.
func join(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

func haveInCommon(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}
