// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package avatar

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"

	"golang.org/x/image/draw"
)

const (
	// side is the most that a picture has each way when it is kept: a portrait
	// fills a small part of a phone's screen.
	side = 512
	// maxPNG is how many bytes a PNG may have; a larger one loses its
	// transparency and becomes a JPEG.
	maxPNG = 256 << 10
	// quality is that of JPEGs.
	quality = 85
)

// fit returns a copy of m that has at most 512 pixels each way. It never
// enlarges.
func fit(m image.Image) *image.RGBA {
	from := m.Bounds()
	w, h := from.Dx(), from.Dy()
	if longest := max(w, h); longest > side {
		w, h = max(1, (w*side+longest/2)/longest), max(1, (h*side+longest/2)/longest)
	}
	to := image.NewRGBA(image.Rect(0, 0, w, h))
	if w == from.Dx() && h == from.Dy() {
		draw.Draw(to, to.Bounds(), m, from.Min, draw.Src)
	} else {
		draw.CatmullRom.Scale(to, to.Bounds(), m, from, draw.Src, nil)
	}
	return to
}

// turn returns m upright, given the orientation that its camera wrote down: 1
// to 8, see orientation.
func turn(m *image.RGBA, orientation int) *image.RGBA {
	if orientation <= 1 || orientation > 8 {
		return m
	}
	w, h := m.Rect.Dx(), m.Rect.Dy()
	to := image.NewRGBA(image.Rect(0, 0, w, h))
	if orientation >= 5 {
		to = image.NewRGBA(image.Rect(0, 0, h, w))
	}
	for y := range h {
		for x := range w {
			right, bottom := w-1-x, h-1-y // distances from the other edges
			var tx, ty int
			switch orientation {
			case 2: // mirrored
				tx, ty = right, y
			case 3: // upside down
				tx, ty = right, bottom
			case 4: // upside down, mirrored
				tx, ty = x, bottom
			case 5: // lying on its left side, mirrored
				tx, ty = y, x
			case 6: // lying on its left side
				tx, ty = bottom, x
			case 7: // lying on its right side, mirrored
				tx, ty = bottom, right
			case 8: // lying on its right side
				tx, ty = y, right
			}
			to.SetRGBA(tx, ty, m.RGBAAt(x, y))
		}
	}
	return to
}

// encode returns m as a PNG if something in it is transparent and it stays
// small, otherwise as a JPEG, on white. The encoders write pixels and nothing
// else.
func encode(m *image.RGBA) (Picture, error) {
	var file bytes.Buffer
	if !m.Opaque() {
		encoder := png.Encoder{CompressionLevel: png.BestCompression}
		if err := encoder.Encode(&file, m); err != nil {
			return Picture{}, fmt.Errorf("encoding a picture: %w", err)
		}
		if file.Len() <= maxPNG {
			return Picture{typePNG, file.Bytes()}, nil
		}
		file.Reset()
		flat := image.NewRGBA(m.Rect)
		draw.Draw(flat, flat.Rect, image.NewUniform(color.White), image.Point{}, draw.Src)
		draw.Draw(flat, flat.Rect, m, m.Rect.Min, draw.Over)
		m = flat
	}
	if err := jpeg.Encode(&file, m, &jpeg.Options{Quality: quality}); err != nil {
		return Picture{}, fmt.Errorf("encoding a picture: %w", err)
	}
	return Picture{typeJPEG, file.Bytes()}, nil
}
