// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/store"
)

const (
	// outcomePrefix begins the store keys of outcomes of codes, and the names of
	// their locks.
	outcomePrefix = "code/"

	// outcomeTimeout bounds what the store takes for one code. It is longer than
	// an exchange, for which others wait, can be expected to take.
	outcomeTimeout = 30 * time.Second
)

// cluster sees to it that a code is exchanged once by all gateways that share a
// store: the network stack of a mini-program sends a request again when the
// answer is late, and a load balancer may give that to another gateway.
type cluster struct {
	store  store.Store
	keys   *keyring.Ring
	logger *zap.Logger
}

// outcomeRecord is what is stored, sealed, of an exchange that has ended: for
// answerKept, and only for the client that brought the code.
type outcomeRecord struct {
	// Key is the store key, so that no other sealed record can take its place.
	Key     string          `json:"key"`
	Client  string          `json:"client"`
	Result  json.RawMessage `json:"result,omitempty"`
	Failure *outcomeFailure `json:"failure,omitempty"`
}

// outcomeFailure is why an exchange had no result. At most one of Refused and
// Platform is set; none of them is a failure of the store.
type outcomeFailure struct {
	Refused  *Error          `json:"refused,omitempty"`
	Platform *provider.Error `json:"platform,omitempty"`
	Cause    string          `json:"cause,omitempty"`
}

// storeKey returns the key under which the outcome of a code is stored. It does
// not hold the code.
func (k exchangeKey) storeKey() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %q %x", k.use, k.program, k.code))
	return outcomePrefix + base64.RawURLEncoding.EncodeToString(sum[:])
}

// exchangeOnce returns the outcome of exchanging a code. exchange is called if no
// gateway has exchanged it; while one is at it the others wait. Where the store
// cannot be asked, the code is not exchanged.
func exchangeOnce[T any](ctx context.Context, c *cluster, code exchangeKey, client string, exchange func(context.Context) (T, error)) (result T, err error) {
	key := code.storeKey()
	asking, cancel := context.WithTimeout(ctx, outcomeTimeout)
	defer cancel()
	unlock, err := c.store.Lock(asking, key)
	if err != nil {
		return result, notSentError{&storeError{fmt.Errorf("locking a code: %w", err)}}
	}
	defer unlock()
	known, err := c.load(asking, key)
	if err != nil {
		return result, notSentError{&storeError{err}}
	}
	if known != nil {
		if known.Client != client {
			return result, errForeignCode
		}
		if known.Failure != nil {
			return result, known.Failure.asError()
		}
		if err := json.Unmarshal(known.Result, &result); err != nil {
			return result, fmt.Errorf("reading the outcome of a code: %w", err)
		}
		return result, nil
	}
	result, err = exchange(ctx)
	if !unspent(err) {
		c.save(ctx, &outcomeRecord{Key: key, Client: client}, result, err)
	}
	return result, err
}

// load returns the stored outcome of a code; nil where there is none.
func (c *cluster) load(ctx context.Context, key string) (*outcomeRecord, error) {
	sealed, err := c.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the outcome of a code: %w", err)
	}
	record := new(outcomeRecord)
	plain, err := c.keys.Open(sealed)
	if err == nil {
		err = json.Unmarshal(plain, record)
	}
	if err == nil && record.Key != key {
		err = errors.New("it is another record")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the outcome of a code: %w", err)
	}
	return record, nil
}

// save stores the outcome of a code. If that fails, another gateway would try to
// exchange the code again, and be told by the platform that it is used.
func (c *cluster) save(ctx context.Context, record *outcomeRecord, result any, failure error) {
	err := func() (err error) {
		if failure != nil {
			record.Failure = newOutcomeFailure(failure)
		} else if record.Result, err = json.Marshal(result); err != nil {
			return err
		}
		plain, err := json.Marshal(record)
		if err != nil {
			return err
		}
		sealed, err := c.keys.Seal(plain)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, outcomeTimeout)
		defer cancel()
		return c.store.Put(ctx, record.Key, sealed, answerKept)
	}()
	if err != nil {
		c.logger.Warn("outcome of a code is not stored", zap.Error(err))
	}
}

// newOutcomeFailure returns what other gateways are told of err. Its cause is
// left out: it is in this gateway's log.
func newOutcomeFailure(err error) *outcomeFailure {
	var refused *Error
	var platform *provider.Error
	switch {
	case errors.As(err, &refused):
		return &outcomeFailure{Refused: refused}
	case errors.As(err, new(*storeError)):
		return &outcomeFailure{Cause: "another gateway could not store the session"}
	case errors.As(err, &platform):
		told := *platform
		told.Err = nil
		return &outcomeFailure{Platform: &told}
	default:
		return &outcomeFailure{Platform: &provider.Error{Reason: provider.PlatformFault}}
	}
}

func (f *outcomeFailure) asError() error {
	switch {
	case f.Refused != nil:
		return f.Refused
	case f.Platform != nil:
		return f.Platform
	default:
		return &storeError{errors.New(f.Cause)}
	}
}
