// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package avatar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/store"
)

// storePrefix begins the store keys of pictures. The rest is the name.
const storePrefix = "avatar/"

// pictureFormat is the version of the format that this code writes.
const pictureFormat = 1

// Bounds of one call to the store.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
)

// errUnreadable says that what the store holds is not the picture of that name.
var errUnreadable = errors.New("picture cannot be read")

// errUnchanged ends an update that has nothing to write.
var errUnchanged = errors.New("unchanged")

// inStore is the Keeper that InStore returns.
type inStore struct {
	store store.Store
	keys  *keyring.Ring
	keep  time.Duration
	now   func() time.Time
}

// InStore returns a keeper that has its pictures in the store of the gateway,
// sealed: all nodes have them, and whoever copies the store sees none. A picture
// is kept for the time keep, in whole seconds, from Put or Refresh, and with 0
// until it is deleted. Refresh writes once in a tenth of that time at most.
func InStore(s store.Store, keys *keyring.Ring, keep time.Duration) Keeper {
	return &inStore{store: s, keys: keys, keep: keep, now: time.Now}
}

// pictureHead is what a record begins with, in one line of JSON; the file
// follows as it is. Times are unix seconds.
type pictureHead struct {
	Format int `json:"v"`
	// Name is the name of the picture, so that no other sealed record can take
	// its place.
	Name string `json:"name"`
	// Since is when the picture was last in use, as far as it was written down.
	Since int64 `json:"since"`
	// End is when the picture ends; 0 for never.
	End int64 `json:"end,omitempty"`
}

// pictureRecord is what the store holds of one picture.
type pictureRecord struct {
	pictureHead
	data  []byte
	stale bool // sealed with an older key
}

// over reports whether the retention of a picture is over.
func (rec *pictureRecord) over(now int64) bool { return rec.End != 0 && now >= rec.End }

// Put implements Keeper.
func (k *inStore) Put(ctx context.Context, name string, p Picture) error {
	if err := checkPut(name, p); err != nil {
		return fmt.Errorf("keeping a picture: %w", err)
	}
	now := k.now().Unix()
	rec := &pictureRecord{pictureHead: pictureHead{Name: name, Since: now, End: end(now, k.keep)}, data: p.Data}
	sealed, ttl, err := k.seal(rec, now)
	if err != nil {
		return fmt.Errorf("keeping a picture: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := k.store.Put(ctx, storePrefix+name, sealed, ttl); err != nil {
		return fmt.Errorf("keeping a picture: %w", err)
	}
	return nil
}

// Get implements Keeper.
func (k *inStore) Get(ctx context.Context, name string) (Picture, error) {
	kind, ok := typeOf(name)
	if !ok {
		return Picture{}, ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	sealed, err := k.store.Get(ctx, storePrefix+name)
	if errors.Is(err, store.ErrNotFound) {
		return Picture{}, ErrNotFound
	}
	if err != nil {
		return Picture{}, fmt.Errorf("reading a picture: %w", err)
	}
	rec, err := k.open(name, sealed)
	if err != nil {
		return Picture{}, fmt.Errorf("reading a picture: %w", err)
	}
	if rec.over(k.now().Unix()) {
		return Picture{}, ErrNotFound
	}
	return Picture{kind, rec.data}, nil
}

// Delete implements Keeper.
func (k *inStore) Delete(ctx context.Context, name string) error {
	if !IsName(name) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if err := k.store.Delete(ctx, storePrefix+name); err != nil {
		return fmt.Errorf("deleting a picture: %w", err)
	}
	return nil
}

// Refresh implements Keeper.
func (k *inStore) Refresh(ctx context.Context, name string) error {
	if !IsName(name) {
		return nil
	}
	err := k.update(ctx, name, func(rec *pictureRecord, now int64) bool {
		latest := end(now, k.keep)
		lately := k.keep <= 0 || (now-rec.Since)*10 <= latest-now
		if rec.over(now) || lately && rec.End == end(rec.Since, k.keep) {
			return false
		}
		rec.Since, rec.End = now, latest
		return true
	})
	if err != nil {
		return fmt.Errorf("extending the life of a picture: %w", err)
	}
	return nil
}

// Sweep implements Keeper. It seals anew what is sealed with another key than
// the active one, and gives pictures the end that keep asks for.
func (k *inStore) Sweep(ctx context.Context) error {
	var outdated []string
	var broken int
	var first error
	err := k.store.Scan(ctx, storePrefix, func(e store.Entry) error {
		key, value := e.Key, e.Value
		name := key[len(storePrefix):]
		rec, err := k.open(name, value)
		switch {
		case err != nil:
			if broken++; first == nil {
				first = err
			}
		case k.adjust(rec, k.now().Unix()):
			outdated = append(outdated, name)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking through the pictures: %w", err)
	}
	for _, name := range outdated {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := k.update(ctx, name, k.adjust); err != nil && !errors.Is(err, errUnreadable) {
			return fmt.Errorf("bringing a picture up to date: %w", err)
		}
	}
	if broken > 0 {
		return fmt.Errorf("%d pictures stay as they are; the first: %w", broken, first)
	}
	return nil
}

// adjust gives a record the end that it should have, and reports whether the
// store holds something else, or something that is past its end. One that has no
// end, or too late a one, is kept for the whole time from now: nobody knows how
// long ago it was in use.
func (k *inStore) adjust(rec *pictureRecord, now int64) bool {
	if rec.over(now) {
		return true
	}
	before, latest := rec.End, end(now, k.keep)
	if latest == 0 || before == 0 || before > latest {
		rec.End = latest
	}
	return rec.End != before || rec.stale
}

// update changes the record of a picture in one atomic step, if there is one and
// change returns true. A record that is past its end is deleted then.
func (k *inStore) update(ctx context.Context, name string, change func(rec *pictureRecord, now int64) bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	err := k.store.Update(ctx, storePrefix+name, func(old []byte) ([]byte, time.Duration, error) {
		if old == nil {
			return nil, 0, errUnchanged
		}
		rec, err := k.open(name, old)
		if err != nil {
			return nil, 0, err
		}
		now := k.now().Unix()
		if !change(rec, now) {
			return nil, 0, errUnchanged
		}
		return k.seal(rec, now)
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

// seal returns the bytes to store and for how long, as store.Change does: nil
// for a record that is past its end.
func (k *inStore) seal(rec *pictureRecord, now int64) ([]byte, time.Duration, error) {
	var ttl time.Duration
	if rec.End != 0 {
		if rec.over(now) {
			return nil, 0, nil
		}
		ttl = time.Duration(rec.End-now) * time.Second
	}
	rec.Format = pictureFormat
	plain, err := json.Marshal(rec.pictureHead)
	if err != nil {
		return nil, 0, fmt.Errorf("encoding a picture: %w", err)
	}
	plain = append(append(plain, '\n'), rec.data...)
	sealed, err := k.keys.Seal(plain)
	return sealed, ttl, err
}

// open returns the record that was sealed for the picture called name.
func (k *inStore) open(name string, sealed []byte) (*pictureRecord, error) {
	plain, err := k.keys.Open(sealed)
	if errors.Is(err, keyring.ErrElsewhere) {
		return nil, fmt.Errorf("opening a picture: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	head, data, ok := bytes.Cut(plain, []byte{'\n'})
	rec := &pictureRecord{data: data, stale: !k.keys.SealedByActive(sealed)}
	switch {
	case !ok || json.Unmarshal(head, &rec.pictureHead) != nil:
		return nil, fmt.Errorf("%w: it is another kind of record", errUnreadable)
	case rec.Format > pictureFormat:
		return nil, fmt.Errorf("%w: a newer version wrote it", errUnreadable)
	case rec.Name != name || len(data) == 0:
		return nil, fmt.Errorf("%w: it is another record", errUnreadable)
	default:
		return rec, nil
	}
}
