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

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/store"
)

// bringers knows which user first brought data that the platform signed without
// naming one: whoever got hold of it must not pass it off as his.
//
// That the same user brings it again is no replay: where the platform puts
// neither time nor chance into what it signs, the same telephone number is the
// same data every time.
type bringers struct {
	store store.Store
	keys  *keyring.Ring
}

const (
	// bringerPrefix begins the store keys of bringers.
	bringerPrefix = "signed/"

	// bringerKept is for how long data belongs to its first bringer. A telephone
	// number that was given up may have another owner by then.
	bringerKept = 180 * 24 * time.Hour
)

// bringerRecord is what is stored of data that was brought.
type bringerRecord struct {
	// Key is the store key, so that no other sealed record can take its place.
	Key     string `json:"key"`
	Subject string `json:"sub"`
	// Until is when the record ends, in unix seconds.
	Until int64 `json:"until"`
}

// errBroughtBefore says that another user brought the data.
var errBroughtBefore = errors.New("another user brought it")

// errKnown says that the same user brought the data not long ago.
var errKnown = errors.New("the same user brought it")

// first reports whether nobody but the user called subject has brought the data
// yet.
func (b *bringers) first(ctx context.Context, platform string, data []byte, subject string) (bool, error) {
	sum := sha256.Sum256(data)
	key := bringerPrefix + platform + "/" + base64.RawURLEncoding.EncodeToString(sum[:])
	err := b.store.Update(ctx, key, func(old []byte) ([]byte, time.Duration, error) {
		if old != nil {
			var record bringerRecord
			plain, err := b.keys.Open(old)
			if errors.Is(err, keyring.ErrElsewhere) {
				return nil, 0, err
			}
			if err != nil || json.Unmarshal(plain, &record) != nil || record.Key != key || record.Subject != subject {
				return nil, 0, errBroughtBefore // by another one, for all that is known
			}
			if time.Until(time.Unix(record.Until, 0)) > bringerKept/2 {
				return nil, 0, errKnown
			}
		}
		plain, err := json.Marshal(bringerRecord{key, subject, time.Now().Add(bringerKept).Unix()})
		if err != nil {
			return nil, 0, err
		}
		sealed, err := b.keys.Seal(plain)
		return sealed, bringerKept, err
	})
	if errors.Is(err, errBroughtBefore) || errors.Is(err, errKnown) {
		return errors.Is(err, errKnown), nil
	}
	if err != nil {
		return false, fmt.Errorf("noting who brought signed data: %w", err)
	}
	return true, nil
}
