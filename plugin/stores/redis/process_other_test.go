// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package redis

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
