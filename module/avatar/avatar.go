// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package avatar makes the pictures harmless that users upload, and keeps them.
//
// A picture is decoded, scaled down and encoded anew: what comes out is pixels
// in a format that the gateway chose. Where it was taken, what was hidden in it,
// and what else it was at the same time — a page, a script, an archive — stays
// outside.
package avatar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"time"

	"golang.org/x/image/webp"
)

// Errors of Normalize.
var (
	// ErrType says that the data is not a JPEG, PNG or WebP picture, whatever it
	// is called.
	ErrType = errors.New("not a JPEG, PNG or WebP picture")
	// ErrTooLarge says that the picture has too many bytes or pixels, or takes
	// too much work.
	ErrTooLarge = errors.New("picture is too large")
	// ErrBroken says that the picture cannot be decoded.
	ErrBroken = errors.New("picture is broken")
)

// The types of pictures that Normalize makes.
const (
	typeJPEG = "image/jpeg"
	typePNG  = "image/png"
)

// MaxBytes is how many bytes of data Normalize accepts.
const MaxBytes = 8 << 20

const (
	// maxPixels and maxSide are what a picture may have: the square that is cut out
	// of a phone's photograph. In memory a pixel takes up to 16 bytes while a
	// progressive JPEG is decoded.
	maxPixels = 10_000_000
	maxSide   = 8192

	// maxScans is how many passes over its pixels a JPEG may ask for. Cameras
	// make one, the web's progressive ones a dozen; a few bytes can ask for
	// another one, so a small file can keep a processor busy for minutes.
	maxScans = 200

	// decodeTime is how long decoding may take, at what is left by others.
	decodeTime = 10 * time.Second

	// maxDecodings is how many pictures are decoded at once in the process, which
	// bounds the memory that users can make it take.
	maxDecodings = 1
)

// Picture is an encoded picture, as Normalize makes them.
type Picture struct {
	// Type is image/jpeg or image/png.
	Type string
	// Data is the file. It must not be changed.
	Data []byte
}

// format is a kind of picture that is accepted.
type format struct {
	magic  string // how it begins; a dot stands for any byte
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}

var formats = []format{
	{"\xff\xd8\xff", jpeg.DecodeConfig, jpeg.Decode},
	{"\x89PNG\r\n\x1a\n", png.DecodeConfig, png.Decode},
	{"RIFF....WEBP", webp.DecodeConfig, webp.Decode},
}

// decodings has room for those who decode.
var decodings = make(chan struct{}, maxDecodings)

// Normalize makes a harmless picture of what a user uploaded: upright, 512 by
// 512 pixels at most, and without anything but pixels. It is a PNG if something
// in it is transparent and the file stays small, otherwise a JPEG.
//
// The error is ErrType, ErrTooLarge, ErrBroken, or that of ctx, which ends the
// wait for others as well as the work. Safe for concurrent use: all but one
// caller wait.
func Normalize(ctx context.Context, data []byte) (Picture, error) {
	f := detect(data)
	switch {
	case f == nil:
		return Picture{}, ErrType
	case len(data) > MaxBytes:
		return Picture{}, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxBytes)
	}
	return f.normalize(ctx, data)
}

// detect returns the format of data, by how it begins, or nil.
func detect(data []byte) *format {
	for i := range formats {
		if formats[i].begins(data) {
			return &formats[i]
		}
	}
	return nil
}

// begins reports whether data has the format's magic bytes.
func (f *format) begins(data []byte) bool {
	if len(data) < len(f.magic) {
		return false
	}
	for i := range len(f.magic) {
		if f.magic[i] != '.' && f.magic[i] != data[i] {
			return false
		}
	}
	return true
}

// normalize does the work of Normalize for a picture in this format.
func (f *format) normalize(ctx context.Context, data []byte) (p Picture, err error) {
	// The sizes are looked at before a place is taken, so that a bomb costs
	// nobody's time.
	if err := contain(func() error { return f.check(data) }); err != nil {
		return Picture{}, err
	}
	select {
	case decodings <- struct{}{}:
		defer func() { <-decodings }()
	case <-ctx.Done():
		return Picture{}, ctx.Err()
	}
	limited, cancel := context.WithTimeout(ctx, decodeTime)
	defer cancel()
	err = contain(func() error {
		p, err = f.convert(limited, data)
		return err
	})
	switch {
	case err == nil:
		return p, nil
	case ctx.Err() != nil:
		return Picture{}, ctx.Err()
	case limited.Err() != nil:
		return Picture{}, fmt.Errorf("%w: it takes more than %s to decode", ErrTooLarge, decodeTime)
	default:
		return Picture{}, err
	}
}

// check refuses a picture by what its header says.
func (f *format) check(data []byte) error {
	config, err := f.config(bytes.NewReader(data))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrBroken, err)
	case config.Width <= 0 || config.Height <= 0:
		return fmt.Errorf("%w: it has no pixels", ErrBroken)
	case config.Width > maxSide || config.Height > maxSide || config.Width*config.Height > maxPixels:
		return fmt.Errorf("%w: %d by %d pixels", ErrTooLarge, config.Width, config.Height)
	case bytes.Count(data, []byte{0xff, 0xda}) > maxScans:
		return fmt.Errorf("%w: too many scans", ErrTooLarge)
	default:
		return nil
	}
}

// convert decodes a picture and encodes it anew.
func (f *format) convert(ctx context.Context, data []byte) (Picture, error) {
	decoded, err := f.decode(&impatient{ctx, data})
	if err != nil {
		return Picture{}, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return encode(turn(fit(decoded), orientation(data)))
}

// contain calls do, and makes an error of its panic: decoders are written for
// pictures, and get what an attacker made of one.
func contain(do func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("%w: the decoder gave up", ErrBroken)
		}
	}()
	return do()
}

// impatient is a reader that ends with a context. It hands out little at a
// time, because what a decoder does between two reads cannot be stopped.
type impatient struct {
	ctx  context.Context
	data []byte
}

// Read implements io.Reader.
func (r *impatient) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.data[:min(len(r.data), 512)])
	r.data = r.data[n:]
	return n, nil
}
