// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command chaos has three gateways and a Redis of each kind fail in every way that
// it knows while users sign in, come back and sign out, and counts what must never
// happen: an acknowledged session that is lost, an identity that is another user's,
// a request that is let through and should not be. docs/failure-modes.md has what
// it found.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// topologies are the kinds of Redis, in the order in which they are tried.
var topologies = []string{"single", "sentinel", "cluster"}

// options are what the command line says.
type options struct {
	long       bool
	topologies []string
	duration   time.Duration // of all topologies together, for a long run
	seed       uint64
	only       string
	replicas   int
	keep       bool
}

// The main goroutine keeps the main thread, which lives as long as the process:
// what it starts is bound to the thread, see attributes.
func init() { runtime.LockOSThread() }

func main() {
	o, err := parseFlags(os.Args[1:])
	if err != nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err = run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// parseFlags reads the command line. It has said what is wrong with it.
func parseFlags(args []string) (options, error) {
	o := options{topologies: topologies, seed: rand.Uint64() >> 32}
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	short := flags.Bool("short", false, "each fault once, in a few minutes; the default")
	flags.BoolVar(&o.long, "long", false, "faults at random until the time is over")
	flags.DurationVar(&o.duration, "for", time.Hour, "how long a long run takes, for all kinds of Redis together")
	flags.Uint64Var(&o.seed, "seed", o.seed, "what chance depends on: who does what, and with -long which faults; not when exactly")
	flags.StringVar(&o.only, "fault", "", "only faults whose name has this in it")
	flags.IntVar(&o.replicas, "replicas", 0, "how many replicas must have a write before it is acknowledged; default: all, which are 2 with Sentinel and 1 for each primary of a cluster")
	flags.BoolVar(&o.keep, "keep", false, "keep the folder with the logs of all processes; it is kept anyway if something is wrong")
	flags.Func("topology", "one kind of Redis: single, sentinel or cluster; default all", func(name string) error {
		if !slices.Contains(topologies, name) {
			return fmt.Errorf("want one of %s", strings.Join(topologies, ", "))
		}
		o.topologies = []string{name}
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var err error
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("surplus argument %q", flags.Arg(0))
	case *short && o.long:
		err = errors.New("-short and -long exclude each other")
	case o.duration <= 0:
		err = errors.New("-for must be above zero")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	return o, err
}

// run tries each kind of Redis, and shows what it has counted.
func run(ctx context.Context, o options) error {
	progress("seed %d", o.seed)
	dir, err := os.MkdirTemp("", "chaos")
	if err != nil {
		return err
	}
	binary, err := build(ctx, dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	r := &report{seed: o.seed, begun: time.Now(), sum: newTally()}
	for i, topology := range o.topologies {
		s := &trial{
			options: o, topology: topology, dir: fmt.Sprintf("%s/%s", dir, topology), binary: binary,
			random: rand.New(rand.NewPCG(o.seed, uint64(i))), report: r,
		}
		if err = s.run(ctx); err != nil {
			err = fmt.Errorf("%s: %w", topology, err)
			break
		}
	}
	fmt.Print(r.text())
	err = errors.Join(err, r.verdict())
	if err != nil || o.keep {
		fmt.Fprintln(os.Stderr, "chaos: the logs are in", dir)
		return err
	}
	return os.RemoveAll(dir)
}

// progress tells people what goes on.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}
