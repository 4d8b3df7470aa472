// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package avatar

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"io"
	"slices"
	"strings"
	"testing"
)

func normalize(tb testing.TB, data []byte) Picture {
	tb.Helper()
	p, err := Normalize(tb.Context(), data)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestNormalize(t *testing.T) {
	gray := image.NewGray16(image.Rect(3, 5, 43, 25))
	cmyk := image.NewCMYK(image.Rect(0, 0, 40, 40))
	half := color.NRGBA{0, 0, 255, 128}
	window := noise(512, 512, 128)
	draw.Draw(window, image.Rect(0, 0, 256, 256), image.Transparent, image.Point{}, draw.Src)
	for what, c := range map[string]struct {
		data []byte
		kind string
		w, h int
		at   color.Color // in the top left quarter; nil: not looked at
	}{
		"PNG":                      {asPNG(t, quarters(40, 30)), typeJPEG, 40, 30, red},
		"JPEG":                     {asJPEG(t, quarters(40, 30)), typeJPEG, 40, 30, red},
		"one pixel":                {asPNG(t, quarters(1, 1)), typeJPEG, 1, 1, nil},
		"as large as it may be":    {asPNG(t, quarters(512, 512)), typeJPEG, 512, 512, red},
		"wide":                     {asPNG(t, quarters(1024, 100)), typeJPEG, 512, 50, red},
		"high":                     {asJPEG(t, quarters(300, 600)), typeJPEG, 256, 512, red},
		"a line":                   {asPNG(t, quarters(8192, 1)), typeJPEG, 512, 1, nil},
		"gray of 16 bits, shifted": {asPNG(t, gray), typeJPEG, 40, 20, color.Black},
		"CMYK as RGB":              {asJPEG(t, cmyk), typeJPEG, 40, 40, color.White},
		"transparent":              {asPNG(t, image.NewNRGBA(image.Rect(0, 0, 600, 60))), typePNG, 512, 51, color.Transparent},
		"transparent, too many bytes": {
			asPNG(t, window), typeJPEG, 512, 512, color.White, // flattened
		},
		"lossless WebP":             {riff("VP8L", vp8l(40, 30, green)), typeJPEG, 40, 30, green},
		"lossless WebP, large":      {riff("VP8L", vp8l(1000, 250, half)), typePNG, 512, 128, half},
		"extended WebP":             {riff("VP8X", vp8x(0, 40, 30), "VP8L", vp8l(40, 30, green)), typeJPEG, 40, 30, green},
		"lossy WebP":                {lossyWebP(t), typeJPEG, 1, 1, nil},
		"PNG that moves":            {withChunk(asPNG(t, quarters(40, 30)), "acTL", "\x00\x00\x00\x02\x00\x00\x00\x00"), typeJPEG, 40, 30, red},
		"JPEG with many fill bytes": {withSegments(asJPEG(t, quarters(40, 30)), bytes.Repeat([]byte{0xff}, 1000)), typeJPEG, 40, 30, red},
	} {
		t.Run(what, func(t *testing.T) {
			p := normalize(t, c.data)
			m := decode(t, p)
			if b := m.Bounds(); p.Type != c.kind || b.Dx() != c.w || b.Dy() != c.h {
				t.Fatalf("%s of %v", p.Type, b)
			}
			if c.at != nil && !near(m, 25, 25, c.at) {
				t.Errorf("the colour is %v", m.At(c.w/4, c.h/4))
			}
			// What is harmless stays what it is, and as large.
			again := decode(t, normalize(t, p.Data))
			if again.Bounds() != m.Bounds() {
				t.Errorf("normalized again: %v", again.Bounds())
			}
		})
	}
}

func TestRefused(t *testing.T) {
	good := asPNG(t, quarters(64, 64))
	photo := asJPEG(t, noise(64, 64, 255))
	header := func(w, h uint32) []byte {
		ihdr := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, w), h)
		return append([]byte("\x89PNG\r\n\x1a\n"), chunk("IHDR", string(ihdr)+"\x08\x06\x00\x00\x00")...)
	}
	scan := segment(0xda, "\x01\x01\x00\x00\x3f\x00")
	frame := func(w, h uint16) []byte {
		b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16([]byte{8}, h), w)
		return append(withSegments([]byte{0xff, 0xd8}, segment(0xc0, string(b)+"\x01\x01\x11\x00")), scan...)
	}
	for what, c := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":              {nil, ErrType},
		"one byte":             {[]byte{0xff}, ErrType},
		"2 MiB of noise":       {noise(1024, 512, 7).Pix, ErrType},
		"SVG with a script":    {[]byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`), ErrType},
		"SVG with a prologue":  {[]byte(`<?xml version="1.0"?><svg onload="alert(1)"/>`), ErrType},
		"HTML":                 {[]byte("<!doctype html><script>alert(1)</script>"), ErrType},
		"GIF":                  {[]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), ErrType},
		"BMP":                  {[]byte("BM\x3a\x00\x00\x00\x00\x00\x00\x00"), ErrType},
		"TIFF":                 {[]byte("II*\x00\x08\x00\x00\x00"), ErrType},
		"PDF":                  {[]byte("%PDF-1.7"), ErrType},
		"zip before a picture": {append([]byte("PK\x03\x04"), good...), ErrType},
		"space before it":      {append([]byte(" "), good...), ErrType},
		"RIFF that is a sound": {[]byte("RIFF\x24\x00\x00\x00WAVEfmt "), ErrType},

		// Decompression bombs: a few bytes that would take gigabytes.
		"PNG of 50,000 by 50,000":        {header(50_000, 50_000), ErrTooLarge},
		"PNG of 2,147,483,647 by 1":      {header(1<<31-1, 1), ErrTooLarge},
		"PNG of 8193 by 1":               {asPNG(t, image.NewGray(image.Rect(0, 0, 8193, 1))), ErrTooLarge},
		"PNG of 8192 by 2049":            {header(8192, 2049), ErrTooLarge},
		"PNG of no pixels":               {header(0, 5), ErrBroken},
		"JPEG of 50 megapixels":          {frame(8000, 6250), ErrTooLarge},
		"JPEG of 65,535 by 65,535":       {frame(65_535, 65_535), ErrTooLarge},
		"WebP of 16,384 by 16,384":       {riff("VP8L", vp8l(16_384, 16_384, red)), ErrTooLarge},
		"WebP with a small outside":      {riff("VP8X", vp8x(0, 16, 16), "VP8L", vp8l(16_384, 16_384, red)), ErrBroken},
		"extended WebP of 16,777,216":    {riff("VP8X", vp8x(0, 1<<24, 1), "VP8L", vp8l(16, 16, red)), ErrTooLarge},
		"JPEG that asks for many scans":  {append(photo[:len(photo)-2:len(photo)-2], bytes.Repeat(scan, maxScans)...), ErrTooLarge},
		"JPEG of more than 8 MiB":        {append(slices.Clip(photo), make([]byte, MaxBytes)...), ErrTooLarge},
		"PNG whose pixels do not unpack": {withChunk(good, "IDAT", "not deflate"), ErrBroken},

		"JPEG of its first bytes": {photo[:3], ErrBroken},
		"JPEG cut in its pixels":  {photo[:len(photo)/2], ErrBroken},
		"JPEG of no picture":      {append(photo[:2:2], 0xff, 0xd9), ErrBroken},
		"PNG of its first bytes":  {good[:8], ErrBroken},
		"PNG cut in its pixels":   {good[:len(good)-30], ErrBroken},
		"PNG with a wrong sum":    {bytes.Replace(good, []byte("IDAT"), []byte("IDAT\x00"), 1), ErrBroken},
		"WebP of its first bytes": {riff()[:12], ErrBroken},
		"WebP cut":                {riff("VP8L", vp8l(40, 30, red)[:9]), ErrBroken},
		"WebP that moves": {
			riff("VP8X", vp8x(2, 16, 16), "ANIM", "\x00\x00\x00\x00\x00\x00", "ANMF", strings.Repeat("\x00", 16)+"VP8L"), ErrBroken,
		},
	} {
		t.Run(what, func(t *testing.T) {
			p, err := Normalize(t.Context(), c.data)
			if !errors.Is(err, c.want) || p.Data != nil {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

// Polyglots: a picture that is something else for another reader. Nothing but
// pixels gets through.
func TestNothingIsSmuggled(t *testing.T) {
	const payload = "PLANTED<script>alert(document.domain)</script>"
	gps := exif(binary.LittleEndian, 1)
	archive := "PK\x03\x04PLANTED"
	for what, data := range map[string][]byte{
		"JPEG with a page behind it":    append(asJPEG(t, quarters(32, 32)), payload...),
		"JPEG with an archive behind":   append(asJPEG(t, quarters(32, 32)), archive...),
		"JPEG with a comment":           withSegments(asJPEG(t, quarters(32, 32)), segment(0xfe, payload)),
		"JPEG that begins as a script":  withSegments(asJPEG(t, quarters(32, 32)), segment(0xe0, "JFIF\x00"+"/*PLANTED*/=alert()/*")),
		"JPEG with the place":           withSegments(asJPEG(t, quarters(32, 32)), segment(markerAPP1, gps)),
		"JPEG with XMP":                 withSegments(asJPEG(t, quarters(32, 32)), segment(markerAPP1, "http://ns.adobe.com/xap/1.0/\x00"+payload)),
		"JPEG with a profile of colour": withSegments(asJPEG(t, quarters(32, 32)), segment(0xe2, "ICC_PROFILE\x00\x01\x01"+payload)),
		"PNG with a page behind it":     append(asPNG(t, quarters(32, 32)), payload...),
		"PNG with text":                 withChunk(asPNG(t, quarters(32, 32)), "tEXt", "Comment\x00"+payload),
		"PNG with the place":            withChunk(asPNG(t, quarters(32, 32)), "eXIf", gps[6:]),
		"transparent PNG with text":     withChunk(asPNG(t, noise(16, 16, 99)), "iTXt", "a\x00\x00\x00\x00\x00"+payload),
		"WebP with the place":           riff("VP8X", vp8x(8, 16, 16), "EXIF", gps, "VP8L", vp8l(16, 16, red)),
		"WebP with a page behind it":    append(riff("VP8L", vp8l(16, 16, red)), payload...),
	} {
		t.Run(what, func(t *testing.T) {
			if !bytes.Contains(data, []byte("PLANTED")) {
				t.Fatal("nothing was planted")
			}
			p := normalize(t, data)
			decode(t, p)
			for _, word := range []string{"PLANTED", "<script", "PK\x03\x04", "Exif", "GPS", "ICC", "tEXt", "eXIf"} {
				if bytes.Contains(p.Data, []byte(word)) {
					t.Errorf("%q got through", word)
				}
			}
			want := map[string]string{typeJPEG: "\xff\xd9", typePNG: "IEND\xaeB`\x82"}[p.Type]
			if !bytes.HasSuffix(p.Data, []byte(want)) {
				t.Error("something stands behind the picture")
			}
		})
	}
}

// A decoder's panic is the end of one picture, not of the gateway.
func TestPanicIsContained(t *testing.T) {
	whole := asPNG(t, quarters(4, 4))
	for what, f := range map[string]format{
		"header": {config: func(io.Reader) (image.Config, error) { panic("index out of range") }},
		"pixels": {config: formats[1].config, decode: func(io.Reader) (image.Image, error) { panic("index out of range") }},
	} {
		if p, err := f.normalize(t.Context(), whole); !errors.Is(err, ErrBroken) || p.Data != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(decodings) != 0 {
		t.Error("a place was not given back")
	}
}

// Two pictures are decoded at once; whoever waits for a place may give up.
func TestWait(t *testing.T) {
	data := asPNG(t, quarters(4, 4))
	for range maxDecodings {
		decodings <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Normalize(ctx, data); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := Normalize(ctx, []byte("GIF89a")); !errors.Is(err, ErrType) {
		t.Errorf("a refusal waits, too: %v", err)
	}
	done := make(chan error)
	go func() {
		_, err := Normalize(t.Context(), data)
		done <- err
	}()
	for range maxDecodings {
		<-decodings
	}
	if err := <-done; err != nil {
		t.Errorf("error %v", err)
	}
}

// Decoding ends with the request, too.
func TestDecodingEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := format{config: formats[1].config, decode: func(r io.Reader) (image.Image, error) {
		if n, err := r.Read(make([]byte, 1<<20)); n > 512 || err != nil {
			t.Errorf("%d bytes at a time, %v", n, err)
		}
		cancel()
		_, err := io.ReadAll(r)
		return nil, fmt.Errorf("cannot go on: %w", err)
	}}
	if _, err := f.normalize(ctx, asPNG(t, noise(64, 64, 255))); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func FuzzNormalize(f *testing.F) {
	photo := asJPEG(f, quarters(16, 16))
	for _, seed := range [][]byte{
		nil, photo, photo[:len(photo)/2], withSegments(photo, segment(markerAPP1, exif(binary.BigEndian, 6))),
		asPNG(f, quarters(9, 7)), asPNG(f, noise(8, 8, 100)), asPNG(f, image.NewPaletted(image.Rect(0, 0, 4, 4), color.Palette{red, blue})),
		riff("VP8L", vp8l(8, 8, red)), lossyWebP(f), riff("VP8X", vp8x(16, 8, 8), "ALPH", "\x00"+strings.Repeat("a", 64), "VP8 ", ""),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if known := detect(data); known != nil {
			// A fuzzer that finds the largest picture over and over finds nothing else.
			if c, err := known.config(bytes.NewReader(data)); err == nil && c.Width*c.Height > 1<<16 {
				return
			}
		}
		p, err := Normalize(t.Context(), data)
		switch {
		case err == nil:
			decode(t, p)
		case !errors.Is(err, ErrType) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrBroken):
			t.Errorf("error %v", err)
		}
	})
}
