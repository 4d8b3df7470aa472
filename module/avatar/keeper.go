// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package avatar

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNotFound says that no picture is kept under a name.
var ErrNotFound = errors.New("picture not found")

// Keeper keeps pictures under names that NewName made. All methods may be
// called concurrently. A name that IsName refuses is never looked for: it is
// that of no picture.
//
// Any error other than ErrNotFound means that the keeper could not do its work,
// not that a picture is absent.
type Keeper interface {
	// Put keeps a picture, in the place of one that has the name already. When
	// it returns nil, the picture survives what the place survives.
	Put(ctx context.Context, name string, p Picture) error

	// Get returns the picture called name, or ErrNotFound.
	Get(ctx context.Context, name string) (Picture, error)

	// Delete removes the picture called name. That there is none is not an
	// error. It is done though ctx ends meanwhile: the user wants it gone.
	Delete(ctx context.Context, name string) error

	// Refresh says that the picture called name is in use, so that its retention
	// begins anew. That there is none is not an error. It is cheap where it was
	// called lately.
	Refresh(ctx context.Context, name string) error

	// Sweep removes the pictures whose retention is over, and brings the others
	// up to date. What cannot be read is left alone; an error tells of it when
	// all else is done. Pictures may be put and deleted meanwhile.
	Sweep(ctx context.Context) error
}

// The ends of names.
const (
	endJPEG = ".jpg"
	endPNG  = ".png"
)

// randomSize is how many random bytes are in a name: nobody finds a picture who
// was not told of it.
const randomSize = 16

// NewName returns a new name for a picture: 22 random characters of URL-safe
// base64 and an ending that tells its type. It says nothing of the user.
func NewName(p Picture) string {
	if p.Type == typePNG {
		return random() + endPNG
	}
	return random() + endJPEG
}

// IsName reports whether s could have been made by NewName. Such a name is safe
// in an address, as the name of a file and in the key of a store.
func IsName(s string) bool {
	_, ok := typeOf(s)
	return ok
}

// typeOf returns the type of the picture called name. ok is false for what is no
// name.
func typeOf(name string) (kind string, ok bool) {
	if text, cut := strings.CutSuffix(name, endPNG); cut {
		return typePNG, isRandom(text)
	}
	text, cut := strings.CutSuffix(name, endJPEG)
	return typeJPEG, cut && isRandom(text)
}

// checkPut refuses what the keepers must not be given.
func checkPut(name string, p Picture) error {
	kind, ok := typeOf(name)
	switch {
	case !ok:
		return errors.New("it is not the name of a picture")
	case kind != p.Type:
		return fmt.Errorf("the name is not one for a picture of type %q", p.Type)
	case len(p.Data) == 0:
		return errors.New("the picture is empty")
	default:
		return nil
	}
}

// random returns 128 random bits in 22 characters.
func random() string {
	var bits [randomSize]byte
	rand.Read(bits[:]) // never fails, see crypto/rand
	return base64.RawURLEncoding.EncodeToString(bits[:])
}

// isRandom reports whether random could have made s.
func isRandom(s string) bool {
	bits, err := base64.RawURLEncoding.DecodeString(s)
	return err == nil && len(bits) == randomSize && base64.RawURLEncoding.EncodeToString(bits) == s
}

// end returns when a picture ends that was last in use at the time since, as
// unix times; 0 for never.
func end(since int64, keep time.Duration) int64 {
	if keep <= 0 {
		return 0
	}
	return since + int64((keep+time.Second-1)/time.Second)
}
