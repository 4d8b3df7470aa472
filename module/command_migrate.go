// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/minigate/minigate/module/migrate"
	"github.com/minigate/minigate/module/store"
)

// progressPause is the time between two lines of progress.
const progressPause = 2 * time.Second

func init() { RegisterCommand(newMigrateCommand) }

// newMigrateCommand makes `minigate miniprogram migrate`.
func newMigrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate <from> <to> [--follow] [--live] [--json]",
		Short: "Copies a store to another one while it is in use",
		Long: `
Copies all records of a store to another one, with the time that they have left,
removes what is only there, and compares both sides. It can be run again at any
time, and then writes what differs.

Each side is one of

  file:<path>                  a file of store file
  redis:<host:port>[,...]      a Redis without a password; several are a cluster
  <path>                       a Caddyfile or JSON configuration, whose store is meant

so that the usual call is

  minigate miniprogram migrate old.Caddyfile new.Caddyfile

If a gateway has the source open, that gateway does the work, and from then on
writes everything to both sides. Load the new configuration next: the gateway moves
to the copy, nobody is signed out, no sign-in is lost. With --live it does so
also where the source could be read without it. Its admin endpoint is that of <from>,
if that is a configuration, unless --address or --config say otherwise.

With --follow, what gateways write to a source that several share is copied until
this command is interrupted, or a gateway uses the destination.

The exit status is 1 if not everything was copied and verified.
`,
		Args: cobra.ExactArgs(2),
		RunE: runMigrate,
	}
	cmd.Flags().Bool("follow", false, "Go on to copy what changes at a shared source")
	cmd.Flags().Bool("live", false, "Have the gateway that uses the source do the work")
	addOutputFlags(cmd)
	return cmd
}

// runMigrate runs the command until it is done, SIGINT or SIGTERM.
func runMigrate(cmd *cobra.Command, args []string) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := migrationRun{
		cmd: cmd, follow: isSet(cmd, "follow"), live: isSet(cmd, "live"),
		progress: cmd.ErrOrStderr(), began: time.Now(),
	}
	result, err := r.run(ctx, args[0], args[1])
	if err != nil {
		result.State, result.Error = "failed", err.Error()
	}
	if isSet(cmd, "json") {
		return errors.Join(printAsJSON(cmd.OutOrStdout(), result), err)
	}
	if err == nil {
		result.print(cmd.OutOrStdout())
	}
	return err
}

// migrationRun is one run of the command.
type migrationRun struct {
	cmd          *cobra.Command
	follow, live bool
	progress     io.Writer
	began        time.Time
}

// migrationResult is what the command prints.
type migrationResult struct {
	migrationStatus
	Seconds float64 `json:"seconds"`
}

// print tells people.
func (r migrationResult) print(w io.Writer) {
	if c := r.Counts; c != nil {
		fmt.Fprintf(w, "%d records are copied from %s to %s and verified: %d written, %d there before, %d removed; %.1f s\n",
			c.Verified, r.From, r.To, c.Written+c.Late, c.Unchanged, c.Removed, r.Seconds)
	}
	if r.State == string(migrationFollowing) {
		fmt.Fprintf(w, "The gateway writes to both from now on. Load the configuration with the new store next.\n")
	}
}

// run copies from one side to the other.
func (r *migrationRun) run(ctx context.Context, fromText, toText string) (result migrationResult, err error) {
	defer func() { result.Seconds = time.Since(r.began).Seconds() }()
	adapter := r.cmd.Flags().Lookup("adapter").Value.String()
	from, err := readSide(fromText, adapter)
	if err != nil {
		return result, fmt.Errorf("source: %w", err)
	}
	to, err := readSide(toText, adapter)
	if err != nil {
		return result, fmt.Errorf("destination: %w", err)
	}
	if from.keyed() && to.config != nil && !to.keyed() {
		return result, fmt.Errorf("%s has no seal_key: its gateway would make one of its own, and could not read what is copied; put that of %s into it", to.text, from.text)
	}
	if r.live {
		return r.ask(ctx, from, to)
	}
	modules, cancel := caddy.NewContext(caddy.Context{Context: ctx})
	defer cancel()
	if err := from.load(modules); err != nil {
		return result, fmt.Errorf("source: %w", err)
	}
	source, err := from.open(ctx, true)
	if errors.Is(err, store.ErrInUse) {
		fmt.Fprintf(r.progress, "%s is in use; asking the gateway that uses it\n", from.text)
		return r.ask(ctx, from, to)
	}
	if err != nil {
		return result, fmt.Errorf("source: %w", err)
	}
	defer source.Close()
	return r.copy(modules, from, to, source)
}

// copy does the work itself.
func (r *migrationRun) copy(ctx caddy.Context, from, to *migrationSide, source store.Store) (result migrationResult, err error) {
	if r.follow && !isShared(from.opener) {
		return result, fmt.Errorf("--follow is for a source that gateways can use at the same time, which store %s is not", from.name)
	}
	if err := to.load(ctx); err != nil {
		return result, fmt.Errorf("destination: %w", err)
	}
	if from.opener.Identity() == to.opener.Identity() {
		return result, migrate.ErrSame
	}
	if to.keyed() {
		keys, err := loadKeys(to.sealKeys)
		if err != nil {
			return result, fmt.Errorf("destination: %w", err)
		}
		if err := checkSealKeys(ctx, source, keys); err != nil {
			return result, err
		}
	}
	destination, err := to.open(ctx, false)
	if err != nil {
		return result, fmt.Errorf("destination: %w", err)
	}
	defer destination.Close()
	release, err := migrate.Claim(ctx, source, destination)
	if err != nil {
		return result, err
	}
	defer release()
	used, err := migrate.InUse(ctx, source)
	if err != nil {
		return result, fmt.Errorf("source: %w", err)
	}
	if used && !r.follow {
		fmt.Fprintf(r.progress, "gateways use %s: what they write from now on is not copied; stop them, or add --follow\n", from.text)
	}
	c := migrate.New(source, destination, nil)
	defer r.report(c)()
	if r.follow {
		err = r.watch(ctx, c)
	} else if err = c.Copy(ctx); err == nil && c.Counts().Late > 0 {
		err = fmt.Errorf("%w: %d records changed at the source while they were copied; stop the gateways that use it, or add --follow", migrate.ErrUnverified, c.Counts().Late)
	}
	counts := c.Counts()
	result.migrationStatus = migrationStatus{State: "copied", From: from.name, To: to.name, Began: r.began.UTC(), Counts: &counts}
	return result, err
}

// watch copies what changes until ctx is done.
func (r *migrationRun) watch(ctx context.Context, c *migrate.Copier) error {
	copied := false
	err := c.Watch(ctx, func() {
		copied = true
		fmt.Fprintf(r.progress, "all %d records are copied and verified; following until this is interrupted, or a gateway uses the destination\n", c.Counts().Verified)
	}, func(err error) {
		fmt.Fprintf(r.progress, "the source does not tell of changes; trying again: %v\n", err)
	})
	switch {
	case errors.Is(err, migrate.ErrTaken) && copied:
		fmt.Fprintf(r.progress, "a gateway uses the destination now; what is written to the source from now on is not copied\n")
		return nil
	case ctx.Err() != nil && copied:
		return nil
	}
	return err
}

// report prints how far a copier has come, again and again until stop is called.
func (r *migrationRun) report(c *migrate.Copier) (stop func()) {
	return r.every(func() {
		n := c.Counts()
		if c.Phase() != migrate.Done {
			fmt.Fprintf(r.progress, "%d read, %d written, %d verified\n", n.Read, n.Written, n.Verified)
		}
	})
}

// every calls do again and again, until stop is called.
func (r *migrationRun) every(do func()) (stop func()) {
	stopped, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(progressPause)
		defer ticker.Stop()
		for {
			select {
			case <-stopped:
				return
			case <-ticker.C:
				do()
			}
		}
	}()
	return func() {
		close(stopped)
		<-ended
	}
}
