// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/minigate/minigate/module/identity"
)

// FieldError says which field breaks which rule. It never shows the value.
type FieldError struct {
	// Field is the name of the field.
	Field string
	// Rule completes a sentence that begins with the field's name. It is one of
	// a few constant texts, and fit for clients.
	Rule string
}

// Error implements error.
func (e *FieldError) Error() string { return e.Field + " " + e.Rule }

// Rules that have nothing to do with the value.
const (
	ruleUnknown = "is not the name of a field"
	ruleTwice   = "must be given once"
	ruleType    = "must be a string or null"
)

// errNotObject says that a statement is not what it should be as a whole.
var errNotObject = errors.New("it must be one JSON object")

// Statement is a change to what a user states of himself: fields by their
// names, as in the JSON of identity.UserInfo. A nil value removes a field.
type Statement map[string]*string

// ParseStatement reads a statement from data: one JSON object in which each
// value is a string or null. An empty string is taken for null. The error is a
// *FieldError for the first field that breaks a rule; any other one says that
// data is no JSON object. Names are compared letter by letter.
func ParseStatement(data []byte) (Statement, error) {
	if !json.Valid(data) {
		return nil, errNotObject
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errNotObject
	}
	statement := make(Statement)
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, errNotObject
		}
		name, _ := token.(string)
		if new(identity.UserInfo).Field(name) == nil {
			return nil, &FieldError{presentable(name), ruleUnknown}
		}
		if _, twice := statement[name]; twice {
			return nil, &FieldError{name, ruleTwice}
		}
		if token, err = decoder.Token(); err != nil {
			return nil, errNotObject
		}
		switch value := token.(type) {
		case nil:
			statement[name] = nil
		case string:
			if statement[name], err = stated(name, value); err != nil {
				return nil, err
			}
		default:
			return nil, &FieldError{name, ruleType}
		}
	}
	return statement, nil
}

// stated returns the value of a field in a statement.
func stated(name, value string) (*string, error) {
	if value == "" {
		return nil, nil
	}
	if rule := broken(name, value); rule != "" {
		return nil, &FieldError{name, rule}
	}
	return &value, nil
}

// Apply makes the changes of a statement to info.
func (s Statement) Apply(info *identity.UserInfo) {
	for name, value := range s {
		field := info.Field(name)
		switch {
		case field == nil: // made by hand
		case value == nil:
			*field = ""
		default:
			*field = *value
		}
	}
}

// Sane returns info without the fields that break the rules that hold for users,
// too. It is for what a platform tells: whatever comes from elsewhere must not
// carry anything into headers, logs and pages that its reader does not expect.
func Sane(info identity.UserInfo) identity.UserInfo {
	for _, name := range identity.UserInfoFields {
		if value := info.Field(name); *value != "" && broken(name, *value) != "" {
			*value = ""
		}
	}
	return info
}

// presentable returns the name of a field that does not exist, as far as it can
// be shown to anybody.
func presentable(name string) string {
	for i := range len(name) {
		c := name[i]
		word := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
		if !word || i == 32 {
			return "a name in it"
		}
	}
	if name == "" {
		return "an empty name"
	}
	return name
}
