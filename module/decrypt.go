// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/minigate/minigate/module/provider"
)

// Decrypt names requests whose bodies carry a platform's open data, which the
// upstream gets as the verified plain JSON.
type Decrypt struct {
	// The requests.
	MatchRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// Whether requests are refused that carry no open data. Without it they reach
	// the upstream as they are, and it is for the upstream to look at the header
	// X-Data-Verified.
	Required bool `json:"required,omitempty"`

	matchers caddyhttp.MatcherSets
}

const (
	// dataVerified is the header that tells the upstream that the body is
	// verified, and of which program.
	dataVerified = "X-Data-Verified"

	// maxDataBody is the largest body that can carry open data, in bytes. What a
	// platform makes is far smaller.
	maxDataBody = 256 << 10
)

// errDataTooLarge says that a body cannot be open data, which is far smaller.
var errDataTooLarge = newError(http.StatusRequestEntityTooLarge, errTooLarge.Word, "the request body is larger than 256 KiB, which a platform's data never is")

// bodyDigests are headers that say something of the body as it was.
var bodyDigests = []string{"Content-Md5", "Digest", "Content-Digest", "Repr-Digest"}

// provision loads the matchers.
func (d *Decrypt) provision(ctx caddy.Context) error {
	loaded, err := ctx.LoadModule(d, "MatchRaw")
	if err != nil {
		return fmt.Errorf("loading matchers of decrypt: %w", err)
	}
	if err := d.matchers.FromInterface(loaded); err != nil {
		return fmt.Errorf("loading matchers of decrypt: %w", err)
	}
	if len(d.matchers) == 0 {
		return errors.New("decrypt needs a request matcher")
	}
	for _, set := range d.matchers {
		if len(set) == 0 { // it would match every request
			return errors.New("decrypt has a set without a matcher")
		}
	}
	return nil
}

// wantsData reports whether the body of r may carry open data that is to be
// opened, and whether it must.
func (h *Handler) wantsData(r *http.Request) (wanted, required bool, err error) {
	strict := false
	for i := range h.Decrypt {
		d := &h.Decrypt[i]
		strict = strict || d.Required
		matches, err := d.matchers.AnyMatchWithError(r)
		if err != nil {
			return false, false, err
		}
		wanted, required = wanted || matches, required || (matches && d.Required)
	}
	if strict && !required {
		// To the upstream it may be one that requires data.
		if hasBody(r) && (ambiguousPath(r.URL) || h.similarRequires(r)) {
			return false, false, errAmbiguousPath
		}
		removeOverrides(r.Header)
	}
	return wanted, required, nil
}

// similarRequires reports whether data would be required if the path were
// written in another way that many frameworks take for the same: without a
// slash, dot or space at its end, without an extension, or with a slash.
func (h *Handler) similarRequires(r *http.Request) bool {
	trimmed := strings.TrimRight(r.URL.Path, "/. \t")
	bare := strings.TrimSuffix(trimmed, path.Ext(trimmed))
	for _, other := range []string{trimmed, trimmed + "/", bare, bare + "/"} {
		if other == r.URL.Path || other == "" {
			continue
		}
		similar := new(http.Request)
		*similar = *r
		u := *r.URL
		u.Path, u.RawPath = other, ""
		similar.URL = &u
		for i := range h.Decrypt {
			if matches, err := h.Decrypt[i].matchers.AnyMatchWithError(similar); h.Decrypt[i].Required && (matches || err != nil) {
				return true
			}
		}
	}
	return false
}

func hasBody(r *http.Request) bool { return r.ContentLength != 0 }

// openBody puts the verified plain JSON in the place of a body that carries open
// data. v is nil for nobody.
func (h *Handler) openBody(r *http.Request, v *visitor) error {
	wanted, required, err := h.wantsData(r)
	if err != nil || !wanted {
		return err
	}
	d, failure := bodyData(r)
	switch {
	case failure != nil && required:
		return failure
	case failure != nil:
		return nil // no business of ours
	case v == nil && (required || h.meansAny(d)):
		return errSessionMissing
	case v == nil:
		return nil
	}
	platform := h.allowed[v.claims.Program].abilities()
	if !d.isMeantFor(platform) {
		if required {
			return errDataInvalid
		}
		return nil
	}
	if _, keyed := platform.(provider.OpenData); keyed && !d.isEncrypted() {
		return errInvalidRequest // plain data with a signature says nothing of its time
	}
	rt, err := h.app.runtime()
	if err != nil {
		return h.storeFailure(r, err)
	}
	o, failure := h.opener(&userRequest{runtime: rt, session: v.session, visitor: v}).open(r.Context(), d)
	if failure != nil {
		return failure
	}
	setBody(r, o.plain)
	r.Header[dataVerified] = []string{v.claims.Program}
	return nil
}

// meansAny reports whether d is meant for any of the site's programs.
func (h *Handler) meansAny(d *openData) bool {
	for _, p := range h.allowed {
		if d.isMeantFor(p.abilities()) {
			return true
		}
	}
	return false
}

// bodyData reads the open data in the body of r, and puts the body back. The
// failure says why the body cannot carry any.
//
// A body of unknown length is left alone, because it may be a stream that waits
// for an answer, and so is one that is encoded.
func bodyData(r *http.Request) (*openData, *Error) {
	switch {
	case !isJSON(r.Header) || r.Header.Get("Content-Encoding") != "":
		return nil, errMediaType
	case r.ContentLength > maxDataBody:
		return nil, errDataTooLarge
	case r.ContentLength <= 0:
		return nil, errInvalidRequest
	}
	body := make([]byte, r.ContentLength)
	n, err := io.ReadFull(r.Body, body)
	if err != nil {
		r.Body = &rest{io.MultiReader(bytes.NewReader(body[:n]), failing{err}), r.Body}
		if errors.As(err, new(*http.MaxBytesError)) {
			return nil, errDataTooLarge
		}
		return nil, errInvalidRequest
	}
	r.Body = &rest{bytes.NewReader(body), r.Body}
	d, failure := readOpenData(body)
	if failure == nil && !hasUniqueNames(body) {
		return nil, errInvalidRequest
	}
	return d, failure
}

// setBody replaces the body of r.
func setBody(r *http.Request, body []byte) {
	r.Body = &rest{bytes.NewReader(body), r.Body}
	r.ContentLength = int64(len(body))
	r.Header["Content-Length"] = []string{strconv.Itoa(len(body))}
	r.Header["Content-Type"] = []string{"application/json"}
	for _, name := range bodyDigests {
		delete(r.Header, name)
	}
}

// rest is a body that was read, to be read again.
type rest struct {
	io.Reader
	io.Closer
}

// failing is a reader that fails.
type failing struct{ err error }

// Read implements io.Reader.
func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Interface guards
var (
	_ io.ReadCloser = (*rest)(nil)
	_ io.Reader     = failing{}
)
