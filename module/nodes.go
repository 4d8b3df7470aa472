// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
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
)

// node is a gateway that uses the store. It holds no secret, so that gateways
// which do not have the same seal keys can tell.
type node struct {
	Host string `json:"host"`
	// Keys are the ids of its seal keys, the active one first.
	Keys []string `json:"keys"`
	// Seen is when it last said so, in unix seconds.
	Seen int64 `json:"seen"`
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

	mu      sync.Mutex
	rings   []*keyring.Ring // of the configurations in use, the newest first
	warning string          // what was last warned of
}

func newNodes(s store.Store) *nodes {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &nodes{store: s, id: rand.Text(), host: host, now: time.Now, warning: "/"}
}

// errOtherKeys says that gateways with other seal keys use the store.
var errOtherKeys = errors.New("gateways that use this store have none of the seal keys of this one; configure the same seal_key, or another store or prefix")

// join makes keys known to the other gateways before anything is sealed with
// them, and fails if the others cannot have anything in common with this one.
func (n *nodes) join(ctx context.Context, keys *keyring.Ring) error {
	ids := keys.IDs()
	others, err := n.announce(ctx, join(n.ids(), ids))
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

// ids returns the ids of all keys that this gateway uses, the active one first.
func (n *nodes) ids() (all []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ring := range n.rings {
		all = join(all, ring.IDs())
	}
	return all
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

// changing makes keys known to the others that this gateway is about to use.
func (n *nodes) changing(ctx context.Context, ids []string) error {
	others, err := n.announce(ctx, join(n.ids(), ids))
	if err != nil {
		return err
	}
	return n.await(ctx, ids[0], others)
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
		ids := n.ids()
		if len(ids) == 0 {
			continue
		}
		// While the store cannot be used, what was known before has to do.
		if others, err := n.announce(ctx, ids); err == nil {
			n.learn(others)
		}
	}
}

// announce says that this gateway has the keys called ids, and returns the other
// gateways that are alive.
func (n *nodes) announce(ctx context.Context, ids []string) (others []node, err error) {
	now := n.now().Unix()
	err = n.update(ctx, func(all map[string]node) {
		others = others[:0]
		for id, other := range all {
			switch {
			case id == n.id:
			case max(now-other.Seen, other.Seen-now) > int64(nodeAlive/time.Second):
				delete(all, id)
			default:
				others = append(others, other)
			}
		}
		all[n.id] = node{Host: n.host, Keys: ids, Seen: now}
	})
	return others, err
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
	mine := n.ids()
	var elsewhere, lacking, ahead []string
	for _, other := range others {
		elsewhere = union(elsewhere, other.Keys)
		if len(other.Keys) > 0 && !slices.Contains(mine, other.Keys[0]) {
			lacking = union(lacking, other.Keys[:1])
		}
		if !slices.Contains(other.Keys, mine[0]) {
			ahead = union(ahead, []string{other.Host})
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ring := range n.rings {
		ring.SetElsewhere(elsewhere)
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
