// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Phone is a user's consent to tell a program his phone number.
type Phone struct {
	Program string `json:"program"`
	User    string `json:"user"`
	// Number is 4 to 20 digits without the country code.
	Number string `json:"phone"`
	// CountryCode is 1 to 4 digits. Default: 86.
	CountryCode string `json:"country_code,omitempty"`
}

// Encryption is open data that the platform hands to a program on the phone,
// encrypted for the program's server.
type Encryption struct {
	Program string `json:"program"`
	User    string `json:"user"`
	// Data is the JSON object to encrypt. The order of its members is kept.
	Data json.RawMessage `json:"data"`
	// UserInfo says that the data is handed out like user information: in plain
	// too, with a signature.
	UserInfo bool `json:"user_info,omitempty"`
	// WithOpenID puts the user's openId and unionId into the encrypted data
	// (but not into the plain copy), as wx.getUserInfo does.
	WithOpenID bool `json:"with_openid,omitempty"`
	// Watermark changes the watermark that the platform puts at the end.
	Watermark Watermark `json:"watermark"`
	// Form is how Alipay hands the data out, by default FormSigned. Only Form and
	// Data are of Alipay.
	Form string `json:"form,omitempty"`
}

// Watermark says when and for which program data was encrypted.
type Watermark struct {
	// Timestamp is in seconds since 1970. Default: now.
	Timestamp int64 `json:"timestamp,omitempty"`
	// AppID is by default that of the program.
	AppID string `json:"appid,omitempty"`
	// Omit leaves the watermark out.
	Omit bool `json:"omit,omitempty"`
}

// Encrypted is encrypted data as the mini-program on the phone receives it.
type Encrypted struct {
	// EncryptedData is base64.
	EncryptedData string `json:"encrypted_data,omitempty"`
	// IV is base64.
	IV string `json:"iv,omitempty"`
	// RawData is the data in plain. Only with Encryption.UserInfo.
	RawData string `json:"raw_data,omitempty"`
	// Signature goes with RawData.
	Signature string `json:"signature,omitempty"`
	// Response is the text that clients of Alipay hand out in the place of all
	// that.
	Response string `json:"response,omitempty"`
}

// Identity is what a platform tells servers about a user.
type Identity struct {
	// OpenID names the user within one program.
	OpenID string
	// UnionID names the user across programs; empty where the platform does not
	// tell.
	UnionID string
	// UserID names the user in all programs of Alipay. Which of OpenID and UserID
	// a server is told depends on the program's migration; here both are.
	UserID string
}

// Login does what wx.login or my.getAuthCode does on the user's phone: it
// returns a login code. Any name of 1 to 256 bytes is a user. Scopes are what
// the code is good for on Alipay, by default auth_base. The error wraps
// ErrInvalid or ErrUnknownProgram.
func (s *Simulator) Login(program, user string, scopes ...string) (string, error) {
	p, err := s.phoneOf(program, user)
	if err != nil {
		return "", err
	}
	return p.login(program, user, scopes)
}

// SharePhone does what the getPhoneNumber button does on the user's phone: it
// returns a code for which the server gets the number, or on Alipay the
// encrypted number, which the mini-program sends to its server as it is. The
// error wraps ErrInvalid or ErrUnknownProgram.
func (s *Simulator) SharePhone(phone Phone) (string, error) {
	p, err := s.phoneOf(phone.Program, phone.User)
	if err != nil {
		return "", err
	}
	phone.CountryCode = orDefault(phone.CountryCode, "86")
	if !isDigits(phone.Number, 4, 20) {
		return "", fmt.Errorf("%w: phone must be 4 to 20 digits", ErrInvalid)
	}
	if !isDigits(phone.CountryCode, 1, 4) {
		return "", fmt.Errorf("%w: country_code must be 1 to 4 digits", ErrInvalid)
	}
	return p.sharePhone(phone)
}

// Encrypt does what the platform's client does with open data: it encrypts it
// under the user's current session key or, on Alipay, under the program's key.
// The error wraps ErrInvalid,
// ErrUnknownProgram or ErrNoSessionKey.
func (s *Simulator) Encrypt(encryption Encryption) (Encrypted, error) {
	p, err := s.phoneOf(encryption.Program, encryption.User)
	if err != nil {
		return Encrypted{}, err
	}
	encryption.Data, err = compactObject(encryption.Data)
	if err != nil {
		return Encrypted{}, fmt.Errorf("%w: data: %w", ErrInvalid, err)
	}
	return p.encrypt(encryption)
}

// Identity returns what the platform tells the server of program about user.
// It depends on these two names alone, so that it is the same in every run.
// The error wraps ErrInvalid or ErrUnknownProgram.
func (s *Simulator) Identity(program, user string) (Identity, error) {
	p, err := s.phoneOf(program, user)
	if err != nil {
		return Identity{}, err
	}
	return p.identity(program, user), nil
}

// SessionKey returns the user's session key in force, for tests that look
// whether it leaks. The error wraps ErrInvalid, ErrUnknownProgram or
// ErrNoSessionKey.
func (s *Simulator) SessionKey(program, user string) (string, error) {
	p, err := s.phoneOf(program, user)
	if err != nil {
		return "", err
	}
	return p.sessionKey(program, user)
}

// phoneOf returns the platform on which user runs program.
func (s *Simulator) phoneOf(program, user string) (platform, error) {
	if program == "" {
		return nil, fmt.Errorf("%w: program is missing", ErrInvalid)
	}
	p := s.programs[program]
	if p == nil {
		return nil, ErrUnknownProgram
	}
	if user == "" || len(user) > 256 {
		return nil, fmt.Errorf("%w: user must be 1 to 256 bytes", ErrInvalid)
	}
	return p, nil
}

// isDigits reports whether text is lowest to highest decimal digits.
func isDigits(text string, lowest, highest int) bool {
	return len(text) >= lowest && len(text) <= highest && strings.Trim(text, "0123456789") == ""
}

// compactObject returns a JSON object without white space between its members.
func compactObject(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, errors.New("it is missing")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil || members == nil {
		return nil, errors.New("it must be a JSON object")
	}
	if _, found := members["watermark"]; found {
		return nil, errors.New("the platform sets the watermark; ask for another with the option of that name")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		return nil, fmt.Errorf("compacting: %w", err)
	}
	return compact.Bytes(), nil
}
