// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package websocket_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/minigate/minigate/module/websocket"
)

// frame returns a frame. form is how its length is written: 7, 16 or 64 bits, no
// fewer than it takes.
func frame(opcode byte, mask bool, form, length int) []byte {
	second := byte(0)
	if mask {
		second = 0x80
	}
	f := []byte{0x80 | opcode}
	switch {
	case form == 64 || length > 0xffff:
		f = binary.BigEndian.AppendUint64(append(f, second|127), uint64(length))
	case form == 16 || length > 125:
		f = binary.BigEndian.AppendUint16(append(f, second|126), uint16(length))
	default:
		f = append(f, second|byte(length))
	}
	if mask {
		f = append(f, 0xff, 0x88, 0x88, 0xff)
	}
	// A payload that looks like close frames must not be taken for them.
	return append(f, bytes.Repeat([]byte{0x88}, length)...)
}

// A close frame that is written into the middle of another is garbage to the
// client: frames end where RFC 6455 says so, in each form that a header has.
func TestFrames(t *testing.T) {
	for name, test := range map[string]struct {
		bytes         []byte
		whole, closed bool
	}{
		"nothing":           {nil, true, false},
		"one byte":          {[]byte{0x81}, false, false},
		"header":            {[]byte{0x81, 5}, false, false},
		"RFC 6455, 5.7":     {[]byte{0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}, true, false},
		"masked":            {[]byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}, true, false},
		"masked, key only":  {[]byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d}, false, false},
		"masked, half key":  {[]byte{0x81, 0x80, 0x37, 0xfa}, false, false},
		"masked, empty":     {[]byte{0x81, 0x80, 0x37, 0xfa, 0x21, 0x3d}, true, false},
		"first of two":      {[]byte{0x01, 0x03, 'H', 'e', 'l'}, true, false},
		"16 bits":           {frame(2, false, 16, 256), true, false},
		"16 bits, one less": {frame(2, false, 16, 256)[:259], false, false},
		"16 bits, short":    {frame(2, false, 16, 0), true, false},
		"64 bits":           {frame(2, false, 64, 70_000), true, false},
		"64 bits, header":   {frame(2, false, 64, 70_000)[:9], false, false},
		"64 bits, short":    {frame(2, true, 64, 1), true, false},
		"endless":           {append([]byte{0x82, 127}, bytes.Repeat([]byte{0xff}, 1000)...), false, false},
		"close":             {[]byte{0x88, 2, 0x03, 0xe8}, true, true},
		"close, empty":      {[]byte{0x88, 0}, true, true},
		"close, begun":      {[]byte{0x88, 2}, false, true},
		"close, not begun":  {[]byte{0x88}, false, false},
		"after close":       {[]byte{0x88, 0, 0x81, 1, 'x'}, true, true},
		"ours":              {websocket.CloseFrame(4401, "session_revoked"), true, true},
	} {
		t.Run(name, func(t *testing.T) {
			for split := range len(test.bytes) + 1 {
				var f websocket.Frames
				f.Follow(test.bytes[:split])
				f.Follow(test.bytes[split:])
				if f.Whole() != test.whole || f.Closed() != test.closed {
					t.Errorf("in pieces of %d: whole is %v, closed is %v", split, f.Whole(), f.Closed())
				}
			}
		})
	}
}

// What an upstream sends arrives in pieces of any size: any split of any frames
// has the same boundaries, and the rest of a frame is never cut short or too long.
func TestFramesInPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		boundaries := map[int]bool{0: true}
		closes := -1 // where the first close frame's header is complete
		for range rapid.IntRange(0, 6).Draw(t, "frames") {
			opcode := rapid.SampledFrom([]byte{0, 1, 2, 8, 9, 10}).Draw(t, "opcode")
			length := rapid.OneOf(rapid.IntRange(0, 130), rapid.SampledFrom([]int{65_535, 65_536, 65_537})).Draw(t, "length")
			next := frame(opcode, rapid.Bool().Draw(t, "mask"), rapid.SampledFrom([]int{7, 16, 64}).Draw(t, "form"), length)
			if opcode == 8 && closes < 0 {
				closes = len(stream) + len(next) - length
			}
			stream = append(stream, next...)
			boundaries[len(stream)] = true
		}
		ends := func(at int) int { // where the frame ends that is under way at this place
			for at < len(stream) && !boundaries[at] {
				at++
			}
			return at
		}
		var f websocket.Frames
		for at := 0; at < len(stream); {
			piece := stream[at:min(len(stream), at+rapid.OneOf(rapid.IntRange(1, 20), rapid.IntRange(1, 70_000)).Draw(t, "piece"))]
			if got, want := f.Rest(piece), min(len(piece), ends(at)-at); got != want {
				t.Fatalf("at %d: the rest is %d, want %d", at, got, want)
			}
			f.Follow(piece)
			at += len(piece)
			if f.Whole() != boundaries[at] || f.Closed() != (closes >= 0 && at >= closes) {
				t.Fatalf("at %d: whole is %v, closed is %v", at, f.Whole(), f.Closed())
			}
		}
	})
}

// The close frame is one that any client reads: not masked, a control frame of at
// most 125 bytes.
func TestCloseFrame(t *testing.T) {
	if got := websocket.CloseFrame(4401, "session_revoked"); string(got) != "\x88\x11\x11\x31session_revoked" {
		t.Errorf("%q", got)
	}
	if got := websocket.CloseFrame(1013, strings.Repeat("x", 500)); len(got) != 127 || got[1] != 125 {
		t.Errorf("%d bytes, header %x", len(got), got[:2])
	}
}

// FuzzFrames looks for bytes that mean one thing in one piece and another in two:
// both sides of a connection choose them as they like.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x81\x05Hello\x88\x02\x03\xe8"), 3)
	f.Add([]byte("\x82\xfe\x00\x01keyk1\x82\xff\x00\x00\x00\x00\x00\x00\x00\x01keyk2"), 9)
	f.Add(append([]byte{0x82, 127}, bytes.Repeat([]byte{0xff}, 20)...), 4)
	f.Fuzz(func(t *testing.T, stream []byte, at int) {
		at = max(0, min(at, len(stream)))
		var once, twice websocket.Frames
		once.Follow(stream)
		twice.Follow(stream[:at])
		rest := twice.Rest(stream[at:])
		if twice.Whole() && rest != 0 {
			t.Fatalf("there is a rest of %d where no frame is under way", rest)
		}
		if !twice.Whole() && rest == 0 && at < len(stream) {
			t.Fatal("a frame is under way, and what follows is not its rest")
		}
		completed := twice
		completed.Follow(stream[at : at+rest])
		if rest < len(stream)-at && !completed.Whole() {
			t.Fatal("the rest does not complete the frame")
		}
		twice.Follow(stream[at:])
		if once != twice && (once.Whole() != twice.Whole() || once.Closed() != twice.Closed()) {
			t.Fatalf("%+v, in two pieces %+v", once, twice)
		}
	})
}
