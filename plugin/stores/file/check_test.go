// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
)

// FuzzCheckFile checks that whatever is in a file, checking it ends, neither
// panics nor takes much memory, and finds an error that is one of ours.
func FuzzCheckFile(f *testing.F) {
	f.Add(0, []byte{}, 1, []byte{})
	f.Add(8192, []byte{0xff}, 8192+12, []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(12288, []byte{3}, 12288+10, []byte{0xff, 0xff})

	var whole []byte
	f.Fuzz(func(t *testing.T, at1 int, bytes1 []byte, at2 int, bytes2 []byte) {
		if whole == nil {
			whole = filled(t, newPath(t))
		}
		content := bytes.Clone(whole)
		for _, change := range []struct {
			at    int
			bytes []byte
		}{{at1, bytes1}, {at2, bytes2}} {
			if change.at >= 0 && change.at < len(content) {
				copy(content[change.at:], change.bytes)
			}
		}
		pageSize := os.Getpagesize()
		for page := range 2 { // whichever is the last
			id := int(native.Uint64(content[page*pageSize+metaID:]) &^ 1)
			_, err := checkFile(context.Background(), bytes.NewReader(content), int64(len(content)), pageSize, id+page)
			if err != nil && !errors.Is(err, errDamaged) && !bytes.Contains([]byte(err.Error()), []byte("EOF")) &&
				!bytes.Contains([]byte(err.Error()), []byte("newer gateway")) {
				t.Errorf("error %v, want that the file is damaged", err)
			}
		}
	})
}

// TestCheckFileAcceptsWhole checks files of all sizes as they grow, shrink and
// are filled again.
func TestCheckFileAcceptsWhole(t *testing.T) {
	path := newPath(t)
	for round := range 30 {
		s := openTest(t, path, options{}) // checks it
		for i := range 1 << (round % 10) {
			key := fillingKey(i * 7 % 600)
			var err error
			if (i+round)%3 == 0 {
				err = s.Delete(context.Background(), key)
			} else {
				err = s.Put(context.Background(), key, filling(i*round), 0)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
