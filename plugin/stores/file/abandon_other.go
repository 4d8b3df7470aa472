// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build windows || plan9 || solaris || aix

package file

import "os"

// abandon closes a file that bbolt can no longer close. Here that releases its
// lock, too.
func abandon(file *os.File) error { return file.Close() }
