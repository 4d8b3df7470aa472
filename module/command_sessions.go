// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func init() {
	RegisterCommand(newSessionsCommand)
	RegisterCommand(newInspectCommand)
	RegisterCommand(newRevokeCommand)
}

func newSessionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sessions [--program <app id> [--openid <openid>]] [--since <time>] [--until <time>] [--idle <time>] [--all]",
		Short: "Lists the sessions of a running gateway",
		Long: `
Lists who is signed in, in no particular order, a page at a time. A <time> is
one such as 2026-01-31T08:00:00Z, or how long ago it was, such as 36h or 7d.

When a session was last used is written with some delay: a tenth of the time
after which an idle session ends.
`,
		Args: cobra.NoArgs,
		RunE: runSessions,
	}
	addUserFlags(cmd)
	flags := cmd.Flags()
	flags.String("since", "", "Only sessions that began then or later")
	flags.String("until", "", "Only sessions that began then or earlier")
	flags.String("idle", "", "Only sessions that were not used since then")
	flags.Int("limit", defaultPage, fmt.Sprint("How many sessions a page has, at most ", maxPage))
	flags.String("after", "", "Where the page before ended")
	flags.Bool("all", false, "All pages")
	addOutputFlags(cmd)
	return cmd
}

func runSessions(cmd *cobra.Command, _ []string) error {
	client, err := newAdminClient(cmd)
	if err != nil {
		return err
	}
	body, err := bodyOf(cmd, "program", "platform", "openid", "since", "until", "idle:idle_longer_than", "after")
	if err != nil {
		return err
	}
	all, limited := isSet(cmd, "all"), cmd.Flags().Changed("limit")
	switch limit, err := cmd.Flags().GetInt("limit"); {
	case err != nil:
		return err
	case limited:
		body["limit"] = limit
	case all:
		body["limit"] = maxPage
	}
	return eachPage(cmd, client, body, all)
}

// eachPage prints one page of sessions, or all from there on.
func eachPage(cmd *cobra.Command, client *adminClient, body map[string]any, all bool) error {
	out := cmd.OutOrStdout()
	together := &listAnswer{Sessions: []listedSession{}}
	rows := newTable(out)
	if !isSet(cmd, "json") {
		rows.row("SESSION", "PLATFORM", "PROGRAM", "OPENID", "SIGNED IN", "LAST USED", "ENDS")
	}
	for {
		data, err := client.call(cmd, "sessions/list", body)
		if err != nil {
			return err
		}
		page := new(listAnswer)
		if err := json.Unmarshal(data, page); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		together.Unreadable += page.Unreadable
		together.Next = page.Next
		if isSet(cmd, "json") {
			together.Sessions = append(together.Sessions, page.Sessions...)
		} else {
			for _, s := range page.Sessions {
				rows.row(s.ID, s.Platform, s.Program, userCell(s.exportedUser), when(s.AuthTime), when(s.LastUsed), when(s.IdleExpires))
			}
			if err := rows.Flush(); err != nil {
				return err
			}
		}
		if page.Next == "" || !all {
			break
		}
		if page.Next == body["after"] {
			return errors.New("the gateway answers the same page again and again")
		}
		body["after"] = page.Next
	}
	if isSet(cmd, "json") {
		return printAsJSON(out, together)
	}
	if together.Unreadable > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d records of users cannot be read\n", together.Unreadable)
	}
	if together.Next != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "there may be more: --after %s, or --all\n", visible(together.Next))
	}
	return nil
}

// userCell names a user in a table: by his openid, or the id before it.
func userCell(user exportedUser) string {
	if user.OpenID == "" {
		return user.KnownAs
	}
	return user.OpenID
}

func newInspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect --session <id> | --token-file <path> | --program <app id> --openid <openid>",
		Short: "Tells what there is to know of a session, a token or a user",
		Long: `
Tells what is kept of a user and his sessions, named by himself, by a session, or
by a session token that somebody reports. A token is read from a file, or from
standard input with the file "-". To inspect a session is not to use it.
`,
		Args: cobra.NoArgs,
		RunE: runInspect,
	}
	addUserFlags(cmd)
	cmd.Flags().String("session", "", "The id of a session")
	cmd.Flags().String("token-file", "", `A file with a session token; "-" is standard input`)
	addOutputFlags(cmd)
	return cmd
}

func runInspect(cmd *cobra.Command, _ []string) error {
	body, err := bodyOf(cmd, "program", "platform", "openid", "session")
	if err != nil {
		return err
	}
	if cmd.Flags().Changed("token-file") {
		if body["access_token"], err = readFileFlag(cmd, "token-file"); err != nil {
			return err
		}
	}
	data, err := callOnce(cmd, "sessions/inspect", body)
	if err != nil || isSet(cmd, "json") {
		return printed(cmd, data, err)
	}
	answer := new(inspectAnswer)
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return answer.print(cmd.OutOrStdout())
}

func (a *inspectAnswer) print(out io.Writer) error {
	about := newTable(out)
	if a.Token != nil {
		about.row("token", string(a.Token.State))
		about.row("signed with key", a.Token.Key)
		about.row("signed in", when(a.Token.AuthTime))
		about.row("ends", when(a.Token.Expires))
	}
	if a.Session != "" {
		about.row("session", a.Session)
	}
	if a.User != nil {
		about.row("platform", a.User.Platform)
		about.row("program", a.User.Program)
		about.row("openid", a.User.OpenID)
		about.row("known as", a.User.KnownAs)
		about.row("unionid", a.User.UnionID)
		about.row("platform session keys", fmt.Sprint(a.PlatformKeys))
	}
	if err := about.Flush(); err != nil || len(a.Sessions) == 0 {
		return err
	}
	fmt.Fprintln(out)
	rows := newTable(out)
	rows.row("SESSION", "STATE", "SIGNED IN", "LAST USED", "ENDS UNLESS USED", "ENDS")
	for _, s := range a.Sessions {
		rows.row(s.ID, string(s.State), when(s.AuthTime), when(s.LastUsed), when(s.IdleExpires), when(s.Expires))
	}
	return rows.Flush()
}

func newRevokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke --session <id> | --program <app id> --openid <openid> | --program <app id> --all | --everyone",
		Short: "Ends sessions, on all nodes at once",
		Long: `
Ends one session, those of a user, those of a program, or all. Whoever signs in
afterwards is signed in.
`,
		Args: cobra.NoArgs,
		RunE: runRevoke,
	}
	addUserFlags(cmd)
	cmd.Flags().String("session", "", "The id of a session; with --program and --openid it need not be looked for")
	cmd.Flags().Bool("all", false, "All sessions of --program")
	cmd.Flags().Bool("everyone", false, "All sessions")
	addConfirmFlag(cmd)
	addOutputFlags(cmd)
	return cmd
}

func runRevoke(cmd *cobra.Command, _ []string) error {
	body, err := bodyOf(cmd, "program", "platform", "openid", "session")
	if err != nil {
		return err
	}
	for _, name := range []string{"all", "everyone"} {
		if isSet(cmd, name) {
			body[name] = true
		}
	}
	switch {
	case body["everyone"] == true:
		err = confirm(cmd, "This signs out all users of all programs.")
	case body["all"] == true:
		err = confirm(cmd, "This signs out all users of the program.")
	}
	if err != nil {
		return err
	}
	data, err := callOnce(cmd, "sessions/revoke", body)
	if err != nil || isSet(cmd, "json") {
		return printed(cmd, data, err)
	}
	answer := new(revokeAnswer)
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if answer.Revoked == nil {
		fmt.Fprintln(cmd.OutOrStdout(), "all sessions revoked")
		return nil
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d sessions revoked\n", *answer.Revoked)
	return nil
}
