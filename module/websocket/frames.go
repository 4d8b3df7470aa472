// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package websocket knows as much of the WebSocket protocol (RFC 6455) as it
// takes to end a connection between two others in good order: where a frame
// ends, and what a close frame looks like.
package websocket

import "encoding/binary"

const (
	opcodeClose = 8
	finalBit    = 1 << 7
	maskBit     = 1 << 7
	// maxHeader is the length of the longest header: two bytes, an extended
	// length, a masking key.
	maxHeader = 2 + 8 + 4
	// maxReason is the length of the longest reason: the payload of a control
	// frame has at most 125 bytes.
	maxReason = 125 - 2
)

// Frames follows the frames of one direction of a connection. It looks at their
// headers only, whatever they carry and however they are cut into pieces. The
// zero value stands before the first frame. It is not safe for concurrent use;
// a copy goes on by itself.
type Frames struct {
	payload uint64 // what is to come of the payload
	header  [maxHeader]byte
	known   uint8 // how much of the header is there; zero once it is complete
	closed  bool
}

// Whole reports whether no frame is half way through.
func (f *Frames) Whole() bool { return f.known == 0 && f.payload == 0 }

// Closed reports whether a close frame was begun. Nothing may follow it.
func (f *Frames) Closed() bool { return f.closed }

// Follow notes that p went by.
func (f *Frames) Follow(p []byte) {
	for len(p) > 0 {
		p = p[f.next(p):]
	}
}

// Rest returns how many bytes at the beginning of p belong to the frame that is
// half way through, none if there is no such frame. It changes nothing.
func (f *Frames) Rest(p []byte) int {
	if f.Whole() {
		return 0
	}
	ahead := *f
	return ahead.next(p)
}

// next follows p up to the end of a frame, or its own end, and returns how far
// that is.
func (f *Frames) next(p []byte) (n int) {
	for n < len(p) {
		if f.payload > 0 {
			part := min(f.payload, uint64(len(p)-n))
			n += int(part)
			if f.payload -= part; f.payload == 0 {
				return n
			}
			continue
		}
		f.header[f.known] = p[n]
		f.known++
		n++
		if f.known < 2 || f.known < f.headerLength() {
			continue
		}
		f.begin()
		if f.payload == 0 {
			return n
		}
	}
	return n
}

// headerLength returns the length of the header whose first two bytes are known.
func (f *Frames) headerLength() uint8 {
	length := uint8(2)
	switch f.header[1] &^ maskBit {
	case 126:
		length += 2
	case 127:
		length += 8
	}
	if f.header[1]&maskBit != 0 {
		length += 4
	}
	return length
}

// begin begins the payload of the frame whose header is complete.
func (f *Frames) begin() {
	switch length := f.header[1] &^ maskBit; length {
	case 126:
		f.payload = uint64(binary.BigEndian.Uint16(f.header[2:]))
	case 127:
		// One that is too long for the protocol never ends; who receives it gives
		// up the connection.
		f.payload = binary.BigEndian.Uint64(f.header[2:])
	default:
		f.payload = uint64(length)
	}
	f.closed = f.closed || f.header[0]&0x0f == opcodeClose
	f.known = 0
}

// CloseFrame returns the frame by which a server closes a connection. Of reason,
// which is UTF-8, the first 123 bytes are sent.
func CloseFrame(code uint16, reason string) []byte {
	reason = reason[:min(len(reason), maxReason)]
	frame := make([]byte, 0, 4+len(reason))
	frame = append(frame, finalBit|opcodeClose, byte(2+len(reason)))
	frame = binary.BigEndian.AppendUint16(frame, code)
	return append(frame, reason...)
}
