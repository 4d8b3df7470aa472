// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"bytes"
	"fmt"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwe"
)

// Seal encrypts and authenticates plain with the active key: a JWE in compact
// form (RFC 7516), alg "dir", enc "A256GCM". Whoever seals a record must put
// into it what ties it to its place, for example its key in the store.
func (r *Ring) Seal(plain []byte) ([]byte, error) {
	k := r.current.Load().keys[0]
	header := jwe.NewHeaders()
	if err := header.Set(jwe.KeyIDKey, k.id); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	sealed, err := jwe.Encrypt(plain,
		jwe.WithKey(jwa.DIRECT, k.seal),
		jwe.WithContentEncryption(jwa.A256GCM),
		jwe.WithProtectedHeaders(header))
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	return sealed, nil
}

// SealedByActive reports whether a record was sealed with the active key.
func (r *Ring) SealedByActive(sealed []byte) bool {
	header, _, _ := bytes.Cut(sealed, []byte{'.'})
	return string(header) == r.current.Load().keys[0].sealHeader
}

// Open returns what Seal was given. The error is ErrUnknownKey or ErrElsewhere,
// where the record may be good but the ring lacks its key, or ErrForged, where the record
// was damaged or made by someone else.
func (r *Ring) Open(sealed []byte) ([]byte, error) {
	header, _, ok := bytes.Cut(sealed, []byte{'.'})
	if !ok {
		return nil, ErrForged
	}
	k, ok := r.current.Load().bySeal[string(header)]
	if !ok {
		return nil, r.unknown(string(header))
	}
	plain, err := jwe.Decrypt(sealed, jwe.WithKey(jwa.DIRECT, k.seal))
	if err != nil {
		return nil, ErrForged
	}
	return plain, nil
}
