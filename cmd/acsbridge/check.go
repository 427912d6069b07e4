package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/bridge"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/check"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
)

// maxTokenFile bounds a file with a token in bytes. A token is 8 KiB at most.
const maxTokenFile = 16 << 10

// checkCmd examines what serve needs, with the same settings.
type checkCmd struct {
	config.Settings

	URL    string `group:"Check:" help:"Callback URL as ACS has it, to be tried from outside in; the bridge must run." placeholder:"URL"`
	Token  string `group:"Check:" help:"File with a bearer token, - for standard input: which rules does it pass? Only the keys and the token are examined." placeholder:"FILE"`
	JSON   bool   `group:"Check:" name:"json" help:"Print all findings as one JSON object."`
	Strict bool   `group:"Check:" help:"Exit with status 1 when there are warnings."`
}

// Help is the text between the summary and the flags of check --help.
func (checkCmd) Help() string {
	return `Takes the settings of serve, and looks at everything that they need: a line for each thing, and what to do about it. ` +
		`It may run beside the bridge, and stores nothing. ` +
		`The exit status is 0 when nothing fails, 1 with --strict and warnings, 2 when something fails.`
}

// BeforeResolve makes problems of the settings findings. kong calls it before the
// BeforeResolve of the settings.
func (c *checkCmd) BeforeResolve() error {
	c.Settings.Examine()
	return nil
}

// AfterApply hides the AfterApply of the settings, which kong also calls on its own.
func (c *checkCmd) AfterApply() error { return nil }

// Run prints the findings.
func (c *checkCmd) Run(ctx context.Context, std stdio) error {
	bridge.TuneGC()
	opts := check.Options{Settings: &c.Settings, URL: c.URL}
	if c.Token != "" {
		var err error
		if opts.Token, err = readToken(c.Token); err != nil {
			return fmt.Errorf("--token: %w", err)
		}
	}
	if !c.JSON {
		color, area := view.ColorFor(std.out), ""
		opts.OnFinding = func(f check.Finding) {
			f.Print(std.out, color, area)
			area = f.Area
		}
	}
	report := check.Run(ctx, opts)
	if err := ctx.Err(); err != nil {
		return errors.New("stopped before the end")
	}
	if c.JSON {
		if err := json.NewEncoder(std.out).Encode(report); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(std.out, report.Summary())
	}
	switch {
	case report.Failures > 0:
		return statusError{fmt.Errorf("check: %s", view.Plural(report.Failures, "failure")), exitUsage}
	case report.Warnings > 0 && c.Strict:
		return statusError{fmt.Errorf("check: %s", view.Plural(report.Warnings, "warning")), exitFailed}
	}
	return nil
}

// readToken returns the token in a file, also when it is a whole Authorization header.
func readToken(name string) (string, error) {
	file := os.Stdin
	if name != "-" {
		var err error
		if file, err = os.Open(name); err != nil {
			return "", err
		}
		defer file.Close()
	}
	text, err := io.ReadAll(io.LimitReader(file, maxTokenFile))
	if err != nil {
		return "", err
	}
	words := strings.Fields(string(text))
	if len(words) == 0 {
		return "", fmt.Errorf("%s is empty", file.Name())
	}
	return words[len(words)-1], nil
}

// statusError is an error with the exit status of the process.
type statusError struct {
	error
	status int
}
