// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"regexp"
	"strconv"
	"testing"
	"time"
)

func TestCodeBookStates(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	book := newCodeBook[string](time.Minute, 10)
	book.issue(start, "a", "alice")
	book.issue(start, "b", "bob")
	book.spend("b")
	book.spend("never issued")
	for _, test := range []struct {
		code  string
		after time.Duration
		want  codeState
	}{
		{"a", 0, codeFresh},
		{"a", time.Minute - 1, codeFresh},
		{"a", time.Minute, codeUnknown},
		{"b", 0, codeUsed},
		{"b", time.Minute, codeUnknown},
		{"never issued", 0, codeUnknown},
	} {
		if _, state := book.find(start.Add(test.after), test.code); state != test.want {
			t.Errorf("code %q is in state %d after %v, want %d", test.code, state, test.after, test.want)
		}
	}
}

// Memory must not grow with the number of codes ever issued: old ones go when
// they expire, and the oldest goes when there are too many.
func TestCodeBookIsBounded(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	book := newCodeBook[int](time.Minute, 100)
	for i := range 100_000 {
		book.issue(now, strconv.Itoa(i), i)
	}
	if len(book.entries) != 100 || len(book.issued) > 400 {
		t.Errorf("%d codes are kept in a queue of %d, want 100", len(book.entries), len(book.issued))
	}
	if value, state := book.find(now, "99900"); state != codeFresh || value != 99900 {
		t.Error("a code among the latest 100 is gone")
	}
	book.issue(now.Add(time.Minute), "last", 0)
	if len(book.entries) != 1 {
		t.Errorf("%d codes are kept after all but one expired", len(book.entries))
	}
}

// Gateways check the form of a code before they send it.
func TestCodeForms(t *testing.T) {
	s, _ := newTest(t)
	if code := login(t, s, testApp, "alice"); !regexp.MustCompile(`^0[0-9A-Za-z]{31}$`).MatchString(code) {
		t.Errorf("login code is %q", code)
	}
	code, err := s.SharePhone(Phone{Program: testApp, User: "alice", Number: "13580006666"})
	if err != nil || !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(code) {
		t.Errorf("phone code is %q, error %v", code, err)
	}
}
