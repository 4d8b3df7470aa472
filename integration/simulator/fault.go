// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// FaultKind names what goes wrong with a platform call.
type FaultKind string

// The kinds of faults. In brackets: the fields of Fault that a kind has.
const (
	// FaultSlow carries the call out at once and holds the answer back, so that
	// a code is spent even if the caller gives up. [Delay: required]
	FaultSlow FaultKind = "slow"
	// FaultDrip carries the call out and sends the answer byte by byte. [Delay:
	// the time between two bytes, by default one second]
	FaultDrip FaultKind = "drip"
	// FaultHuge answers JSON without end. [Bytes: required; After]
	FaultHuge FaultKind = "huge"
	// FaultGarbage answers 200 with bytes that are no JSON and no UTF-8. [After]
	FaultGarbage FaultKind = "garbage"
	// FaultStatus answers a page of HTML. [Status: by default 500; After]
	FaultStatus FaultKind = "status"
	// FaultRedirect answers a redirect. [Status: by default 302; Location: by
	// default the call's own address, so that following it is seen as a second
	// call; After]
	FaultRedirect FaultKind = "redirect"
	// FaultReset resets the connection: before the body is read or, with After,
	// when the call has been carried out, so that only the answer is lost.
	// [After]
	FaultReset FaultKind = "reset"
	// FaultErrcode answers an error code of the platform. [Code: required;
	// Message: by default the usual one; After]
	FaultErrcode FaultKind = "errcode"
	// FaultStringNumbers carries the call out and writes each number of the
	// answer as a string.
	FaultStringNumbers FaultKind = "string_numbers"
	// FaultMissingFields carries the call out and leaves members out of the
	// answer. [Fields: by default all]
	FaultMissingFields FaultKind = "missing_fields"
	// FaultWrongTypes carries the call out and replaces members of the answer.
	// [Fields: by default all; Value: by default a list that holds the right
	// value]
	FaultWrongTypes FaultKind = "wrong_types"
)

const (
	maxHuge   = 1 << 30
	maxFaults = 1000
)

// Fault is something that goes wrong with platform calls on demand.
type Fault struct {
	Kind FaultKind `json:"kind"`
	// Program limits the fault to the calls for one app id.
	Program string `json:"program,omitempty"`
	// Path limits the fault to the calls of one interface: a path or, where
	// several APIs share one, the name of an API.
	Path string `json:"path,omitempty"`
	// Times is how many calls the fault applies to. Zero: until cleared.
	Times int `json:"times,omitempty"`
	// After says that the platform carries out the call before the fault takes
	// the place of its answer. Otherwise the call has no effect: a code in it
	// stays fresh.
	After bool `json:"after,omitempty"`
	// Delay is how long something takes, in real time, not by the simulator's
	// clock. At most an hour.
	Delay time.Duration `json:"-"`
	// Bytes is the size of an answer, at most 1 GiB.
	Bytes int64 `json:"bytes,omitempty"`
	// Status is an HTTP status.
	Status int `json:"status,omitempty"`
	// Location is where a redirect leads to.
	Location string `json:"location,omitempty"`
	// Code is the platform's own error code, such as "40029".
	Code string `json:"code,omitempty"`
	// Message is the text that goes with Code.
	Message string `json:"message,omitempty"`
	// Fields are names of members of an answer, at any depth.
	Fields []string `json:"fields,omitempty"`
	// Value is the JSON to put into the place of a member.
	Value json.RawMessage `json:"value,omitempty"`
	// First says that what is forged stands before what is genuine.
	First bool `json:"first,omitempty"`
}

// faultFields says which of the fields that not every fault has belong to a
// kind.
var faultFields = map[FaultKind][]string{
	FaultSlow:          {"delay"},
	FaultDrip:          {"delay"},
	FaultHuge:          {"bytes", "after"},
	FaultGarbage:       {"after"},
	FaultStatus:        {"status", "after"},
	FaultRedirect:      {"status", "location", "after"},
	FaultReset:         {"after"},
	FaultErrcode:       {"code", "message", "after"},
	FaultStringNumbers: {},
	FaultMissingFields: {"fields"},
	FaultWrongTypes:    {"fields", "value"},

	FaultUnsigned:       {"code", "message", "after"},
	FaultWrongSignature: {"code", "message", "after"},
	FaultOtherSignature: {"code", "message", "after"},
	FaultForgedNode:     {"code", "message", "after", "value", "first"},
	FaultDuplicateNode:  {"code", "message", "after", "value", "first"},
	FaultCaseNode:       {"code", "message", "after", "value", "first"},
	FaultExtraFields:    {"code", "message", "after", "value"},
	FaultSignFirst:      {"code", "message", "after"},
	FaultWhiteSpace:     {"code", "message", "after"},
	FaultEscapedSlashes: {"code", "message", "after"},
	FaultGBK:            {"code", "message", "after"},
}

// given returns the fields that not every fault has and this one uses.
func (f Fault) given() []string {
	var names []string
	for _, field := range []struct {
		name string
		used bool
	}{
		{"after", f.After},
		{"delay", f.Delay != 0},
		{"bytes", f.Bytes != 0},
		{"status", f.Status != 0},
		{"location", f.Location != ""},
		{"code", f.Code != ""},
		{"message", f.Message != ""},
		{"fields", len(f.Fields) > 0},
		{"value", len(f.Value) > 0},
		{"first", f.First},
	} {
		if field.used {
			names = append(names, field.name)
		}
	}
	return names
}

// complete checks a fault by itself and returns it with its defaults.
func (f Fault) complete() (Fault, error) {
	allowed, known := faultFields[f.Kind]
	if !known {
		return f, fmt.Errorf("unknown kind of fault %q", f.Kind)
	}
	for _, name := range f.given() {
		if !slices.Contains(allowed, name) {
			return f, fmt.Errorf("a fault of kind %s has no %s", f.Kind, name)
		}
	}
	if f.Times < 0 {
		return f, errors.New("times must not be negative")
	}
	if f.Delay < 0 || f.Delay > time.Hour {
		return f, errors.New("delay must be between zero and one hour")
	}
	return f.completeKind()
}

// completeKind checks and completes the fields of the fault's kind.
func (f Fault) completeKind() (Fault, error) {
	switch f.Kind {
	case FaultSlow:
		if f.Delay == 0 {
			return f, errors.New("a fault of kind slow needs a delay")
		}
	case FaultDrip:
		f.Delay = orDefault(f.Delay, time.Second)
	case FaultHuge:
		if f.Bytes < 1 || f.Bytes > maxHuge {
			return f, fmt.Errorf("bytes must be between 1 and %d", maxHuge)
		}
	case FaultStatus:
		f.Status = orDefault(f.Status, http.StatusInternalServerError)
		if f.Status < 200 || f.Status > 599 {
			return f, errors.New("status must be between 200 and 599")
		}
	case FaultRedirect:
		f.Status = orDefault(f.Status, http.StatusFound)
		if f.Status < 300 || f.Status > 399 {
			return f, errors.New("the status of a redirect must be between 300 and 399")
		}
	case FaultErrcode:
		if f.Code == "" {
			return f, errors.New("a fault of kind errcode needs a code")
		}
	case FaultExtraFields:
		var members map[string]json.RawMessage
		if err := json.Unmarshal(f.Value, &members); err != nil || len(members) == 0 {
			return f, errors.New("a fault of kind extra_fields needs an object with members as value")
		}
	}
	if len(f.Value) > 0 && !json.Valid(f.Value) {
		return f, errors.New("value must be JSON")
	}
	return f, nil
}

// SetFault puts a fault into force. Of several that fit a call, the one set
// first applies, until its Times are used up: what is set in a row happens in
// a row. The error wraps ErrInvalid or ErrUnknownProgram.
func (s *Simulator) SetFault(fault Fault) error {
	fault, err := fault.complete()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if fault.Program != "" && s.programs[fault.Program] == nil {
		return ErrUnknownProgram
	}
	if fault.Kind.isAlipay() {
		fault.Path = orDefault(fault.Path, alipayPath)
	}
	if len(s.routesOf(fault)) == 0 {
		return fmt.Errorf("%w: no platform has an interface at %q for this", ErrInvalid, fault.Path)
	}
	if err := s.checkCode(fault); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return s.faults.add(fault)
}

// routesOf returns the routes that a fault is about.
func (s *Simulator) routesOf(fault Fault) []route {
	var routes []route
	for path, route := range s.routes {
		if _, isAlipay := route.platform.(*alipay); fault.Kind.isAlipay() && !isAlipay {
			continue
		}
		if fault.Program != "" && s.programs[fault.Program] != route.platform {
			continue
		}
		if fault.Path == "" || fault.Path == path || slices.Contains(route.endpoint.apis, fault.Path) {
			routes = append(routes, route)
		}
	}
	return routes
}

// checkCode asks the platforms that a fault is about whether its error code is
// one of theirs.
func (s *Simulator) checkCode(fault Fault) error {
	if fault.Code == "" {
		return nil
	}
	for _, route := range s.routesOf(fault) {
		if err := route.platform.checkCode(fault.Code); err != nil {
			return err
		}
	}
	return nil
}

// Faults returns the faults in force, in the order in which they apply. Times
// is what is left of it.
func (s *Simulator) Faults() []Fault { return s.faults.list() }

// ClearFaults ends all faults.
func (s *Simulator) ClearFaults() { s.faults.clear() }

// faultList is the faults in force. It is safe for concurrent use.
type faultList struct {
	mu     sync.Mutex
	faults []Fault
}

// add appends a fault.
func (l *faultList) add(fault Fault) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.faults) >= maxFaults {
		return fmt.Errorf("%w: there are %d faults in force already", ErrInvalid, maxFaults)
	}
	fault.Fields = slices.Clone(fault.Fields)
	fault.Value = slices.Clone(fault.Value)
	l.faults = append(l.faults, fault)
	return nil
}

// wantBody reports whether it may depend on a call's body which fault applies
// to it: on the program or the API that it names.
func (l *faultList) wantBody(path string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.faults, func(f Fault) bool {
		if strings.HasPrefix(f.Path, "/") && f.Path != path {
			return false
		}
		return f.Program != "" || (f.Path != "" && f.Path != path)
	})
}

// take returns the fault that applies to a call, and uses it up once.
func (l *faultList) take(path, api, program string) (Fault, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, f := range l.faults {
		if (f.Path != "" && f.Path != path && f.Path != api) || (f.Program != "" && f.Program != program) {
			continue
		}
		switch f.Times {
		case 0:
		case 1:
			l.faults = slices.Delete(l.faults, i, i+1)
		default:
			l.faults[i].Times--
		}
		return f, true
	}
	return Fault{}, false
}

// list copies the faults.
func (l *faultList) list() []Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.faults)
}

// clear removes all faults.
func (l *faultList) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = nil
}
