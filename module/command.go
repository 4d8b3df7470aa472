// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "miniprogram",
		Usage: "<command>",
		Short: "Works with the mini-program authentication gateway",
		CobraFunc: func(cmd *cobra.Command) {
			for _, newCommand := range subcommands {
				cmd.AddCommand(newCommand())
			}
		},
	})
}

// subcommands make the commands below `miniprogram`.
var subcommands []func() *cobra.Command

// RegisterCommand adds a command below `miniprogram`. It is to be called from
// init functions, like caddycmd.RegisterCommand.
func RegisterCommand(newCommand func() *cobra.Command) {
	subcommands = append(subcommands, newCommand)
}
