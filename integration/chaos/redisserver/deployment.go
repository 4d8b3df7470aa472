// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redisserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// PrimaryName is the name by which the sentinels know the primary.
const PrimaryName = "primary"

const slots = 16384

// Deployment is some servers that belong together.
type Deployment struct {
	// Kind is "single", "sentinel" or "cluster".
	Kind string
	// Servers are the servers. Which of them are primaries changes.
	Servers []*Server
	// Sentinels watch over them; none but for the kind "sentinel".
	Sentinels []*Server
}

// Durable are the options of a server that has on disk what it acknowledged.
func Durable() []string { return []string{"--appendonly", "yes", "--appendfsync", "always"} }

// StartSingle starts one server.
func StartSingle(dir string, front Front, options ...string) (*Deployment, error) {
	s, err := Start(dir, front, options...)
	d := &Deployment{Kind: "single", Servers: []*Server{s}}
	return d.orKill(err)
}

// StartSentinel starts a primary, two replicas, and three sentinels, two of which
// have to agree that the primary is down.
func StartSentinel(dir string, front Front, options ...string) (*Deployment, error) {
	d := &Deployment{Kind: "sentinel"}
	for i := range 3 {
		s, err := prepare(dir, "redis-server", front)
		if err != nil {
			return d.orKill(err)
		}
		s.args = append([]string{
			"--bind", "127.0.0.1", "--port", portOf(s.Address), "--dir", s.Dir, "--save", "", "--logfile", "log", "--daemonize", "no",
			"--replica-announce-ip", "127.0.0.1", "--replica-announce-port", portOf(s.Public), "--repl-diskless-sync-delay", "0",
		}, options...)
		if i > 0 {
			s.args = append(s.args, "--replicaof", "127.0.0.1", portOf(d.Servers[0].Public))
		}
		// A file, so that what Sentinel changes outlives a restart.
		if err := s.useFile(); err != nil {
			return d.orKill(err)
		}
		d.Servers = append(d.Servers, s)
		if err := s.Start(); err != nil {
			return d.orKill(err)
		}
	}
	for range 3 {
		if err := d.addSentinel(dir, front); err != nil {
			return d.orKill(err)
		}
	}
	return d.orKill(d.Settle())
}

// useFile makes a configuration file of the server's arguments.
func (s *Server) useFile() error {
	var text strings.Builder
	for i, arg := range s.args {
		name, isName := strings.CutPrefix(arg, "--")
		switch {
		case isName && i > 0:
			text.WriteString("\n" + name)
		case isName:
			text.WriteString(name)
		default:
			fmt.Fprintf(&text, " %q", arg)
		}
	}
	path := filepath.Join(s.Dir, "redis.conf")
	s.args = []string{path}
	return os.WriteFile(path, []byte(text.String()+"\n"), 0o600)
}

func (d *Deployment) addSentinel(dir string, front Front) error {
	s, err := prepare(dir, "redis-sentinel", front)
	if err != nil {
		return err
	}
	path := filepath.Join(s.Dir, "sentinel.conf")
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nlogfile log\nsentinel announce-ip 127.0.0.1\nsentinel announce-port %s\n"+
		"sentinel monitor %s 127.0.0.1 %s 2\nsentinel down-after-milliseconds %s 1000\nsentinel failover-timeout %s 4000\n",
		portOf(s.Address), s.Dir, portOf(s.Public), PrimaryName, portOf(d.Servers[0].Public), PrimaryName, PrimaryName)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	s.args = []string{path}
	d.Sentinels = append(d.Sentinels, s)
	return s.Start()
}

// StartCluster starts three primaries with one replica each.
func StartCluster(dir string, front Front, options ...string) (*Deployment, error) {
	d := &Deployment{Kind: "cluster"}
	for range 6 {
		s, err := prepare(dir, "redis-server", front)
		if err != nil {
			return d.orKill(err)
		}
		s.args = append([]string{
			"--bind", "127.0.0.1", "--port", portOf(s.Address), "--dir", s.Dir, "--save", "", "--logfile", "log", "--daemonize", "no",
			"--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--cluster-replica-validity-factor", "0",
			"--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", portOf(s.Public),
			"--cluster-announce-bus-port", busPort(s.Address), "--repl-diskless-sync-delay", "0",
		}, options...)
		d.Servers = append(d.Servers, s)
		if err := s.Start(); err != nil {
			return d.orKill(err)
		}
	}
	return d.orKill(d.form())
}

// busPort is the port by which the nodes of a cluster talk to each other.
func busPort(address string) string {
	var port int
	_, _ = fmt.Sscan(portOf(address), &port)
	return fmt.Sprint(port + 10_000)
}

// form makes a cluster of the servers.
func (d *Deployment) form() error {
	const primaries = 3
	first := d.Servers[0]
	for i, s := range d.Servers {
		if i < primaries {
			if err := s.Must("OK", "cluster", "addslotsrange", fmt.Sprint(i*slots/primaries), fmt.Sprint((i+1)*slots/primaries-1)); err != nil {
				return err
			}
		}
		if i > 0 {
			if err := s.Must("OK", "cluster", "meet", "127.0.0.1", portOf(first.Address), busPort(first.Address)); err != nil {
				return err
			}
		}
	}
	for _, s := range d.Servers {
		if err := s.Eventually("it knows the others", func() bool {
			out, _ := s.Do("cluster", "info")
			return strings.Contains(out, fmt.Sprintf("cluster_known_nodes:%d", len(d.Servers)))
		}); err != nil {
			return err
		}
	}
	for i, s := range d.Servers[primaries:] {
		id, err := d.Servers[i].Do("cluster", "myid")
		if err != nil {
			return err
		}
		if err := s.Eventually("it has a primary", func() bool { return s.Must("OK", "cluster", "replicate", id) == nil }); err != nil {
			return err
		}
	}
	return d.Settle()
}

// Settle returns when all servers work, and every replica has what its primary
// has.
func (d *Deployment) Settle() error {
	for _, s := range d.Servers {
		if err := s.Eventually("it works", func() bool { return d.works(s) }); err != nil {
			return err
		}
	}
	for _, s := range d.Sentinels {
		if err := s.Eventually("it knows the others", func() bool {
			out, err := s.Do("sentinel", "master", PrimaryName)
			fields := strings.Split(out, "\n")
			return err == nil && after(fields, "flags") == "master" && after(fields, "num-slaves") == "2" && after(fields, "num-other-sentinels") == "2"
		}); err != nil {
			return err
		}
	}
	return nil
}

// works reports whether a server does what it should in its deployment.
func (d *Deployment) works(s *Server) bool {
	out, err := s.Do("info", "replication")
	if err != nil {
		return false
	}
	isPrimary := strings.Contains(out, "role:master")
	switch {
	case d.Kind == "single":
		return isPrimary
	case !isPrimary && !strings.Contains(out, "master_link_status:up"):
		return false
	case d.Kind == "sentinel":
		return !isPrimary || strings.Contains(out, "connected_slaves:2")
	case isPrimary && !strings.Contains(out, "connected_slaves:1"):
		return false
	}
	info, err := s.Do("cluster", "info")
	nodes, nodesErr := s.Do("cluster", "nodes")
	return err == nil && nodesErr == nil && strings.Contains(info, "cluster_state:ok") && !strings.Contains(nodes, "fail")
}

// Primaries returns the servers that say they are primaries.
func (d *Deployment) Primaries() []*Server {
	var found []*Server
	for _, s := range d.Servers {
		if s.IsPrimary() {
			found = append(found, s)
		}
	}
	return found
}

// WaitForFailover returns when another server has taken the place of lost.
func (d *Deployment) WaitForFailover(lost *Server, primaries int) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		n := 0
		for _, s := range d.Servers {
			if s != lost && s.IsPrimary() {
				n++
			}
		}
		if n == primaries {
			return nil
		}
	}
	return errors.New("no other server takes the place of " + lost.Address)
}

// Kill ends all processes.
func (d *Deployment) Kill() {
	for _, s := range append(d.Sentinels, d.Servers...) {
		s.Kill()
	}
}

func (d *Deployment) orKill(err error) (*Deployment, error) {
	if err != nil {
		d.Kill()
		return nil, err
	}
	return d, nil
}

// after returns the line after the one that is name.
func after(lines []string, name string) string {
	for i, line := range lines[:max(0, len(lines)-1)] {
		if line == name {
			return lines[i+1]
		}
	}
	return ""
}
