// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func init() {
	RegisterCommand(newProgramsCommand)
	RegisterCommand(newKeysCommand)
}

func newProgramsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "programs",
		Short: "Tells how the programs of a running gateway and their platforms do",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, err := callOnce(cmd, "programs", nil)
			if err != nil || isSet(cmd, "json") {
				return printed(cmd, data, err)
			}
			answer := new(programsAnswer)
			if err := json.Unmarshal(data, answer); err != nil {
				return fmt.Errorf("reading the answer: %w", err)
			}
			rows := newTable(cmd.OutOrStdout())
			rows.row("PLATFORM", "PROGRAM", "BREAKER", "CALLS", "LAST SUCCESS", "LAST FAILURE", "APP TOKEN UNTIL", "ABILITIES")
			for _, p := range answer.Programs {
				failure, token := "", ""
				if p.LastFailure != nil {
					failure = p.LastFailure.Error + " " + when(p.LastFailure.At)
				}
				if p.AppToken != nil {
					token = when(p.AppToken.Until)
				}
				rows.row(p.Platform, p.Program, p.Breaker, fmt.Sprintf("%d of %d", p.CallsUnderWay, p.Concurrency),
					when(p.LastSuccess), failure, token, strings.Join(p.Abilities, " "))
			}
			return rows.Flush()
		},
	}
	addOutputFlags(cmd)
	return cmd
}

func newKeysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Lists the keys of a running gateway, by their ids, and the other gateways that use its store",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, err := callOnce(cmd, "keys", nil)
			if err != nil || isSet(cmd, "json") {
				return printed(cmd, data, err)
			}
			answer := new(keysAnswer)
			if err := json.Unmarshal(data, answer); err != nil {
				return fmt.Errorf("reading the answer: %w", err)
			}
			rows := newTable(cmd.OutOrStdout())
			rows.row("KEY", "USE", "FROM", "ALL LASTING RECORDS")
			for _, id := range answer.Keys {
				if id == answer.Active {
					rows.row(id, "signs and seals", answer.From, when(answer.ResealedAt))
				} else {
					rows.row(id, "verifies and opens", answer.From, "")
				}
			}
			for _, key := range answer.Assertion {
				use := "is published"
				if key.Signs {
					use = "signs identities"
				}
				rows.row(key.ID, use+" since "+when(key.Since), "made", "")
			}
			for _, other := range answer.Gateways {
				rows.row(strings.Join(other.Keys, " "), "of gateway "+other.Host, "", "")
			}
			return rows.Flush()
		},
	}
	addOutputFlags(cmd)
	cmd.AddCommand(newRotateCommand())
	return cmd
}

func newRotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Replaces the key that signs identities for upstreams, in an hour",
		Long: `Replaces the key that signs identities for upstreams (option assertion). The new
key is published now and signs in an hour, when all upstreams know it.

With --at-once it signs now, and the old key is published no more: for a key that
has leaked. Upstreams refuse what was signed with it as soon as they read the
published keys again, and some of them what is signed with the new one until then.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			atOnce, err := cmd.Flags().GetBool("at-once")
			if err != nil {
				return err
			}
			data, err := callOnce(cmd, "keys/rotate", map[string]bool{"at_once": atOnce})
			if err != nil || isSet(cmd, "json") {
				return printed(cmd, data, err)
			}
			answer := new(rotatedKey)
			if err := json.Unmarshal(data, answer); err != nil {
				return fmt.Errorf("reading the answer: %w", err)
			}
			rows := newTable(cmd.OutOrStdout())
			rows.row("NEW KEY")
			rows.row(answer.ID)
			return rows.Flush()
		},
	}
	addOutputFlags(cmd)
	cmd.Flags().Bool("at-once", false, "Let the new key sign now, and have the old one refused")
	return cmd
}
