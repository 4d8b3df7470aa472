// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// controlPrefix is where the control surface begins. No platform has an
// interface there.
const controlPrefix = "/simulator/"

// control is the control surface: by path and method, what takes the body of a
// request and returns what to answer as JSON.
var control = map[string]map[string]func(s *Simulator, body []byte) (any, error){
	controlPrefix + "login": {
		http.MethodPost: controlLogin,
	},
	controlPrefix + "encrypt": {
		http.MethodPost: controlEncrypt,
	},
	controlPrefix + "phone": {
		http.MethodPost: controlPhone,
	},
	controlPrefix + "fault": {
		http.MethodGet:    controlFaults,
		http.MethodPost:   controlSetFault,
		http.MethodDelete: controlClearFaults,
	},
	controlPrefix + "calls": {
		http.MethodGet:    controlCalls,
		http.MethodDelete: controlResetCalls,
	},
	controlPrefix + "alipay/keys": {
		http.MethodPost: controlKeys,
	},
	controlPrefix + "alipay/migration": {
		http.MethodPost: controlMigration,
	},
	controlPrefix + "alipay/profile": {
		http.MethodPost: controlProfile,
	},
	controlPrefix + "alipay/rotate": {
		http.MethodPost: controlRotate,
	},
	controlPrefix + "alipay/grant": {
		http.MethodPost: controlGrant,
	},
	controlPrefix + "wechat/secret": {
		http.MethodPost: controlSecret,
	},
}

// serveControl answers a request of the control surface.
func (s *Simulator) serveControl(w http.ResponseWriter, r *http.Request) {
	methods, found := control[r.URL.Path]
	if !found {
		writeControlError(w, http.StatusNotFound, "not_found", "the control surface has nothing at this path")
		return
	}
	handle, found := methods[r.Method]
	if !found {
		w.Header().Set("Allow", allowed(methods))
		writeControlError(w, http.StatusMethodNotAllowed, "method_not_allowed", "use "+allowed(methods))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		writeControlFailure(w, fmt.Errorf("reading the body: %w", err))
		return
	}
	result, err := handle(s, body)
	if err != nil {
		writeControlFailure(w, err)
		return
	}
	writeControl(w, http.StatusOK, result)
}

// allowed lists the methods of a path.
func allowed(methods map[string]func(*Simulator, []byte) (any, error)) string {
	names := make([]string, 0, len(methods))
	for name := range methods {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// controlCode is the answer with a code.
type controlCode struct {
	Code string `json:"code"`
}

// controlLogin is POST /simulator/login.
func controlLogin(s *Simulator, body []byte) (any, error) {
	var input struct {
		Program string   `json:"program"`
		User    string   `json:"user"`
		Scopes  []string `json:"scopes"`
	}
	if err := decodeControl(body, &input); err != nil {
		return nil, err
	}
	code, err := s.Login(input.Program, input.User, input.Scopes...)
	return controlCode{code}, err
}

// controlEncrypt is POST /simulator/encrypt.
func controlEncrypt(s *Simulator, body []byte) (any, error) {
	var input Encryption
	if err := decodeControl(body, &input); err != nil {
		return nil, err
	}
	return s.Encrypt(input)
}

// controlPhone is POST /simulator/phone.
func controlPhone(s *Simulator, body []byte) (any, error) {
	var input Phone
	if err := decodeControl(body, &input); err != nil {
		return nil, err
	}
	code, err := s.SharePhone(input)
	if _, isAlipay := s.programs[input.Program].(*alipay); isAlipay {
		return Encrypted{Response: code}, err
	}
	return controlCode{code}, err
}

// controlFault is a Fault in JSON.
type controlFault struct {
	Fault
	// Delay is a duration such as "1.5s".
	Delay string `json:"delay,omitempty"`
	// Code may be a number, as the code of some platforms is.
	Code controlErrcode `json:"code,omitempty"`
}

// controlErrcode is an error code that may be written as a number.
type controlErrcode string

// UnmarshalJSON implements json.Unmarshaler.
func (c *controlErrcode) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err == nil {
		*c = controlErrcode(text)
		return nil
	}
	var number json.Number
	if err := json.Unmarshal(data, &number); err != nil {
		return errors.New("code must be a number or a string")
	}
	*c = controlErrcode(number)
	return nil
}

// controlSetFault is POST /simulator/fault.
func controlSetFault(s *Simulator, body []byte) (any, error) {
	var input controlFault
	if err := decodeControl(body, &input); err != nil {
		return nil, err
	}
	fault := input.Fault
	fault.Code = string(input.Code)
	if input.Delay != "" {
		delay, err := time.ParseDuration(input.Delay)
		if err != nil {
			return nil, fmt.Errorf("%w: delay must be a duration such as 1.5s", ErrInvalid)
		}
		fault.Delay = delay
	}
	if err := s.SetFault(fault); err != nil {
		return nil, err
	}
	return controlFaults(s, nil)
}

// controlFaults is GET /simulator/fault.
func controlFaults(s *Simulator, _ []byte) (any, error) {
	list := []controlFault{}
	for _, fault := range s.Faults() {
		item := controlFault{Fault: fault, Code: controlErrcode(fault.Code)}
		if fault.Delay != 0 {
			item.Delay = fault.Delay.String()
		}
		list = append(list, item)
	}
	return map[string]any{"faults": list}, nil
}

// controlClearFaults is DELETE /simulator/fault.
func controlClearFaults(s *Simulator, _ []byte) (any, error) {
	s.ClearFaults()
	return controlFaults(s, nil)
}

// controlCalls is GET /simulator/calls.
func controlCalls(s *Simulator, _ []byte) (any, error) {
	return s.Calls(), nil
}

// controlResetCalls is DELETE /simulator/calls.
func controlResetCalls(s *Simulator, _ []byte) (any, error) {
	s.ResetCalls()
	return s.Calls(), nil
}

// decodeControl reads the body of a request. It refuses what it does not know,
// so that a misspelt option does not pass for one that was not given.
func decodeControl(body []byte, target any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(target); err != nil {
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: the body is empty; a JSON object is needed", ErrInvalid)
		}
		return fmt.Errorf("%w: decoding the body: %w", ErrInvalid, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the body goes on after the JSON object", ErrInvalid)
	}
	return nil
}

// writeControlFailure answers an error.
func writeControlFailure(w http.ResponseWriter, err error) {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, ErrUnknownProgram):
		writeControlError(w, http.StatusNotFound, "unknown_program", err.Error())
	case errors.Is(err, ErrNoSessionKey):
		writeControlError(w, http.StatusConflict, "no_session_key", err.Error())
	case errors.As(err, &tooLarge):
		writeControlError(w, http.StatusRequestEntityTooLarge, "request_too_large", err.Error())
	default:
		writeControlError(w, http.StatusBadRequest, "invalid_request", err.Error())
	}
}

// writeControlError answers an error in the form that the gateway has too.
func writeControlError(w http.ResponseWriter, status int, word, description string) {
	writeControl(w, status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{word, description})
}

// writeControl answers JSON.
func writeControl(w http.ResponseWriter, status int, result any) {
	w.Header().Set("Cache-Control", "no-store")
	answer{status: status, contentType: "application/json", body: append(encodeJSON(result), '\n')}.write(w)
}
