// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// deepest is how many objects and lists may lie in one another in an answer.
const deepest = 32

// byteOrderMark stands before the JSON of some platforms' answers.
var byteOrderMark = []byte("\xef\xbb\xbf")

// Fields is a JSON object of a platform's answer. Names are matched by exact
// case. A field that is absent and one that is null are the same. Reading a nil
// Fields is safe and finds nothing.
//
// All errors are an *Error of reason PlatformFault and quote nothing of the
// answer.
type Fields map[string]json.RawMessage

// Fields decodes the body, which must be one JSON object, whatever the content
// type says. A body that is not is a PlatformFault, or Unavailable if the status
// is 5xx, as it is with the error page of a load balancer.
func (a *Answer) Fields() (Fields, error) {
	f, err := DecodeFields(a.Body)
	if err == nil {
		return f, nil
	}
	e := fault(fmt.Errorf("answer with status %d: %w", a.Status, errors.Unwrap(err)))
	if a.Status >= 500 {
		e.Reason = Unavailable
	}
	return nil, e
}

// DecodeFields decodes one JSON object. A byte order mark before it is skipped.
// A name that stands twice is an error, because the answer then says two things
// and two readers may believe different ones. The fields share memory with data.
//
// It takes apart the outermost object only, at a fraction of what encoding/json
// needs for the same: that is paid for whatever anybody sends.
func DecodeFields(data []byte) (Fields, error) {
	data = bytes.TrimLeft(bytes.TrimPrefix(data, byteOrderMark), whiteSpace)
	names, shallow := survey(data)
	switch {
	case !shallow:
		return nil, fault(fmt.Errorf("decoding JSON: nested deeper than %d", deepest))
	case len(data) == 0 || data[0] != '{':
		return nil, fault(errors.New("decoding JSON: not an object"))
	case !json.Valid(data):
		return nil, fault(errors.New("decoding JSON: broken"))
	}
	fields := make(Fields, names)
	for rest := data[1:]; ; {
		rest = bytes.TrimLeft(rest, whiteSpace+",")
		if rest[0] == '}' {
			break
		}
		quoted := rest[:endOfValue(rest)]
		rest = bytes.TrimLeft(rest[len(quoted):], whiteSpace+":")
		value := rest[:endOfValue(rest)]
		rest = rest[len(value):]
		name, err := unquote(quoted)
		if err != nil {
			return nil, fault(errors.New("decoding JSON: broken"))
		}
		fields[name] = value
	}
	if len(fields) != names {
		return nil, fault(errors.New("decoding JSON: a name stands twice"))
	}
	return fields, nil
}

// whiteSpace is what may stand between the parts of JSON.
const whiteSpace = " \t\r\n"

// survey counts the names of the outermost object and reports whether data nests
// no deeper than allowed. It reads JSON; of other data it says something, and
// the decoder then refuses it.
func survey(data []byte) (names int, shallow bool) {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > deepest {
				return names, false
			}
		case c == '}' || c == ']':
			depth--
		case c == ':' && depth == 1:
			names++
		}
	}
	return names, true
}

// endOfValue returns where the value ends that valid JSON begins with.
func endOfValue(data []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			if quoted = !quoted; !quoted && depth == 0 {
				return i + 1
			}
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 {
				return i // a number or a word, at the end of its object
			}
		case depth == 0 && strings.IndexByte(whiteSpace+",", c) >= 0:
			return i
		}
	}
	return len(data)
}

// unquote returns the text of a JSON string. Most have nothing to be decoded.
func unquote(quoted []byte) (string, error) {
	if len(quoted) >= 2 && quoted[0] == '"' && quoted[len(quoted)-1] == '"' {
		plain := quoted[1 : len(quoted)-1]
		isSpecial := func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r == utf8.RuneError }
		if !bytes.ContainsFunc(plain, isSpecial) {
			return string(plain), nil
		}
	}
	var text string
	err := json.Unmarshal(quoted, &text)
	return text, err
}

// Has reports whether a field is there and is not null.
func (f Fields) Has(name string) bool {
	value, ok := f[name]
	return ok && string(value) != "null"
}

// Text returns a field that is a string, empty if it is absent. One that is not
// valid Unicode is an error, because replacing what is not could make two users'
// names one.
func (f Fields) Text(name string) (string, error) {
	if !f.Has(name) {
		return "", nil
	}
	text, err := unquote(f[name])
	if err != nil {
		return "", fault(fmt.Errorf("decoding field %q: not a string", name))
	}
	if strings.ContainsRune(text, utf8.RuneError) {
		return "", fault(fmt.Errorf("decoding field %q: not valid Unicode", name))
	}
	return text, nil
}

// Int returns a field that is a whole number, zero if it is absent. Some
// platforms write a number as a string ("40029").
func (f Fields) Int(name string) (int64, error) {
	if !f.Has(name) {
		return 0, nil
	}
	digits := string(f[name])
	if strings.HasPrefix(digits, `"`) {
		text, err := f.Text(name)
		if err != nil {
			return 0, err
		}
		digits = strings.TrimSpace(text)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, fault(fmt.Errorf("decoding field %q: not a whole number", name))
	}
	return n, nil
}

// Object returns a field that is an object, nil if it is absent.
func (f Fields) Object(name string) (Fields, error) {
	if !f.Has(name) {
		return nil, nil
	}
	object, err := DecodeFields(f[name])
	if err != nil {
		return nil, fault(fmt.Errorf("decoding field %q: %w", name, errors.Unwrap(err)))
	}
	return object, nil
}

// Message returns a field that explains something to a human, made fit for an
// error as Clean does. It is empty if the field is not a string.
func (f Fields) Message(name string, secrets ...string) string {
	var text string
	if err := json.Unmarshal(f[name], &text); err != nil {
		return ""
	}
	return Clean(text, secrets...)
}
