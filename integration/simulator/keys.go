// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"sync"
)

// keyMaker makes the keys of a simulated platform: random ones or, with a seed,
// those that depend on the seed and a name alone.
type keyMaker struct{ seed string }

// seeded holds the keys that were made from seeds, by seed and name: making one
// takes half a second, and seeds come from configurations alone.
var seeded sync.Map

// rsaKey makes a key pair of 2048 bits.
func (m keyMaker) rsaKey(name string) (*rsa.PrivateKey, error) {
	if m.seed == "" {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	id := fmt.Sprintf("%q %q", m.seed, name)
	if key, found := seeded.Load(id); found {
		return key.(*rsa.PrivateKey), nil
	}
	stream := &seedStream{seed: []byte(id)}
	key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{E: 65537}}
	p, q := stream.prime(), stream.prime()
	one := big.NewInt(1)
	key.N = new(big.Int).Mul(p, q)
	totient := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key.D = new(big.Int).ModInverse(big.NewInt(int64(key.E)), totient)
	key.Primes = []*big.Int{p, q}
	key.Precompute()
	if err := key.Validate(); err != nil {
		return nil, fmt.Errorf("making a key from the seed: %w", err)
	}
	seeded.Store(id, key)
	return key, nil
}

// ecKey makes a key pair on a curve.
func (m keyMaker) ecKey(curve elliptic.Curve, name string) (*ecdsa.PrivateKey, error) {
	if m.seed == "" {
		return ecdsa.GenerateKey(curve, rand.Reader)
	}
	scalar := m.bytes(name, (curve.Params().BitSize+7)/8)
	scalar[0] &= 0x7f // below the order of the curve
	return ecdsa.ParseRawPrivateKey(curve, scalar)
}

// bytes makes n bytes.
func (m keyMaker) bytes(name string, n int) []byte {
	if m.seed == "" {
		return randomBytes(n)
	}
	stream := &seedStream{seed: fmt.Appendf(nil, "%q %q", m.seed, name)}
	return stream.next(n)
}

// seedStream is an endless text that depends on a seed alone.
type seedStream struct {
	seed    []byte
	counter uint64
	left    []byte
}

// next returns the next n bytes.
func (s *seedStream) next(n int) []byte {
	for len(s.left) < n {
		block := sha256.Sum256(binary.BigEndian.AppendUint64(append([]byte{}, s.seed...), s.counter))
		s.counter++
		s.left = append(s.left, block[:]...)
	}
	b := s.left[:n:n]
	s.left = s.left[n:]
	return b
}

// prime returns a prime of 1024 bits, the upper two of them set, for keys with
// the exponent 65537.
func (s *seedStream) prime() *big.Int {
	b := s.next(128)
	b[0] |= 0xc0
	b[len(b)-1] |= 1
	candidate := new(big.Int).SetBytes(b)
	exponent, two := big.NewInt(65537), big.NewInt(2)
	for {
		less := new(big.Int).Sub(candidate, big.NewInt(1))
		if new(big.Int).Mod(less, exponent).Sign() != 0 && candidate.ProbablyPrime(20) {
			return candidate
		}
		candidate.Add(candidate, two)
	}
}
