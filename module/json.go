// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// maxBody is the largest request body that an endpoint reads, in bytes.
const maxBody = 64 << 10

// maxDepth is how deeply a request body may nest.
const maxDepth = 16

// writeJSON answers with a JSON object that nobody may cache or guess the type
// of.
func writeJSON(w http.ResponseWriter, status int, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// readJSON decodes the body of r, one JSON object, into dst. An absent body
// leaves dst as it is if optional.
func readJSON(r *http.Request, dst any, optional bool) *Error {
	data, failure := readObject(r, optional)
	if failure != nil || data == nil {
		return failure
	}
	if json.Unmarshal(data, dst) != nil {
		return errInvalidRequest
	}
	return nil
}

// readObject returns the body of r, one JSON object; nil for an absent one if
// optional.
func readObject(r *http.Request, optional bool) ([]byte, *Error) {
	data, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge), len(data) > maxBody:
		return nil, errTooLarge
	case err != nil:
		return nil, errInvalidRequest
	case len(data) == 0 && optional:
		return nil, nil
	case !isJSON(r.Header):
		return nil, errMediaType
	case !isPlainObject(data):
		return nil, errInvalidRequest
	}
	return data, nil
}

// isJSON reports whether a header says that the body is JSON.
func isJSON(header http.Header) bool {
	mediaType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	return err == nil && mediaType == "application/json"
}

// isPlainObject reports whether data is exactly one JSON object in which no
// name stands twice and which does not nest too deeply. Of a name that stands
// twice two readers may take two values.
func isPlainObject(data []byte) bool {
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return false
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if !uniqueNames(decoder, maxDepth) {
		return false
	}
	_, err := decoder.Token()
	return errors.Is(err, io.EOF)
}

// uniqueNames consumes one JSON value.
func uniqueNames(decoder *json.Decoder, depth int) bool {
	token, err := decoder.Token()
	if err != nil || depth == 0 {
		return false
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return true
	}
	names := make(map[string]struct{})
	for decoder.More() {
		if delim == '{' {
			name, err := decoder.Token()
			if err != nil {
				return false
			}
			key, ok := name.(string)
			if !ok {
				return false
			}
			key = strings.ToLower(key) // as encoding/json compares
			if _, twice := names[key]; twice {
				return false
			}
			names[key] = struct{}{}
		}
		if !uniqueNames(decoder, depth-1) {
			return false
		}
	}
	_, err = decoder.Token() // the closing delimiter
	return err == nil
}
