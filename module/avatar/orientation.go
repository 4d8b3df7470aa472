// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package avatar

import (
	"bytes"
	"encoding/binary"
)

// Parts of a JPEG file and of the EXIF block in it, which is a TIFF file.
const (
	markerSOI  = 0xd8
	markerEOI  = 0xd9
	markerSOS  = 0xda
	markerAPP1 = 0xe1

	tagOrientation = 0x0112
	typeShort      = 3
	entrySize      = 12
)

// upright is the orientation of a picture that is as it should be, and of one
// that does not tell.
const upright = 1

// orientation returns how a camera says that it was held when it took the JPEG
// in data: 1 to 8, as the EXIF tag of this name has it. Whatever it cannot read
// is upright: the pixels are still good.
func orientation(data []byte) int {
	if len(data) < 2 || data[0] != 0xff || data[1] != markerSOI {
		return upright
	}
	for data = data[2:]; len(data) >= 4 && data[0] == 0xff; {
		marker := data[1]
		if marker == 0xff { // fill byte
			data = data[1:]
			continue
		}
		if marker == markerSOS || marker == markerEOI {
			break // what follows are pixels
		}
		length := 2 + int(binary.BigEndian.Uint16(data[2:]))
		if length < 4 || length > len(data) {
			break
		}
		segment := data[4:length]
		if tiff, ok := bytes.CutPrefix(segment, []byte("Exif\x00\x00")); ok && marker == markerAPP1 {
			return tiffOrientation(tiff)
		}
		data = data[length:]
	}
	return upright
}

// tiffOrientation returns the orientation in the first directory of a TIFF
// file. It follows no other offset, so that nothing can lead it in circles.
func tiffOrientation(tiff []byte) int {
	if len(tiff) < 8 {
		return upright
	}
	var order binary.ByteOrder
	switch string(tiff[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return upright
	}
	offset := uint64(order.Uint32(tiff[4:]))
	if offset+2 > uint64(len(tiff)) {
		return upright
	}
	directory := tiff[offset:]
	count := int(order.Uint16(directory))
	for entries := directory[2:]; count > 0 && len(entries) >= entrySize; count-- {
		entry := entries[:entrySize]
		entries = entries[entrySize:]
		if order.Uint16(entry) != tagOrientation {
			continue
		}
		value := int(order.Uint16(entry[8:]))
		if order.Uint16(entry[2:]) != typeShort || order.Uint32(entry[4:]) != 1 || value < 1 || value > 8 {
			return upright
		}
		return value
	}
	return upright
}
