// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !windows && !plan9 && !solaris && !aix

package file

import (
	"errors"
	"os"
	"syscall"
)

// abandon closes a file that bbolt can no longer close. The lock goes first:
// it belongs to the mapping as well, which stays.
func abandon(file *os.File) error {
	return errors.Join(syscall.Flock(int(file.Fd()), syscall.LOCK_UN), file.Close())
}
