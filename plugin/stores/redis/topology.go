// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

const (
	// slots is how many parts the keys of a cluster are in.
	slots = 16384
	// movedPause is the time until a node is asked again that refused a key
	// because the cluster is changing.
	movedPause = 20 * time.Millisecond
)

// topology is which node of a cluster is in charge of which keys.
type topology struct {
	addresses map[string]bool // of the primaries
	owners    [slots]string   // the address for each slot
}

// primaries returns the servers that are written to, by address.
func (c *client) primaries(ctx context.Context) (map[string]rueidis.Client, error) {
	nodes := c.redis.Nodes()
	if !c.cluster {
		return nodes, nil
	}
	t, err := c.currentTopology(ctx)
	if err != nil {
		return nil, err
	}
	found := make(map[string]rueidis.Client, len(t.addresses))
	for address := range t.addresses {
		node, ok := nodes[address]
		if !ok {
			return nil, fmt.Errorf("node %s is new to the cluster", address)
		}
		found[address] = node
	}
	return found, nil
}

// primaryAddresses returns the addresses of the servers that are written to.
func (c *client) primaryAddresses(ctx context.Context) ([]string, error) {
	if !c.cluster {
		return slices.Sorted(maps.Keys(c.redis.Nodes())), nil
	}
	t, err := c.currentTopology(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(t.addresses)), nil
}

// writer returns the client for a command that writes redisKey and has to wait
// for replicas: of a cluster the node in charge, because the WAIT behind the
// command has to be sent to the same node, whatever the node says to the command.
func (c *client) writer(ctx context.Context, redisKey string) (rueidis.Client, error) {
	if !c.cluster {
		return c.redis, nil
	}
	t := c.topology.Load()
	if t == nil {
		var err error
		if t, err = c.currentTopology(ctx); err != nil {
			return nil, err
		}
		c.topology.Store(t)
	}
	command := c.redis.B().Get().Key(redisKey).Build()
	address := t.owners[command.Slot()%slots]
	node, ok := c.redis.Nodes()[address]
	if !ok {
		c.topology.Store(nil)
		return nil, fmt.Errorf("node %s is new to the cluster", address)
	}
	return node, nil
}

// currentTopology asks the nodes of a cluster, one after the other until one
// answers.
func (c *client) currentTopology(ctx context.Context) (*topology, error) {
	err := errNoNode
	for address, node := range c.redis.Nodes() {
		var t *topology
		if t, err = askTopology(ctx, node, address); err == nil {
			return t, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func askTopology(ctx context.Context, node rueidis.Client, address string) (*topology, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	ranges, err := node.Do(ctx, node.B().ClusterSlots().Build()).ToArray()
	if err != nil {
		return nil, err
	}
	t := &topology{addresses: make(map[string]bool)}
	owned := 0
	for i := range ranges {
		first, last, owner, err := parseSlots(&ranges[i], address)
		if err != nil {
			return nil, err
		}
		t.addresses[owner] = true
		for slot := first; slot <= last; slot++ {
			t.owners[slot] = owner
			owned++
		}
	}
	if owned < slots {
		return nil, errNoNode
	}
	return t, nil
}

// parseSlots reads one range of CLUSTER SLOTS. address is that of the node which
// answered: others may leave out its host.
func parseSlots(m *rueidis.RedisMessage, address string) (first, last int64, owner string, err error) {
	malformed := errors.New("the cluster's answer to CLUSTER SLOTS is malformed")
	fields, err := m.ToArray()
	if err != nil || len(fields) < 3 {
		return 0, 0, "", malformed
	}
	primary, err := fields[2].ToArray()
	if err != nil || len(primary) < 2 {
		return 0, 0, "", malformed
	}
	first, firstErr := fields[0].AsInt64()
	last, lastErr := fields[1].AsInt64()
	port, portErr := primary[1].AsInt64()
	if errors.Join(firstErr, lastErr, portErr) != nil || first < 0 || last >= slots {
		return 0, 0, "", malformed
	}
	host, _ := primary[0].ToString() // nil where the node does not know it
	if host == "" {
		if host, _, err = net.SplitHostPort(address); err != nil {
			return 0, 0, "", malformed
		}
	}
	return first, last, net.JoinHostPort(host, strconv.FormatInt(port, 10)), nil
}
