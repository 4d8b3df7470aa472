// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import "fmt"

// ResetSecret replaces the secret of a program of WeChat, as its console does: the
// old one is refused at once. The error wraps ErrInvalid or ErrUnknownProgram.
func (s *Simulator) ResetSecret(program, secret string) error {
	if s.programs[program] == nil {
		return ErrUnknownProgram
	}
	w, isWeChat := s.programs[program].(*weChat)
	if !isWeChat || secret == "" {
		return fmt.Errorf("%w: a program of WeChat and a secret are needed", ErrInvalid)
	}
	w.programs[program].secret.Store(&secret)
	return nil
}

// controlSecret is POST /simulator/wechat/secret.
func controlSecret(s *Simulator, body []byte) (any, error) {
	var input struct {
		Program string `json:"program"`
		Secret  string `json:"secret"`
	}
	if err := decodeControl(body, &input); err != nil {
		return nil, err
	}
	return struct {
		Program string `json:"program"`
	}{input.Program}, s.ResetSecret(input.Program, input.Secret)
}
