// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// readStrict decodes the body of the call, one JSON object, into dst. It refuses
// members that dst does not have, and those that are null or an empty text: an
// empty variable of a script must not make one session all of a user's. An absent
// body leaves dst as it is if optional.
func (c *adminCall) readStrict(dst any, optional bool) error {
	data, failure := readObject(c.Request, optional)
	if failure != nil {
		return failure
	}
	if data == nil {
		return nil
	}
	return decodeStrict(data, dst)
}

func decodeStrict(data []byte, dst any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(dst); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
			return callError("member " + memberName(wrong.Field) + " has the wrong type")
		}
		// The package has no other way to tell.
		if _, name, ok := strings.Cut(err.Error(), "unknown field "); ok {
			return callError("there is no member " + memberName(strings.Trim(name, `"`)))
		}
		return callError("the body is not understood")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return callError("the body is not understood")
	}
	for name, value := range members {
		if text := string(bytes.TrimSpace(value)); text == "null" || text == `""` {
			return callError("member " + memberName(name) + " is empty")
		}
	}
	return nil
}

// memberName returns the name of a member as it may be repeated. What is not in
// its place may be the id of somebody.
func memberName(name string) string {
	if name == "" || len(name) > 24 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "of that name"
	}
	return `"` + name + `"`
}

// parseTime reads a time in a body: one of RFC 3339, or how long ago it was, such
// as 36h or 7d.
func parseTime(member, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	age, err := caddy.ParseDuration(text)
	if err != nil || age < 0 {
		return time.Time{}, callError(memberName(member) + " must be a time such as 2026-01-31T08:00:00Z, or an age such as 36h or 7d")
	}
	return now.Add(-age), nil
}
