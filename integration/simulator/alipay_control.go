// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

// controlKeys is POST /simulator/alipay/keys.
func controlKeys(s *Simulator, body []byte) (any, error) {
	var input struct {
		Program string `json:"program"`
	}
	if err := decodeControl(body, &input); err != nil {
		return nil, err
	}
	return s.AlipayKeys(input.Program)
}

// controlMigration is POST /simulator/alipay/migration.
func controlMigration(s *Simulator, body []byte) (any, error) {
	var input struct {
		Program   string    `json:"program"`
		User      string    `json:"user,omitempty"`
		Migration Migration `json:"migration"`
	}
	if err := decodeControl(body, &input); err != nil {
		return nil, err
	}
	return input, s.SetMigration(input.Program, input.User, input.Migration)
}

// controlProfile is POST /simulator/alipay/profile.
func controlProfile(s *Simulator, body []byte) (any, error) {
	var input struct {
		Program string            `json:"program"`
		User    string            `json:"user"`
		Profile map[string]string `json:"profile"`
	}
	if err := decodeControl(body, &input); err != nil {
		return nil, err
	}
	return input, s.SetProfile(input.Program, input.User, input.Profile)
}

// controlRotate is POST /simulator/alipay/rotate.
func controlRotate(s *Simulator, body []byte) (any, error) {
	var input struct {
		Program  string   `json:"program"`
		Download Download `json:"download"`
	}
	if err := decodeControl(body, &input); err != nil {
		return nil, err
	}
	return s.Rotate(input.Program, input.Download)
}

// controlGrant is POST /simulator/alipay/grant.
func controlGrant(s *Simulator, body []byte) (any, error) {
	var input struct {
		Merchant string `json:"merchant"`
		App      string `json:"app"`
	}
	if err := decodeControl(body, &input); err != nil {
		return nil, err
	}
	return s.Grant(input.Merchant, input.App)
}
