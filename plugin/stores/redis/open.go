// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/zap"
)

const (
	// dialTimeout bounds the making of a connection.
	dialTimeout = 3 * time.Second
	// answerTimeout is how long a server may take for a ping. One that takes
	// longer is taken for dead, and its connections are closed.
	answerTimeout = 3 * time.Second
	// pingPause is the time between two pings.
	pingPause = time.Second
	// refreshPause is the time after which sentinels or nodes are asked again
	// who is in charge, even if nothing seems to have happened.
	refreshPause = 2 * time.Second
	// readAttempts is how many times a read is tried whose connection broke.
	readAttempts = 2

	bufferSize = 1 << 16
)

// open connects as o says, and checks what it has found.
func open(ctx context.Context, o *Opener) (*client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	encryption, err := o.TLS.config()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	living, end := context.WithCancel(context.Background())
	c := &client{
		options:  o.options(living, encryption),
		keys:     keyspace(o.Prefix),
		pubsub:   o.Invalidation == pubsub,
		replicas: o.Replicas,
		cluster:  o.Cluster,
		node:     rand.Text(),
		ctx:      living,
		cancel:   end,
		closing:  living.Done(),
	}
	if c.redis, err = connectChecked(ctx, o, c.options); err != nil {
		end()
		if cause := ctx.Err(); cause != nil {
			return nil, fmt.Errorf("%s: %w", o.where(), cause)
		}
		return nil, clean(err, o.Password, o.SentinelPassword)
	}
	if err := c.checkPrimaries(ctx); err != nil {
		_ = c.Close()
		return nil, clean(err, o.Password, o.SentinelPassword)
	}
	return c, nil
}

// config reads the files that t names.
func (t *TLS) config() (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		authorities, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, fmt.Errorf("%s has no certificate in PEM", t.CA)
		}
	}
	if t.Cert != "" {
		certificate, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

// options returns how to connect. No connection is made when living is done.
func (o *Opener) options(living context.Context, encryption *tls.Config) rueidis.ClientOption {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: pingPause} // rueidis pings as often
	options := rueidis.ClientOption{
		InitAddress:      o.Addresses,
		Username:         o.Username,
		Password:         o.Password,
		SelectDB:         o.DB,
		ClientName:       "minigate",
		ClientSetInfo:    rueidis.DisableClientSetInfo,
		TLSConfig:        encryption,
		Dialer:           dialer,
		DialCtxFn:        dialUntil(living),
		ConnWriteTimeout: answerTimeout,

		// A command that waits for its answer in the open would keep a caller
		// whose context is cancelled, and break the connection of all others
		// when its deadline passes.
		AlwaysPipelining: true,
		DisableCache:     true,
		RetryDelay:       retryDelay,

		ReadBufferEachConn:  bufferSize,
		WriteBufferEachConn: bufferSize,
		BlockingPoolSize:    256, // writes that wait for replicas
		BlockingPoolCleanup: time.Minute,

		ForceSingleClient: o.Sentinel == "" && !o.Cluster,
		ClusterOption: rueidis.ClusterOption{
			ShardsRefreshInterval: refreshPause,
			MaxMovedRedirections:  8,
		},
	}
	if o.Sentinel != "" {
		options.Sentinel = rueidis.SentinelOption{
			MasterSet:               o.Sentinel,
			Username:                o.SentinelUsername,
			Password:                o.SentinelPassword,
			ClientName:              options.ClientName,
			TLSConfig:               encryption,
			Dialer:                  dialer,
			TopologyRefreshInterval: refreshPause,
		}
	}
	return options
}

// retryDelay says when a read whose connection broke is tried again. Writes are
// not.
func retryDelay(attempts int, _ rueidis.Completed, _ error) time.Duration {
	if attempts >= readAttempts {
		return -1
	}
	return jitter(10 * time.Millisecond << attempts)
}

// dialUntil returns a function that makes connections until living is done. The
// contexts of calls do not end it, because others may wait for the same
// connection.
func dialUntil(living context.Context) func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
	return func(_ context.Context, address string, dialer *net.Dialer, encryption *tls.Config) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(living, dialTimeout)
		defer cancel()
		if encryption == nil {
			return dialer.DialContext(ctx, "tcp", address)
		}
		return (&tls.Dialer{NetDialer: dialer, Config: encryption}).DialContext(ctx, "tcp", address)
	}
}

// connect makes a client. It returns when ctx is done, and the client is then
// closed as soon as it is made.
func connect(ctx context.Context, options rueidis.ClientOption) (rueidis.Client, error) {
	type result struct {
		client rueidis.Client
		err    error
	}
	made := make(chan result, 1)
	go func() {
		client, err := rueidis.NewClient(options)
		if err != nil && client != nil {
			client.Close()
		}
		made <- result{client, err}
	}()
	select {
	case r := <-made:
		if r.err != nil {
			return nil, r.err
		}
		return r.client, nil
	case <-ctx.Done():
		go func() {
			if r := <-made; r.err == nil {
				r.client.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// connectChecked looks at each address, so that an error can say what is wrong
// with which, and then makes the client.
func connectChecked(ctx context.Context, o *Opener, options rueidis.ClientOption) (rueidis.Client, error) {
	if !options.ForceSingleClient {
		if err := o.probeAll(ctx, options); err != nil {
			return nil, err
		}
	}
	client, err := connect(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", o.where(), err)
	}
	if options.ForceSingleClient {
		if err := o.probe(ctx, client, o.Addresses[0]); err != nil {
			client.Close()
			return nil, err
		}
	}
	return client, nil
}

// probeAll checks that one of the addresses is what it should be, and that none
// is something else.
func (o *Opener) probeAll(ctx context.Context, options rueidis.ClientOption) error {
	if o.Sentinel != "" {
		options.Username, options.Password, options.SelectDB = o.SentinelUsername, o.SentinelPassword, 0
		options.Sentinel = rueidis.SentinelOption{}
	}
	options.ForceSingleClient = true
	failed := make([]error, len(o.Addresses))
	var wg sync.WaitGroup
	for i, address := range o.Addresses {
		single := options
		single.InitAddress = []string{address}
		wg.Go(func() {
			client, err := connect(ctx, single)
			if err != nil {
				failed[i] = fmt.Errorf("connecting to %s: %w", address, err)
				return
			}
			defer client.Close()
			failed[i] = o.probe(ctx, client, address)
		})
	}
	wg.Wait()
	reached := false
	for _, err := range failed {
		if _, wrong := errors.AsType[*wrongServerError](err); wrong {
			return err
		}
		reached = reached || err == nil
	}
	if reached {
		return nil
	}
	return errors.Join(failed...)
}

// wrongServerError says that an address is not what the configuration says.
type wrongServerError struct{ text string }

func (e *wrongServerError) Error() string { return e.text }

// probe checks that the server at address is of the kind that o is for.
func (o *Opener) probe(ctx context.Context, client rueidis.Client, address string) error {
	wrong := func(text string) error { return &wrongServerError{address + " " + text} }
	server, err := client.Do(ctx, client.B().Hello().Build()).AsMap()
	if err != nil {
		if _, answered := rueidis.IsRedisErr(err); answered && o.Invalidation == pubsub {
			return nil // a proxy that does not know HELLO
		}
		return fmt.Errorf("asking %s who it is: %w", address, err)
	}
	field := func(name string) string {
		message := server[name]
		text, _ := message.ToString()
		return text
	}
	switch mode := field("mode"); {
	case o.Sentinel != "" && mode != "sentinel":
		return wrong("is not a sentinel: the option sentinel needs the addresses of sentinels")
	case o.Sentinel != "":
		return probeSentinel(ctx, client, o.Sentinel, address)
	case mode == "sentinel":
		return wrong("is a sentinel: add the option sentinel with the name of the primary")
	case o.Cluster && mode != "cluster":
		return wrong("is not a node of a cluster: remove the option cluster")
	case !o.Cluster && mode == "cluster":
		return wrong("is a node of a cluster: add the option cluster")
	case !o.Cluster && field("role") == "replica":
		return wrong("is a replica: give the address of its primary, or use the option sentinel")
	}
	return nil
}

func probeSentinel(ctx context.Context, client rueidis.Client, name, address string) error {
	_, err := client.Do(ctx, client.B().SentinelGetMasterAddrByName().Master(name).Build()).AsStrSlice()
	if rueidis.IsRedisNil(err) {
		return &wrongServerError{fmt.Sprintf("sentinel %s knows no primary called %q", address, name)}
	}
	if err != nil {
		return fmt.Errorf("asking sentinel %s for the primary: %w", address, err)
	}
	return nil
}

// checkPrimaries checks the servers that are written to, and warns of one that
// throws records away when its memory is full.
func (c *client) checkPrimaries(ctx context.Context) error {
	nodes, err := c.primaries(ctx)
	if err != nil {
		return err
	}
	for address, node := range nodes {
		if err := checkPrimary(ctx, node); err != nil {
			return fmt.Errorf("%s %w", address, err)
		}
		info, err := node.Do(ctx, node.B().Info().Section("memory").Build()).ToString()
		if err != nil {
			continue // forbidden
		}
		_, policy, found := strings.Cut(info, "maxmemory_policy:")
		if policy, _, _ = strings.Cut(policy, "\r\n"); found && policy != "noeviction" {
			logger().Warn("redis may throw sessions away: set maxmemory-policy to noeviction",
				zap.String("address", address), zap.String("maxmemory_policy", policy))
		}
	}
	return nil
}
