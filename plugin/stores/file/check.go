// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// The format of a bbolt file, version 2. Numbers are in the byte order of the
// machine.
const (
	// A page begins with its number (8 bytes), flags (2), the count of its
	// elements (2), and by how many pages it is longer than one (4).
	pageHead     = 16
	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10

	// Of a branch: where the key is (4), its length (4), and the page below.
	// Of a leaf: flags (4), where the key is (4), its length (4), and that of
	// the value that follows the key (4).
	elementSize   = 16
	bucketElement = 0x01

	// A bucket is a value with the number of its first page (8), or zero when
	// the page is what follows, and a sequence (8).
	bucketHead = 16

	// In a page of metadata: where these numbers stand.
	metaRoot, metaFreelist, metaEnd, metaID = pageHead + 16, pageHead + 32, pageHead + 40, pageHead + 48

	// deepest is far above the depth of a tree that fits on any disk.
	deepest = 40
)

var native = binary.NativeEndian

// checker goes through a bbolt file page by page. It believes nothing it finds
// there, unlike bbolt and its own check, which on a damaged file may take all
// memory or never end. Each page can be met once.
type checker struct {
	ctx      context.Context
	file     io.ReaderAt
	pageSize int
	met      []bool // by page number; its length is the number of pages
}

// element is what a leaf holds. It is valid during the call that gets it.
type element struct {
	bucket     bool
	key, value []byte
}

// checkFile makes sure that a file that transaction id wrote last is whole and
// one of ours: every record is where it is looked for, and no page is in use
// twice. empty says that there is nothing in the file at all.
func checkFile(ctx context.Context, file io.ReaderAt, size int64, pageSize, id int) (empty bool, err error) {
	meta := make([]byte, pageSize)
	if _, err := file.ReadAt(meta, int64(id%2*pageSize)); err != nil {
		return false, withoutPath(err)
	}
	if native.Uint64(meta[metaID:]) != uint64(id) {
		return false, damaged("its metadata is not that of transaction %d", id)
	}
	end := native.Uint64(meta[metaEnd:])
	if end > uint64(size)/uint64(pageSize) {
		return false, errTruncated
	}
	c := &checker{ctx: ctx, file: file, pageSize: pageSize, met: make([]bool, end)}

	buckets := make(map[string][]byte)
	err = c.tree(native.Uint64(meta[metaRoot:]), nil, nil, 0, func(e element) error {
		if !e.bucket || len(e.value) < bucketHead {
			return damaged("it has a record outside of all buckets")
		}
		buckets[string(e.key)] = bytes.Clone(e.value)
		return nil
	})
	if err != nil {
		return false, err
	}
	if err := c.freelist(native.Uint64(meta[metaFreelist:])); err != nil {
		return false, err
	}
	if len(buckets) == 0 {
		return true, nil
	}
	if err := c.format(buckets[string(formatBucket)]); err != nil {
		return false, err
	}
	if buckets[string(recordsBucket)] == nil {
		return false, damaged("it has no records")
	}
	if len(buckets) > 2 {
		return false, damaged("it has %d buckets, not 2", len(buckets))
	}
	return false, c.bucket(buckets[string(recordsBucket)], func(e element) error {
		if e.bucket {
			return damaged("it has a bucket where a record should be")
		}
		return checkFound(e.key, e.value)
	})
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errDamaged}, args...)...)
}

// format reads the version, and refuses one that is not ours.
func (c *checker) format(bucket []byte) error {
	if bucket == nil {
		return damaged("it has no format version")
	}
	var text []byte
	err := c.bucket(bucket, func(e element) error {
		if bytes.Equal(e.key, formatKey) {
			text = bytes.Clone(e.value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	version, err := strconv.Atoi(string(text))
	switch {
	case err != nil || version < 1:
		return damaged("its format version cannot be read")
	case version > format:
		return fmt.Errorf("it has format version %d, made by a newer gateway; this one reads version %d", version, format)
	}
	return nil
}

// bucket calls visit with each element of a bucket.
func (c *checker) bucket(bucket []byte, visit func(element) error) error {
	root, inline := native.Uint64(bucket), bucket[bucketHead:]
	if root != 0 {
		return c.tree(root, nil, nil, 0, visit)
	}
	if len(inline) < pageHead || native.Uint16(inline[8:]) != leafPage {
		return damaged("a small bucket has no page")
	}
	return c.leaf(inline, nil, nil, visit)
}

// tree calls visit with each element of page id and the pages below. Their
// keys must not be below lowest, and must be below limit, unless that is nil.
func (c *checker) tree(id uint64, lowest, limit []byte, depth int, visit func(element) error) error {
	page, err := c.page(id)
	if err != nil {
		return err
	}
	switch native.Uint16(page[8:]) {
	case leafPage:
		return c.leaf(page, lowest, limit, visit)
	case branchPage:
	default:
		return damaged("page %d is of the wrong kind", id)
	}
	n := int(native.Uint16(page[10:]))
	if n == 0 || depth == deepest || len(page) < pageHead+n*elementSize {
		return damaged("page %d has %d branches at depth %d", id, n, depth)
	}
	key := func(i int) []byte {
		e := page[pageHead+i*elementSize:]
		return cut(e, native.Uint32(e), native.Uint32(e[4:]))
	}
	for i := range n {
		from, to := key(i), limit
		if i+1 < n {
			if to = key(i + 1); to == nil {
				return damaged("page %d has a key that is not in it", id)
			}
		}
		if from == nil || bytes.Compare(from, lowest) < 0 || to != nil && bytes.Compare(from, to) >= 0 {
			return damaged("page %d is out of order", id)
		}
		child := native.Uint64(page[pageHead+i*elementSize+8:])
		if err := c.tree(child, from, to, depth+1, visit); err != nil {
			return err
		}
	}
	return nil
}

// leaf calls visit with each element of a page of them.
func (c *checker) leaf(page, lowest, limit []byte, visit func(element) error) error {
	id, n := native.Uint64(page), int(native.Uint16(page[10:]))
	if len(page) < pageHead+n*elementSize {
		return damaged("page %d has no room for %d elements", id, n)
	}
	for i := range n {
		e := page[pageHead+i*elementSize:]
		keyLength := native.Uint32(e[8:])
		both := cut(e, native.Uint32(e[4:]), keyLength, native.Uint32(e[12:]))
		if both == nil {
			return damaged("page %d has an element that is not in it", id)
		}
		key := both[:keyLength]
		if order := bytes.Compare(key, lowest); order < 0 || order == 0 && i > 0 || limit != nil && bytes.Compare(key, limit) >= 0 {
			return damaged("page %d is out of order", id)
		}
		if err := visit(element{native.Uint32(e)&bucketElement != 0, key, both[keyLength:]}); err != nil {
			return err
		}
		lowest = key
	}
	return nil
}

// freelist meets the pages that are not in use.
func (c *checker) freelist(id uint64) error {
	page, err := c.page(id)
	if err != nil {
		return err
	}
	if native.Uint16(page[8:]) != freelistPage {
		return damaged("page %d is no list of free pages", id)
	}
	n, list := uint64(native.Uint16(page[10:])), page[pageHead:]
	if n == 0xffff { // the number did not fit
		n, list = native.Uint64(list), list[8:]
	}
	if n > uint64(len(list)/8) {
		return damaged("page %d has no room for %d free pages", id, n)
	}
	for i := range n {
		if err := c.meet(native.Uint64(list[i*8:]), 0); err != nil {
			return err
		}
	}
	return nil
}

// page reads page id, with all that belongs to it.
func (c *checker) page(id uint64) ([]byte, error) {
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	if id >= uint64(len(c.met)) {
		return nil, damaged("page %d is not in it", id)
	}
	page := make([]byte, c.pageSize)
	if _, err := c.file.ReadAt(page, int64(id)*int64(c.pageSize)); err != nil {
		return nil, withoutPath(err)
	}
	if found := native.Uint64(page); found != id {
		return nil, damaged("page %d says that it is page %d", id, found)
	}
	more := uint64(native.Uint32(page[12:]))
	if err := c.meet(id, more); err != nil {
		return nil, err
	}
	if more == 0 {
		return page, nil
	}
	page = make([]byte, c.pageSize*int(1+more))
	if _, err := c.file.ReadAt(page, int64(id)*int64(c.pageSize)); err != nil {
		return nil, withoutPath(err)
	}
	return page, nil
}

// meet notes that page id and as many more after it are in use, or free. Pages
// 0 and 1 are metadata.
func (c *checker) meet(id, more uint64) error {
	end := uint64(len(c.met))
	if id < 2 || id >= end || more >= end-id {
		return damaged("page %d is not in it, or the %d after it", id, more)
	}
	for i := id; i <= id+more; i++ {
		if c.met[i] {
			return damaged("page %d is in use twice", i)
		}
		c.met[i] = true
	}
	return nil
}

// cut returns what begins at in b and has the sum of lengths, or nil if that
// is not in b.
func cut(b []byte, at uint32, lengths ...uint32) []byte {
	end := uint64(at)
	for _, length := range lengths {
		end += uint64(length)
	}
	if end > uint64(len(b)) {
		return nil
	}
	return b[at:end:end]
}

// readThrough reads all of file in order, which is the quick way to get it into
// memory.
func readThrough(ctx context.Context, file io.ReaderAt) error {
	buffer := make([]byte, 1<<20)
	for offset := int64(0); ctx.Err() == nil; offset += int64(len(buffer)) {
		if _, err := file.ReadAt(buffer, offset); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return withoutPath(err)
		}
	}
	return ctx.Err()
}
