// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package redis keeps the gateway's records in Redis, so that several gateways
// share them: who signs in at one is signed in at all, and what one revokes, the
// others refuse at once.
package redis

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/minigate/minigate/module/store"
)

func init() { caddy.RegisterModule(Opener{}) }

// Ways to learn of what other gateways write.
const (
	tracking = "tracking"
	pubsub   = "pubsub"
)

// Opener keeps the gateway's records in Redis 6 or later: one server, one that
// Sentinel watches over, or a cluster.
type Opener struct {
	// The servers, each as `host:port`: one server, or the sentinels, or some
	// nodes of the cluster. Default: `127.0.0.1:6379`.
	Addresses []string `json:"addresses,omitempty"`

	// The ACL user. Default: the user `default`.
	Username string `json:"username,omitempty"`

	// The password. Default: none.
	Password string `json:"password,omitempty"`

	// The number of the database. Default: 0. A cluster has no other.
	DB int `json:"db,omitempty"`

	// The name by which the sentinels know the primary. With it, the addresses
	// are those of sentinels. Default: no Sentinel.
	Sentinel string `json:"sentinel,omitempty"`

	// The ACL user for the sentinels. Default: the user `default`.
	SentinelUsername string `json:"sentinel_username,omitempty"`

	// The password for the sentinels. Default: none.
	SentinelPassword string `json:"sentinel_password,omitempty"`

	// Whether the addresses are nodes of a cluster.
	Cluster bool `json:"cluster,omitempty"`

	// How connections are encrypted, those to sentinels included. Default: they
	// are not.
	TLS *TLS `json:"tls,omitempty"`

	// What all keys begin with. Gateways with one prefix share their sessions;
	// with different ones they do not see each other. Default: `minigate:`.
	Prefix string `json:"prefix,omitempty"`

	// How the gateway learns of what others write: `tracking` has the server
	// tell, `pubsub` has each gateway publish its writes, for proxies and
	// services that forbid CLIENT TRACKING. All gateways must use the same.
	// Default: `tracking`.
	Invalidation string `json:"invalidation,omitempty"`

	// How many replicas must have a write before it is acknowledged, so that it
	// survives a failover. Default: 0.
	Replicas int `json:"replicas,omitempty"`
}

// TLS is how connections are encrypted. The files are read when the store is
// opened.
type TLS struct {
	// A file with the certificates of the authorities to trust, in PEM. Default:
	// those that the system trusts.
	CA string `json:"ca,omitempty"`

	// A file with the gateway's own certificate, in PEM, for servers that ask
	// for one. Default: none.
	Cert string `json:"cert,omitempty"`

	// The file with the key of that certificate, in PEM.
	Key string `json:"key,omitempty"`

	// The name that the server's certificate must have. Default: the host that
	// is connected to.
	ServerName string `json:"server_name,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Opener) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "miniprogram.stores.redis",
		New: func() caddy.Module { return new(Opener) },
	}
}

// Provision sets the defaults.
func (o *Opener) Provision(caddy.Context) error {
	if len(o.Addresses) == 0 {
		o.Addresses = []string{"127.0.0.1:6379"}
	}
	if o.Prefix == "" {
		o.Prefix = "minigate:"
	}
	if o.Invalidation == "" {
		o.Invalidation = tracking
	}
	return nil
}

// Validate reports a configuration that can never work.
func (o *Opener) Validate() error {
	for _, address := range o.Addresses {
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
			return fmt.Errorf("address %q must be host:port", address)
		}
	}
	switch {
	case o.Sentinel != "" && o.Cluster:
		return errors.New("sentinel and cluster exclude each other")
	case o.Sentinel == "" && !o.Cluster && len(o.Addresses) > 1:
		return errors.New("several addresses need the option sentinel or cluster")
	case o.Sentinel == "" && (o.SentinelUsername != "" || o.SentinelPassword != ""):
		return errors.New("sentinel_username and sentinel_password need the option sentinel")
	case o.Username != "" && o.Password == "", o.SentinelUsername != "" && o.SentinelPassword == "":
		return errors.New("a username needs a password")
	case o.DB < 0:
		return errors.New("db must not be below zero")
	case o.Cluster && o.DB != 0:
		return errors.New("a cluster has no db but 0")
	case o.Replicas < 0:
		return errors.New("replicas must not be below zero")
	case o.Invalidation != tracking && o.Invalidation != pubsub:
		return fmt.Errorf("invalidation must be %s or %s, not %q", tracking, pubsub, o.Invalidation)
	case o.TLS != nil && (o.TLS.Cert == "") != (o.TLS.Key == ""):
		return errors.New("tls: cert and key need each other")
	}
	return checkPrefix(o.Prefix)
}

// identityKey makes secrets in an identity worthless outside this process.
var identityKey = func() []byte {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	return key
}()

// Identity implements store.Opener. It has every option, because a reload that
// changes one must open the store anew; passwords as a digest that means nothing
// to another process.
func (o *Opener) Identity() string {
	digest := hmac.New(sha256.New, identityKey)
	fmt.Fprintf(digest, "%q %q", o.Password, o.SentinelPassword)
	encryption := TLS{}
	if o.TLS != nil {
		encryption = *o.TLS
	}
	return fmt.Sprintf("redis:%q sentinel=%q,%q cluster=%t db=%d prefix=%q username=%q password=%x tls=%t,%q invalidation=%s replicas=%d",
		slices.Sorted(slices.Values(o.Addresses)), o.Sentinel, o.SentinelUsername, o.Cluster, o.DB, o.Prefix, o.Username,
		digest.Sum(nil)[:8], o.TLS != nil, encryption, o.Invalidation, o.Replicas)
}

// Shared says that several gateways can use this store at once, and so must have
// one seal key.
func (*Opener) Shared() bool { return true }

// Open implements store.Opener. It connects, and refuses what cannot work: a
// server that is too old, a replica, a node of a cluster or a sentinel where a
// server is expected.
func (o *Opener) Open(ctx context.Context) (store.Store, error) {
	if o.Prefix == "" {
		return nil, errors.New("opening store redis: it is not provisioned")
	}
	s, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("opening store redis: %w", err)
	}
	return s, nil
}

// where says what the addresses are, for errors.
func (o *Opener) where() string {
	addresses := strings.Join(o.Addresses, ", ")
	switch {
	case o.Sentinel != "":
		return fmt.Sprintf("sentinels %s, primary %s", addresses, o.Sentinel)
	case o.Cluster:
		return "cluster " + addresses
	default:
		return addresses
	}
}

// Interface guards
var (
	_ caddy.Module      = (*Opener)(nil)
	_ caddy.Provisioner = (*Opener)(nil)
	_ caddy.Validator   = (*Opener)(nil)
	_ store.Opener      = (*Opener)(nil)
)
