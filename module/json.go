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
	"slices"
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

// isJSON reports whether a header says that the body is JSON, in the one charset
// that JSON has: in another one, others would read something else in it.
func isJSON(header http.Header) bool {
	lines := header["Content-Type"]
	if len(lines) != 1 {
		return false
	}
	mediaType, params, err := mime.ParseMediaType(lines[0])
	charset := strings.ToLower(params["charset"])
	return err == nil && mediaType == "application/json" && (charset == "" || charset == "utf-8" || charset == "utf8")
}

// isPlainObject reports whether data is exactly one JSON object in which no
// name stands twice and which does not nest too deeply. Of a name that stands
// twice two readers may take two values.
func isPlainObject(data []byte) bool {
	trimmed := bytes.TrimLeft(data, " \t\r\n")
	return len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(trimmed) && hasUniqueNames(trimmed)
}

// hasUniqueNames looks through valid JSON, in which strings are all that has to
// be read: a string that a colon follows is a name.
func hasUniqueNames(text []byte) bool {
	open := make([]names, 0, maxDepth) // the objects and lists around a place
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			if len(open) == maxDepth {
				return false
			}
			open = append(open, names{})
		case '}', ']':
			open = open[:len(open)-1]
		case '"':
			end := i + 1
			for text[end] != '"' {
				if text[end] == '\\' {
					end++
				}
				end++
			}
			quoted := text[i : end+1]
			i = end
			if rest := bytes.TrimLeft(text[end+1:], " \t\r\n"); len(rest) > 0 && rest[0] == ':' && !open[len(open)-1].add(quoted) {
				return false
			}
		}
	}
	return true
}

// names are the names of one object, folded as encoding/json compares them.
type names struct {
	few  [8]string
	n    int
	more map[string]struct{} // of objects that have more than a few
}

// add adds a name in quotes, and reports whether it was not there.
func (s *names) add(quoted []byte) bool {
	name := string(quoted[1 : len(quoted)-1])
	if strings.Contains(name, `\`) && json.Unmarshal(quoted, &name) != nil {
		return false
	}
	name = strings.ToLower(strings.ToUpper(name))
	if slices.Contains(s.few[:s.n], name) {
		return false
	}
	if s.n < len(s.few) {
		s.few[s.n] = name
		s.n++
		return true
	}
	if s.more == nil {
		s.more = make(map[string]struct{})
	}
	_, twice := s.more[name]
	s.more[name] = struct{}{}
	return !twice
}
