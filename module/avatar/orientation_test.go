// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package avatar

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image/color"
	"slices"
	"strings"
	"testing"
)

// A portrait does not lie on its side, however the phone was held.
func TestOrientation(t *testing.T) {
	// What is seen at top left, top right, bottom left and bottom right, and
	// whether the sides change places. The words of the standard: where row 0 and
	// column 0 of the file are in the scene.
	for orientation, want := range map[uint16]struct {
		corners [4]color.NRGBA
		turned  bool
	}{
		0: {[4]color.NRGBA{red, green, blue, yellow}, false}, // no such orientation
		1: {[4]color.NRGBA{red, green, blue, yellow}, false}, // row 0 top, column 0 left
		2: {[4]color.NRGBA{green, red, yellow, blue}, false}, // top, right
		3: {[4]color.NRGBA{yellow, blue, green, red}, false}, // bottom, right
		4: {[4]color.NRGBA{blue, yellow, red, green}, false}, // bottom, left
		5: {[4]color.NRGBA{red, blue, green, yellow}, true},  // left, top
		6: {[4]color.NRGBA{blue, red, yellow, green}, true},  // right, top
		7: {[4]color.NRGBA{yellow, green, blue, red}, true},  // right, bottom
		8: {[4]color.NRGBA{green, yellow, red, blue}, true},  // left, bottom
		9: {[4]color.NRGBA{red, green, blue, yellow}, false}, // no such orientation
	} {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			t.Run(fmt.Sprint(orientation, order), func(t *testing.T) {
				widths := []int{60}
				if orientation == 6 {
					widths = append(widths, 520) // is scaled down, too
				}
				for _, w := range widths {
					data := withSegments(asJPEG(t, quarters(w, w/2)), segment(0xe0, "JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"),
						segment(markerAPP1, exif(order, orientation)))
					m := decode(t, normalize(t, data))
					if turned := m.Bounds().Dy() > m.Bounds().Dx(); turned != want.turned {
						t.Fatalf("it has %v", m.Bounds())
					}
					for i, c := range want.corners {
						if x, y := 25+50*(i%2), 25+50*(i/2); !near(m, x, y, c) {
							t.Errorf("corner %d has %v, want %v", i, m.At(m.Bounds().Dx()*x/100, m.Bounds().Dy()*y/100), c)
						}
					}
				}
			})
		}
	}
}

// Hostile EXIF is no EXIF: the picture is upright.
func TestHostileOrientation(t *testing.T) {
	photo := asJPEG(t, quarters(16, 16))
	good := exif(binary.BigEndian, 6)
	if orientation(withSegments(photo, segment(markerAPP1, good))) != 6 {
		t.Fatal("the good one is not read")
	}
	patched := func(at int, with string) []byte {
		return withSegments(photo, segment(markerAPP1, good[:at]+with+good[at+len(with):]))
	}
	const tiff, entry = 6, 6 + 8 + 2 + 12 // where the parts of it begin
	for what, data := range map[string][]byte{
		"nothing":                             nil,
		"not a JPEG":                          asPNG(t, quarters(4, 4)),
		"none":                                photo,
		"another header":                      patched(0, "Exif\x00\x01"),
		"another order of bytes":              patched(tiff, "IM"),
		"not TIFF":                            patched(tiff+2, "\x00\x2b"),
		"directory beyond the end":            patched(tiff+4, "\x00\x00\xff\xff"),
		"directory at the end":                patched(tiff+4, string(binary.BigEndian.AppendUint32(nil, uint32(len(good)-tiff)))),
		"directory that overflows":            patched(tiff+4, "\xff\xff\xff\xff"),
		"directory that overflows by two":     patched(tiff+4, "\xff\xff\xff\xfe"),
		"directory in the header":             patched(tiff+4, "\x00\x00\x00\x00"),
		"no entries":                          patched(tiff+8, "\x00\x00"),
		"65,535 entries, the tag not there":   patched(tiff+8, "\xff\xff\x00\x00"+strings.Repeat("\x00", 36)),
		"wrong type":                          patched(entry+2, "\x00\x04"),
		"many values":                         patched(entry+4, "\xff\xff\xff\xff"),
		"no value":                            patched(entry+4, "\x00\x00\x00\x00"),
		"value 0":                             patched(entry+8, "\x00\x00"),
		"value 9":                             patched(entry+8, "\x00\x09"),
		"value 262":                           patched(entry+8, "\x01\x06"),
		"cut in the entry":                    withSegments(photo, segment(markerAPP1, good[:entry+9])),
		"cut before the directory":            withSegments(photo, segment(markerAPP1, good[:tiff+7])),
		"segment that ends in its length":     withSegments(photo, []byte{0xff, markerAPP1, 0, 1}),
		"segment that ends behind the file":   append(photo[:2:2], segment(markerAPP1, good)[:40]...),
		"behind the pixels":                   append(slices.Clip(photo), segment(markerAPP1, good)...),
		"in a segment that is not for it":     withSegments(photo, segment(0xe2, good)),
		"behind one that ends the picture":    withSegments(photo, []byte{0xff, markerEOI}, segment(markerAPP1, good)),
		"nothing but fill bytes to the end":   append(photo[:2:2], bytes.Repeat([]byte{0xff}, 100)...),
		"in the second EXIF block, not first": withSegments(photo, segment(markerAPP1, "Exif\x00\x00"), segment(markerAPP1, good)),
	} {
		t.Run(what, func(t *testing.T) {
			if got := orientation(data); got != upright {
				t.Errorf("orientation %d", got)
			}
		})
	}
	// XMP comes in segments of the same kind.
	if orientation(withSegments(photo, segment(markerAPP1, "http://ns.adobe.com/xap/1.0/\x00"), segment(markerAPP1, good))) != 6 {
		t.Error("EXIF behind XMP is not read")
	}
	if orientation(withSegments(photo, []byte{0xff, 0xff}, segment(markerAPP1, good))) != 6 {
		t.Error("EXIF behind fill bytes is not read")
	}
}

func FuzzOrientation(f *testing.F) {
	photo := asJPEG(f, quarters(8, 8))
	f.Add(photo)
	f.Add(withSegments(photo, segment(markerAPP1, exif(binary.LittleEndian, 8))))
	f.Add([]byte(exif(binary.BigEndian, 3))[6:])
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, got := range []int{
			orientation(data), tiffOrientation(data),
			orientation(withSegments(photo, segment(markerAPP1, "Exif\x00\x00"+string(data[:min(len(data), 60_000)])))),
		} {
			if got < 1 || got > 8 {
				t.Errorf("orientation %d", got)
			}
		}
	})
}
