// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// addUserFlags adds the flags that name a user or a program.
func addUserFlags(cmd *cobra.Command) {
	cmd.Flags().String("program", "", "The app id of a program")
	cmd.Flags().String("platform", "", "The platform, required of a program that is not configured any more")
	cmd.Flags().String("openid", "", `The openid of a user; "-" reads it from standard input, so that it is in no history`)
}

// addOutputFlags adds the flags for where a command asks and how it answers.
func addOutputFlags(cmd *cobra.Command) {
	cmd.Flags().Bool("json", false, "Print JSON")
	addConnectionFlags(cmd)
}

func addConfirmFlag(cmd *cobra.Command) {
	cmd.Flags().BoolP("yes", "y", false, "Do not ask")
}

// isSet reports whether a flag is there that needs no value.
func isSet(cmd *cobra.Command, name string) bool {
	set, err := cmd.Flags().GetBool(name)
	return err == nil && set
}

// maxSecretFile is the most bytes of a file, or of standard input, that hold one
// word.
const maxSecretFile = 64 << 10

// bodyOf makes the body of a call of the flags that are there, empty ones too:
// the gateway refuses those, and nothing is done. A flag is called as its member,
// or "flag:member".
func bodyOf(cmd *cobra.Command, names ...string) (map[string]any, error) {
	body := make(map[string]any)
	for _, name := range names {
		flag, member, ok := strings.Cut(name, ":")
		if !ok {
			member = flag
		}
		if !cmd.Flags().Changed(flag) {
			continue
		}
		value := cmd.Flags().Lookup(flag).Value.String()
		if flag == "openid" && value == "-" {
			var err error
			if value, err = readWord(cmd.InOrStdin()); err != nil {
				return nil, fmt.Errorf("reading the openid from standard input: %w", err)
			}
		}
		body[member] = value
	}
	return body, nil
}

// readFileFlag returns the one word in the file that a flag names.
func readFileFlag(cmd *cobra.Command, name string) (string, error) {
	path := cmd.Flags().Lookup(name).Value.String()
	in := cmd.InOrStdin()
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("reading --%s: %w", name, err)
		}
		defer file.Close()
		in = file
	}
	word, err := readWord(in)
	if err != nil {
		return "", fmt.Errorf("reading --%s: %w", name, err)
	}
	return word, nil
}

// readWord reads all there is, without the white space around it.
func readWord(in io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(in, maxSecretFile))
	word := strings.TrimSpace(string(data))
	if err == nil && word == "" {
		err = errors.New("there is nothing")
	}
	return word, err
}

// confirm asks on the terminal whether to go on, unless --yes says so.
func confirm(cmd *cobra.Command, what string) error {
	if isSet(cmd, "yes") {
		return nil
	}
	if !isTerminal(cmd.InOrStdin()) {
		return errors.New("there is nobody to ask whether to go on; give --yes")
	}
	return ask(cmd.InOrStdin(), cmd.ErrOrStderr(), what)
}

func ask(in io.Reader, out io.Writer, what string) error {
	fmt.Fprint(out, what, " Type yes to go on: ")
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}

// isTerminal reports whether somebody may type there.
func isTerminal(in io.Reader) bool {
	file, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// callOnce makes one call of a command.
func callOnce(cmd *cobra.Command, name string, body any) (json.RawMessage, error) {
	client, err := newAdminClient(cmd)
	if err != nil {
		return nil, err
	}
	return client.call(cmd, name, body)
}

// printed prints an answer as it is, unless there is none because of err.
func printed(cmd *cobra.Command, data json.RawMessage, err error) error {
	if err != nil {
		return err
	}
	if data == nil {
		data = json.RawMessage("{}")
	}
	return printJSON(cmd.OutOrStdout(), data)
}

// printAsJSON prints a value as JSON.
func printAsJSON(out io.Writer, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	return printJSON(out, data)
}
