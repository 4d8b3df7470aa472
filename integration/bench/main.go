// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command bench measures what the gateway costs: the same load, in turns,
// against stock Caddy, this binary without the gateway switched on, and this
// binary with it. README.md says how to read what it prints.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// warmUp is for how many seconds a target is under load before it is measured.
const warmUp = 2

// options are what the command line says.
type options struct {
	Settings
	out, note, compare, profile string
}

// The main goroutine keeps the main thread, which lives as long as the process:
// what it starts is bound to the thread. See attributes.
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
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// parseFlags reads the command line. It has said what is wrong with it.
func parseFlags(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.Rounds, "rounds", 12, "how often each target is measured; multiples of 6 are all orders of three targets")
	flags.IntVar(&o.Seconds, "seconds", 3, "for how long each time")
	flags.IntVar(&o.Connections, "connections", 32, "connections of wrk; above 32, Caddy by default does not keep all of its own to the upstream")
	flags.IntVar(&o.Threads, "threads", 2, "threads of wrk")
	flags.IntVar(&o.Procs, "procs", runtime.NumCPU(), "GOMAXPROCS of every target")
	flags.StringVar(&o.GOGC, "gogc", "", "measure minigate with this GOGC in its environment, too, for example 100")
	flags.BoolVar(&o.Floor, "floor", false, "measure minigate with the headers of the user set by Caddy's request_header, too: what any gateway costs")
	flags.StringVar(&o.Redis, "redis", "", "the `address` of a Redis that may be written to: measure two gateways that share it, too")
	flags.StringVar(&o.Log, "log", "default", "Caddy's log: default, or discard for none")
	flags.BoolVar(&o.Bare, "bare", false, "send the session token to the guarded target only, so that the others have less to read and to hand on")
	flags.Func("header", "a header `line` of every request; can be repeated", func(line string) error {
		if !strings.Contains(line, ":") {
			return errors.New("want name: value")
		}
		o.Headers = append(o.Headers, line)
		return nil
	})
	flags.StringVar(&o.out, "out", "", "record the result in this JSON `file`")
	flags.StringVar(&o.note, "note", "", "a remark to record with it")
	flags.StringVar(&o.compare, "compare", "", "compare with the result recorded in this `file`")
	flags.StringVar(&o.profile, "profile", "", "write a profile of each target, not measured, into this `folder`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if err := o.check(flags.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return o, err
	}
	return o, nil
}

// check says what is wrong with the options.
func (o options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("surplus argument %q", rest[0])
	case o.Rounds < 1 || o.Seconds < 1 || o.Procs < 1 || o.Threads < 1:
		return errors.New("-rounds, -seconds, -procs and -threads are at least 1")
	case o.Connections < o.Threads:
		return errors.New("-connections is at least -threads")
	}
	if _, ok := logs[o.Log]; !ok {
		return fmt.Errorf("-log %q is neither default nor discard", o.Log)
	}
	if o.GOGC != "" && o.GOGC != "off" {
		if _, err := strconv.Atoi(o.GOGC); err != nil {
			return fmt.Errorf("-gogc %q is neither a number nor off", o.GOGC)
		}
	}
	return nil
}

// run makes a comparison and shows it. Everything it started has ended when it
// returns, and every file it wrote is gone but those asked for.
func run(ctx context.Context, o options) error {
	var recorded *Result
	if o.compare != "" {
		var err error
		if recorded, err = readResult(o.compare); err != nil {
			return err
		}
	}
	b := &bench{settings: o.Settings}
	defer b.stop()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	result, err := b.measure(ctx)
	if err != nil {
		return err
	}
	result.Note = o.note
	fmt.Print(result.text())
	if recorded != nil {
		fmt.Print(result.textAgainst(recorded))
	}
	if o.out != "" {
		if err := result.write(o.out); err != nil {
			return err
		}
	}
	if o.profile != "" {
		return b.profile(ctx, o.profile)
	}
	return nil
}

// progress tells people what goes on.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}
