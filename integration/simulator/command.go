// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/minigate/minigate/module"
)

const (
	defaultListen  = "127.0.0.1:9801"
	defaultProgram = "wechat:wx0123456789abcdef:simulated-secret"
	// stopTimeout is how long answers that are under way may take at the end.
	stopTimeout = 3 * time.Second
)

func init() { module.RegisterCommand(newCommand) }

// newCommand makes `minigate miniprogram simulate`.
func newCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "simulate [--listen <address>] [--program <platform>:<app id>:<secret>]... [--allow-remote]",
		Short: "Stands in for the mini-program platforms, for development and tests",
		Long: `
Serves the server interfaces of the platforms that run mini-programs, and below
/simulator/ what a test needs beside them: a phone that obtains login codes,
encrypted data, faults on demand and the calls received.

It asks for no credentials there, so it listens on loopback only unless
--allow-remote is given. It keeps all in memory and runs until it is interrupted.
`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringP("listen", "l", defaultListen, "The address to listen on")
	cmd.Flags().StringArrayP("program", "p", []string{defaultProgram},
		"A mini-program as <platform>:<app id>:<secret>, on alipay with demo, generate or the app's public key as secret; can be repeated")
	cmd.Flags().Bool("allow-remote", false, "Listen on an address that other machines can reach")
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(commandSimulate)
	return cmd
}

// commandSimulate runs the command until SIGINT or SIGTERM.
func commandSimulate(flags caddycmd.Flags) (int, error) {
	programs, err := flags.GetStringArray("program")
	if err != nil {
		return caddy.ExitCodeFailedStartup, fmt.Errorf("reading --program: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := simulation{
		listen:      flags.String("listen"),
		programs:    programs,
		allowRemote: flags.Bool("allow-remote"),
	}
	if err := s.run(ctx, os.Stdout); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	return caddy.ExitCodeSuccess, nil
}

// simulation is one run of the command.
type simulation struct {
	listen      string
	programs    []string
	allowRemote bool
}

// run serves until ctx is done, and tells out what it serves.
func (s simulation) run(ctx context.Context, out io.Writer) error {
	config, err := parsePrograms(s.programs)
	if err != nil {
		return err
	}
	simulator, err := New(config)
	if err != nil {
		return fmt.Errorf("making the simulator: %w", err)
	}
	if !s.allowRemote {
		if err := checkLoopback(s.listen); err != nil {
			return err
		}
	}
	var listenConfig net.ListenConfig
	listener, err := listenConfig.Listen(ctx, "tcp", s.listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	announce(out, listener.Addr(), config.Programs)
	return serve(ctx, listener, simulator)
}

// parsePrograms reads the programs of the command line.
func parsePrograms(values []string) (Config, error) {
	var config Config
	for i, value := range values {
		parts := strings.SplitN(value, ":", 3)
		if len(parts) != 3 {
			return config, fmt.Errorf("--program %d: it must be <platform>:<app id>:<secret>", i+1)
		}
		config.Programs = append(config.Programs, Program{Platform: parts[0], AppID: parts[1], Secret: parts[2]})
	}
	return config, nil
}

// checkLoopback refuses an address that other machines can reach.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("reading --listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "localhost" || (ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("refusing to listen on %s: the simulator lets everyone who reaches it sign in as anyone; "+
		"listen on a loopback address such as %s, or give --allow-remote", address, defaultListen)
}

// announce prints what is served where, and something to try.
func announce(out io.Writer, address net.Addr, programs []Program) {
	var b strings.Builder
	for _, program := range programs {
		fmt.Fprintf(&b, "Simulating %s for program %s on http://%s\n", program.Platform, program.AppID, address)
	}
	fmt.Fprintf(&b, "Get a login code, as a phone would:\n")
	fmt.Fprintf(&b, "  curl -d '{\"program\":\"%s\",\"user\":\"alice\"}' http://%s/simulator/login\n",
		programs[0].AppID, address)
	_, _ = io.WriteString(out, b.String())
}

// serve serves handler until ctx is done, and then lets answers that are under
// way go out.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		// Faults that hold an answer back end with ctx.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err := server.Shutdown(last)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close()
		}
		stopped <- err
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serving: %w", err)
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	return nil
}
