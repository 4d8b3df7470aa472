// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package redisserver

import "syscall"

// attributes leaves everything as it is.
func attributes() *syscall.SysProcAttr { return nil }
