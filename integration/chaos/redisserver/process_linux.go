// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redisserver

import "syscall"

// attributes puts a process into a group of its own, so that a Ctrl-C at the
// terminal does not reach it, and has it killed if this process dies without
// stopping it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
