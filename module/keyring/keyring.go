// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package keyring does the gateway's cryptography with one set of master keys:
// it signs and verifies session tokens and seals and opens records.
//
// Every master key yields, by HKDF-SHA-256 (RFC 5869), one key for each
// purpose, so that no key is used twice. The first master key signs and seals;
// all of them verify and open, so that the first can be replaced without
// signing anybody out.
package keyring

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
)

// KeySize is the size of a master key in bytes.
const KeySize = 32

// ErrUnknownKey says that a token or record was made with a key that is not in
// the ring.
var ErrUnknownKey = errors.New("unknown key")

// ErrElsewhere says that a token or record was made with a key that is not in the
// ring, but in that of another gateway: it may be good, and must be left as it is.
var ErrElsewhere = errors.New("made with a key that only other gateways have")

// ErrForged says that a token or record is not what its key made.
var ErrForged = errors.New("not authentic")

// Ring is a set of keys. It is safe for concurrent use, also while Replace
// changes the keys.
type Ring struct {
	current atomic.Pointer[generation]
	// elsewhere has the first segments of what other rings make.
	elsewhere atomic.Pointer[map[string]bool]
}

// generation is an immutable set of keys, the active one first.
type generation struct {
	keys    []*key
	byToken map[string]*key // by the first segment of its tokens
	bySeal  map[string]*key // by the first segment of its sealed records
}

// key is what one master key yields.
type key struct {
	id          string
	mac         []byte
	seal        []byte
	digest      []byte
	tokenHeader string
	sealHeader  string
}

// New returns a ring of master keys, each of KeySize bytes, the active one
// first.
func New(masters ...[]byte) (*Ring, error) {
	ring := new(Ring)
	if err := ring.Replace(masters...); err != nil {
		return nil, err
	}
	return ring, nil
}

// Replace sets the master keys. What was made with a key that is not among them
// is refused from now on.
func (r *Ring) Replace(masters ...[]byte) error {
	if len(masters) == 0 {
		return errors.New("a keyring needs at least one key")
	}
	next := &generation{
		byToken: make(map[string]*key, len(masters)),
		bySeal:  make(map[string]*key, len(masters)),
	}
	for i, master := range masters {
		k, err := derive(master)
		if err != nil {
			return fmt.Errorf("key %d: %w", i+1, err)
		}
		if _, twice := next.byToken[k.tokenHeader]; twice {
			return fmt.Errorf("key %d: the same key is given twice", i+1)
		}
		next.keys = append(next.keys, k)
		next.byToken[k.tokenHeader] = k
		next.bySeal[k.sealHeader] = k
	}
	r.current.Store(next)
	return nil
}

// Accepts reports whether what was made with the key called id is still
// accepted.
func (r *Ring) Accepts(id string) bool {
	for _, k := range r.current.Load().keys {
		if k.id == id {
			return true
		}
	}
	return false
}

// SetElsewhere says which keys are known to be in use by other gateways, by their
// ids. What is made with one of them is ErrElsewhere, unless this ring has it, too.
func (r *Ring) SetElsewhere(ids []string) {
	headers := make(map[string]bool, 2*len(ids))
	for _, id := range ids {
		token, seal := headersOf(id)
		headers[token], headers[seal] = true, true
	}
	r.elsewhere.Store(&headers)
}

// unknown returns why there is no key for what begins with header.
func (r *Ring) unknown(header string) error {
	if elsewhere := r.elsewhere.Load(); elsewhere != nil && (*elsewhere)[header] {
		return ErrElsewhere
	}
	return ErrUnknownKey
}

// ActiveID returns the id of the key that signs and seals.
func (r *Ring) ActiveID() string { return r.current.Load().keys[0].id }

// IDs returns the ids of the keys, the active one first. An id is no secret.
func (r *Ring) IDs() []string {
	keys := r.current.Load().keys
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.id
	}
	return ids
}

// Digest returns a short keyed hash of s, by which the operator can follow
// something through the log that must not stand there in clear.
func (r *Ring) Digest(s string) string {
	mac := hmac.New(sha256.New, r.current.Load().keys[0].digest)
	mac.Write([]byte(s))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:9])
}

// NewMaster returns a new random master key.
func NewMaster() []byte {
	master := make([]byte, KeySize)
	rand.Read(master) // never fails, see crypto/rand
	return master
}

// ParseMaster decodes a master key from base64, standard or URL alphabet, with
// or without padding and white space around it. The error does not show the
// text.
func ParseMaster(text string) ([]byte, error) {
	text = strings.TrimRight(strings.TrimSpace(text), "=")
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(text, "-_") {
		encoding = base64.RawURLEncoding
	}
	master, err := encoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("a key must be base64")
	}
	if len(master) != KeySize {
		return nil, fmt.Errorf("a key must be %d bytes in base64, this one has %d", KeySize, len(master))
	}
	return master, nil
}

// EncodeMaster is the inverse of ParseMaster.
func EncodeMaster(master []byte) string {
	return base64.StdEncoding.EncodeToString(master)
}

// derive makes the keys of all purposes from one master key.
func derive(master []byte) (*key, error) {
	if len(master) != KeySize {
		return nil, fmt.Errorf("a key must have %d bytes, not %d", KeySize, len(master))
	}
	k := new(key)
	var id []byte
	for _, purpose := range []struct {
		info string
		size int
		dst  *[]byte
	}{
		{"minigate key id v1", 6, &id},
		{"minigate session token v1", KeySize, &k.mac},
		{"minigate record v1", KeySize, &k.seal},
		{"minigate log digest v1", KeySize, &k.digest},
	} {
		derived, err := hkdf.Key(sha256.New, master, nil, purpose.info, purpose.size)
		if err != nil {
			return nil, fmt.Errorf("deriving %s: %w", purpose.info, err)
		}
		*purpose.dst = derived
	}
	k.id = base64.RawURLEncoding.EncodeToString(id)
	k.tokenHeader, k.sealHeader = headersOf(k.id)
	return k, nil
}

// headersOf returns the first segments of what is made with the key called id.
func headersOf(id string) (token, seal string) {
	return segment(fmt.Sprintf(`{"alg":"HS256","kid":"%s","typ":"%s"}`, id, tokenType)),
		segment(fmt.Sprintf(`{"alg":"dir","enc":"A256GCM","kid":"%s"}`, id))
}

func segment(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
