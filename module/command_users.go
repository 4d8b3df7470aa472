// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"

	"github.com/spf13/cobra"
)

func init() {
	RegisterCommand(newExportCommand)
	RegisterCommand(newEraseCommand)
}

func newExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export --program <app id> --openid <openid>",
		Short: "Prints everything that is kept of a user, as JSON",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, err := bodyOf(cmd, "program", "platform", "openid")
			if err != nil {
				return err
			}
			data, err := callOnce(cmd, "users/export", body)
			return printed(cmd, data, err)
		},
	}
	addUserFlags(cmd)
	addConnectionFlags(cmd)
	return cmd
}

func newEraseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "erase --program <app id> --openid <openid>",
		Short: "Removes everything that is kept of a user, and ends his sessions",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, err := bodyOf(cmd, "program", "platform", "openid")
			if err != nil {
				return err
			}
			if err := confirm(cmd, "What is erased cannot be brought back."); err != nil {
				return err
			}
			if _, err := callOnce(cmd, "users/erase", body); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "erased")
			return nil
		},
	}
	addUserFlags(cmd)
	addConfirmFlag(cmd)
	addConnectionFlags(cmd)
	return cmd
}
