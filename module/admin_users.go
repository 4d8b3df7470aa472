// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
)

// adminUser is the user whom a call is about.
type adminUser struct {
	identity.Identity
	program *program // nil if it is not configured
}

// findUser returns the user who is named.
func (c *adminCall) findUser(name userName) (*adminUser, error) {
	if name.Program == "" || name.OpenID == "" {
		return nil, callError("program and openid are required")
	}
	p, err := c.findProgram(&name.programName)
	if err != nil {
		return nil, err
	}
	user, err := c.directory.resolve(c.Context(), name.Platform, name.Program, name.OpenID)
	if err != nil {
		return nil, err
	}
	c.tell(zap.String("user", c.keys.Digest(user.Subject())))
	return &adminUser{user, p}, nil
}

// readUser reads the user of whom alone a call is.
func (c *adminCall) readUser() (*adminUser, error) {
	var name userName
	if err := c.readStrict(&name, false); err != nil {
		return nil, err
	}
	return c.findUser(name)
}

// exportUser answers POST /miniprogram/users/export.
func exportUser(c *adminCall) (any, error) {
	user, err := c.readUser()
	if err != nil {
		return nil, err
	}
	return c.export(c.Context(), user.Identity)
}

// eraseUser answers POST /miniprogram/users/erase.
func eraseUser(c *adminCall) (any, error) {
	user, err := c.readUser()
	if err != nil {
		return nil, err
	}
	// A mistyped id must not look like somebody who is gone.
	_, unknown := c.export(c.Context(), user.Identity)
	if err := c.erase(c.Context(), user.Identity); err != nil {
		return nil, err
	}
	if errors.Is(unknown, errNobody) {
		return nil, errNobody
	}
	return nil, nil
}

// resetKeyOfUser answers POST /miniprogram/users/reset_session_key.
func resetKeyOfUser(c *adminCall) (any, error) {
	user, err := c.readUser()
	if err != nil {
		return nil, err
	}
	if user.program == nil {
		return nil, errUnable
	}
	o := &opener{app: c.app, rt: c.runtime, p: user.program, user: user.Identity}
	return nil, o.resetKey(c.Context(), user.Subject())
}
