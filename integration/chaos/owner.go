// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
)

// owners tells which gateway a connection is from, so that the network can go wrong
// for one of them alone. It is safe for concurrent use.
type owners struct {
	mu   sync.Mutex
	pids map[string]int // by the name of the gateway
}

// set says which process a gateway is now.
func (o *owners) set(name string, pid int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pids == nil {
		o.pids = make(map[string]int)
	}
	o.pids[name] = pid
}

// of returns the name of the gateway that a connection from this address is of; ""
// if it is not one of theirs.
func (o *owners) of(client net.Addr) string {
	address, ok := client.(*net.TCPAddr)
	if !ok {
		return ""
	}
	socket := "socket:[" + inode(address) + "]"
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, pid := range o.pids {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			if link, err := os.Readlink(dir + "/" + entry.Name()); err == nil && link == socket {
				return name
			}
		}
	}
	return ""
}

// inode returns the inode of the socket with this local address, "" if there is
// none.
func inode(address *net.TCPAddr) string {
	table, err := os.ReadFile("/proc/net/tcp")
	ip := address.IP.To4()
	if err != nil || ip == nil {
		return ""
	}
	local := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip), address.Port)
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 9 && fields[1] == local {
			return fields[9]
		}
	}
	return ""
}
