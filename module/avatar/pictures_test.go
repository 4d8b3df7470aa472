// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package avatar

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"testing"
)

// The quarters of a test picture, by which it is seen how it was turned.
var (
	red    = color.NRGBA{220, 20, 20, 255}  // top left
	green  = color.NRGBA{20, 200, 20, 255}  // top right
	blue   = color.NRGBA{20, 20, 220, 255}  // bottom left
	yellow = color.NRGBA{230, 220, 20, 255} // bottom right
)

// quarters returns a picture with a colour in each corner.
func quarters(w, h int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := [2][2]color.NRGBA{{red, green}, {blue, yellow}}[min(2*y/h, 1)][min(2*x/w, 1)]
			m.SetNRGBA(x, y, c)
		}
	}
	return m
}

// noise returns a picture that cannot be compressed, of one transparency.
func noise(w, h int, alpha uint8) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	random := rand.New(rand.NewPCG(1, 2))
	for i := range m.Pix {
		m.Pix[i] = byte(random.Uint32())
		if i%4 == 3 {
			m.Pix[i] = alpha
		}
	}
	return m
}

func asPNG(tb testing.TB, m image.Image) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func asJPEG(tb testing.TB, m image.Image) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 95}); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// segment returns a segment of a JPEG.
func segment(marker byte, payload string) []byte {
	b := []byte{0xff, marker, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(len(payload)+2))
	return append(b, payload...)
}

// withSegments puts segments behind the beginning of a JPEG.
func withSegments(file []byte, segments ...[]byte) []byte {
	return bytes.Join([][]byte{file[:2], bytes.Join(segments, nil), file[2:]}, nil)
}

// exif returns the payload of an APP1 segment: a TIFF file whose directory has
// one orientation between other entries, and a planted place.
func exif(order binary.AppendByteOrder, orientation uint16) string {
	b := []byte("Exif\x00\x00II*\x00")
	if order == binary.AppendByteOrder(binary.BigEndian) {
		b = []byte("Exif\x00\x00MM\x00*")
	}
	b = order.AppendUint32(b, 8)
	b = order.AppendUint16(b, 3)
	for _, e := range []struct {
		tag, kind uint16
		count     uint32
		value     uint16
	}{{0x010f, 2, 4, 0x4142}, {tagOrientation, typeShort, 1, orientation}, {0x8825, 4, 1, 60}} {
		b = order.AppendUint16(b, e.tag)
		b = order.AppendUint16(b, e.kind)
		b = order.AppendUint32(b, e.count)
		b = order.AppendUint16(b, e.value)
		b = order.AppendUint16(b, 0)
	}
	b = order.AppendUint32(b, 0)
	return string(b) + "GPS-PLANTED 23.1291N 113.2644E"
}

// chunk returns a chunk of a PNG.
func chunk(kind, payload string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	b = append(append(b, kind...), payload...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

// withChunk puts a chunk behind the header of a PNG.
func withChunk(file []byte, kind, payload string) []byte {
	const header = 8 + 25
	return bytes.Join([][]byte{file[:header], chunk(kind, payload), file[header:]}, nil)
}

// riff returns a WebP file of chunks, each a name and a payload.
func riff(chunks ...string) []byte {
	body := []byte("WEBP")
	for i := 0; i < len(chunks); i += 2 {
		body = append(body, chunks[i]...)
		body = binary.LittleEndian.AppendUint32(body, uint32(len(chunks[i+1])))
		body = append(body, chunks[i+1]...)
		if len(chunks[i+1])%2 == 1 {
			body = append(body, 0)
		}
	}
	return append(binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(body))), body...)
}

// vp8l returns a lossless WebP picture of one colour: each of its five codes has
// one symbol, so that a pixel takes no bits, and any size is 20 bytes.
func vp8l(w, h int, c color.NRGBA) string {
	var out []byte
	var bits, n uint64
	write := func(value, count uint64) {
		bits |= value << n
		for n += count; n >= 8; n -= 8 {
			out = append(out, byte(bits))
			bits >>= 8
		}
	}
	write(0x2f, 8)
	write(uint64(w-1), 14)
	write(uint64(h-1), 14)
	write(1, 1) // has transparency
	write(0, 3) // version
	write(0, 3) // no transform, no colour cache, one group of codes
	for _, symbol := range []uint8{c.G, c.R, c.B, c.A} {
		write(1, 1) // a simple code
		write(0, 1) // of one symbol
		write(1, 1) // of 8 bits
		write(uint64(symbol), 8)
	}
	write(1, 4) // distances: a simple code of the symbol 0, in one bit
	write(0, 8)
	return string(out)
}

// vp8x returns the header of an extended WebP file.
func vp8x(flags byte, w, h int) string {
	b := []byte{flags, 0, 0, 0}
	b = binary.LittleEndian.AppendUint32(b, uint32(w-1))[:7]
	return string(binary.LittleEndian.AppendUint32(b, uint32(h-1))[:10])
}

// lossyWebP is a lossy WebP picture of one pixel.
func lossyWebP(tb testing.TB) []byte {
	tb.Helper()
	b, err := base64.StdEncoding.DecodeString("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA")
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// decode returns the pixels of a normalized picture and checks its promises.
func decode(tb testing.TB, p Picture) image.Image {
	tb.Helper()
	var m image.Image
	var err error
	switch p.Type {
	case typeJPEG:
		m, err = jpeg.Decode(bytes.NewReader(p.Data))
	case typePNG:
		m, err = png.Decode(bytes.NewReader(p.Data))
		if len(p.Data) > maxPNG {
			tb.Errorf("a PNG of %d bytes", len(p.Data))
		}
	default:
		tb.Fatalf("type %q", p.Type)
	}
	if err != nil {
		tb.Fatalf("a %s that cannot be decoded: %v", p.Type, err)
	}
	if b := m.Bounds(); b.Dx() > side || b.Dy() > side || b.Empty() {
		tb.Errorf("a picture of %v", b)
	}
	return m
}

// near reports whether the pixel of m at the given hundredths of its sides has
// about the colour c.
func near(m image.Image, x, y int, c color.Color) bool {
	b := m.Bounds()
	r1, g1, b1, a1 := m.At(b.Min.X+b.Dx()*x/100, b.Min.Y+b.Dy()*y/100).RGBA()
	r2, g2, b2, a2 := c.RGBA()
	for _, d := range []int{int(r1) - int(r2), int(g1) - int(g2), int(b1) - int(b2), int(a1) - int(a2)} {
		if d > 0x1800 || d < -0x1800 {
			return false
		}
	}
	return true
}
