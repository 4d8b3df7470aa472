// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() { RegisterCommand(newCheckCommand) }

func newCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [--config <path>] [--online]",
		Short: "Checks a configuration, and with --online the gateway that runs",
		Long: `
Checks a configuration as "validate" does, without opening the store or calling
anybody, and says what it is: the one of --config, or the Caddyfile of the
current directory.

With --online it also has the running gateway write to its store, and have each
platform hand out an app token, which proves that the program's secret is good
and the gateway's address allowed. Some platforms have no app tokens; whether
they take the secret shows when the first user signs in.
`,
		Args: cobra.NoArgs,
		RunE: runCheck,
	}
	cmd.Flags().Bool("online", false, "Have the running gateway try its store and its programs")
	addOutputFlags(cmd)
	return cmd
}

// checkReport is what the command prints.
type checkReport struct {
	Config *configReport `json:"config,omitempty"`
	Online *checkAnswer  `json:"online,omitempty"`
}

// configReport says what a configuration is that can be loaded.
type configReport struct {
	File     string        `json:"file"`
	Programs []programName `json:"programs"`
	Store    string        `json:"store"`
	// SealKeys is how many are configured; without any the gateway makes one.
	SealKeys int `json:"seal_keys"`
	// Handlers is how many times the directive is used.
	Handlers int `json:"handlers"`
	// Notes are what an operator may have overlooked.
	Notes []string `json:"notes,omitempty"`
}

func runCheck(cmd *cobra.Command, _ []string) error {
	report, failed := new(checkReport), false
	var err error
	if report.Config, err = checkConfig(cmd); err != nil {
		return err
	}
	if isSet(cmd, "online") {
		data, err := callOnce(cmd, "check", struct{}{})
		if err != nil {
			return err
		}
		report.Online = new(checkAnswer)
		if err := json.Unmarshal(data, report.Online); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		failed = !report.Online.OK
	} else if report.Config == nil {
		return errors.New("there is no configuration; give --config, or --online for the gateway that runs")
	}
	if isSet(cmd, "json") {
		err = printAsJSON(cmd.OutOrStdout(), report)
	} else {
		err = report.print(cmd.OutOrStdout())
	}
	if err == nil && failed {
		err = errors.New("the gateway is not in order")
	}
	return err
}

// checkConfig checks the configuration; nil if there is none.
func checkConfig(cmd *cobra.Command) (*configReport, error) {
	flags := cmd.Flags()
	data, file, _, err := caddycmd.LoadConfig(flags.Lookup("config").Value.String(), flags.Lookup("adapter").Value.String())
	if err != nil || len(data) == 0 {
		return nil, err
	}
	data = caddy.RemoveMetaFields(data)
	config := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(data, config); err != nil {
		return nil, fmt.Errorf("decoding the configuration: %w", err)
	}
	report, err := describeConfig(data)
	if err != nil {
		return nil, err
	}
	report.File = file
	if err := caddy.Validate(config); err != nil {
		return nil, err
	}
	return report, nil
}

// describeConfig reads what a configuration is.
func describeConfig(data []byte) (*configReport, error) {
	var config struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, fmt.Errorf("decoding the configuration: %w", err)
	}
	raw, ok := config.Apps["miniprogram"]
	if !ok {
		return nil, errors.New("the configuration has no global option miniprogram")
	}
	var app struct {
		Programs []struct {
			Provider string `json:"provider"`
			AppID    string `json:"app_id"`
		} `json:"programs"`
		Store struct {
			Store string `json:"store"`
		} `json:"store"`
		SealKeys []string `json:"seal_keys"`
	}
	if err := json.Unmarshal(raw, &app); err != nil {
		return nil, fmt.Errorf("decoding the configuration: %w", err)
	}
	var tree, programs any
	if err := errors.Join(json.Unmarshal(data, &tree), json.Unmarshal(raw, &programs)); err != nil {
		return nil, fmt.Errorf("decoding the configuration: %w", err)
	}
	report := &configReport{Store: cmp.Or(app.Store.Store, defaultStore), SealKeys: len(app.SealKeys), Programs: []programName{}}
	for _, p := range app.Programs {
		report.Programs = append(report.Programs, programName{p.Provider, p.AppID})
	}
	walk(tree, func(name string, value any) {
		if name == "handler" && value == "miniprogram" {
			report.Handlers++
		}
	})
	if report.Handlers == 0 {
		report.Notes = append(report.Notes, "no site has the directive miniprogram")
	}
	walk(programs, func(_ string, value any) {
		if text, ok := value.(string); ok && strings.HasPrefix(text, "http://") {
			report.Notes = append(report.Notes, text+" is not a platform but a program on this machine, such as a simulator")
		}
	})
	slices.Sort(report.Notes)
	return report, nil
}

// walk visits the values in JSON that are neither objects nor lists, with the
// names of the members that they are, or are listed in.
func walk(value any, visit func(name string, value any)) { walkBelow("", value, visit) }

func walkBelow(name string, value any, visit func(string, any)) {
	switch v := value.(type) {
	case map[string]any:
		for member, below := range v {
			walkBelow(member, below, visit)
		}
	case []any:
		for _, below := range v {
			walkBelow(name, below, visit)
		}
	default:
		visit(name, value)
	}
}

func (r *checkReport) print(out io.Writer) error {
	rows := newTable(out)
	if c := r.Config; c != nil {
		rows.row("configuration", "valid", c.File)
		for _, p := range c.Programs {
			rows.row("program", p.Platform, p.Program)
		}
		rows.row("store", c.Store)
		if c.SealKeys == 0 {
			rows.row("seal keys", "one, made at the first start")
		} else {
			rows.row("seal keys", fmt.Sprint(c.SealKeys))
		}
		rows.row("directive", fmt.Sprintf("used %d times", c.Handlers))
		for _, note := range c.Notes {
			rows.row("NOTE", note)
		}
	}
	if a := r.Online; a != nil {
		rows.row("running store", okOr(a.Store.OK, "failed"), a.Store.Cause)
		rows.row("running key", "ok", a.Keys.Active)
		for _, p := range a.Programs {
			rows.row("secret of "+p.Program, p.Secret, strings.TrimSpace(p.Error+" "+p.Cause))
		}
	}
	return rows.Flush()
}

func okOr(ok bool, otherwise string) string {
	if ok {
		return wordOK
	}
	return otherwise
}
