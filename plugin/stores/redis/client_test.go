// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"fmt"
	"testing"

	"github.com/minigate/minigate/module/store"
	"github.com/minigate/minigate/module/store/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	if !installed(t, "redis-server", "redis-cli") {
		return
	}
	for _, invalidation := range []string{tracking, pubsub} {
		t.Run(invalidation, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			storetest.Run(t, func(t *testing.T) store.Store {
				s.cli("flushall")
				return openStore(t, Opener{Addresses: []string{s.address}, Invalidation: invalidation})
			})
		})
	}
}

func TestStoreCluster(t *testing.T) {
	if !installed(t, "redis-server", "redis-cli") {
		return
	}
	t.Parallel()
	nodes := startCluster(t, 0)
	number := 0
	storetest.Run(t, func(t *testing.T) store.Store {
		number++
		for _, node := range nodes {
			node.cli("flushall")
		}
		return openStore(t, Opener{Addresses: addresses(nodes), Cluster: true, Prefix: fmt.Sprintf("test%d:", number)})
	})
}
