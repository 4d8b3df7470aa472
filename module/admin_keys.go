// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// keysAnswer is the body of the answer to GET /miniprogram/keys. Ids of keys are
// no secret.
type keysAnswer struct {
	// Active is the key that signs and seals.
	Active string `json:"active"`
	// Keys are all that verify and open, the active one first.
	Keys []string `json:"keys"`
	// From is configured, or made: by the gateway, and kept in Caddy's storage.
	From string `json:"from"`
	// ResealedAt is when this node last saw to it that no lasting record is sealed
	// with another key than the active one.
	ResealedAt time.Time `json:"resealed_at,omitzero"`
	// Assertion are the keys that sign identities for upstreams, the oldest first.
	// There are none before the first identity is signed.
	Assertion []assertionKeyAnswer `json:"assertion"`
	// Gateways are the others that use the store.
	Gateways []gatewayAnswer `json:"gateways"`
}

// assertionKeyAnswer is a key that signs identities from a time on, until the next
// one does.
type assertionKeyAnswer struct {
	ID    string    `json:"id"`
	Since time.Time `json:"since"`
	Signs bool      `json:"signs"`
}

// gatewayAnswer is another gateway with its seal keys, the active one first.
type gatewayAnswer struct {
	Host string   `json:"host"`
	Keys []string `json:"keys"`
}

// showKeys answers GET /miniprogram/keys.
func showKeys(c *adminCall) (any, error) { return c.describeKeys(), nil }

func (c *adminCall) describeKeys() keysAnswer {
	ids := c.keys.IDs()
	answer := keysAnswer{Active: ids[0], Keys: ids, From: "made", Assertion: []assertionKeyAnswer{}, Gateways: []gatewayAnswer{}}
	if len(c.app.SealKeys) > 0 {
		answer.From = "configured"
	}
	if done := c.state.resealed.Load(); done != nil && done.keyID == ids[0] {
		answer.ResealedAt = done.at.UTC()
	}
	if set := c.assertions.known.Load(); set != nil {
		signer := set.signer(time.Now())
		for i, key := range set.keys {
			answer.Assertion = append(answer.Assertion, assertionKeyAnswer{key.ID, time.Unix(set.since[i], 0).UTC(), key == signer})
		}
	}
	for _, other := range c.state.nodes.known() {
		answer.Gateways = append(answer.Gateways, gatewayAnswer{other.Host, other.Keys})
	}
	slices.SortFunc(answer.Gateways, func(a, b gatewayAnswer) int { return strings.Compare(a.Host, b.Host) })
	return answer
}

// rotatedKey is the body of the answer to POST /miniprogram/keys/rotate: the key
// that will sign, or does by now.
type rotatedKey struct {
	ID string `json:"id"`
}

// rotateKeys answers POST /miniprogram/keys/rotate. It replaces the key that signs
// identities for upstreams: the seal key is the operator's own.
func rotateKeys(c *adminCall) (any, error) {
	var body struct {
		// AtOnce is for a key that has leaked. Upstreams refuse what it has signed as
		// soon as they read the published keys again.
		AtOnce bool `json:"at_once"`
	}
	if err := c.readStrict(&body, true); err != nil {
		return nil, err
	}
	id, err := c.assertions.Rotate(c.Context(), body.AtOnce)
	if err != nil {
		return nil, err
	}
	c.tell(zap.String("key", id), zap.Bool("at_once", body.AtOnce))
	return &rotatedKey{id}, nil
}
