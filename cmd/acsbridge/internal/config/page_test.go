package config

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "rewrite the reference of docs/configuration.md")

// configurationPage holds the reference of all settings between two marks.
const (
	configurationPage = "../../../../docs/configuration.md"
	referenceStart    = "<!-- reference: written by go test ./cmd/acsbridge/internal/config -update -->\n"
	referenceEnd      = "<!-- end of reference -->\n"
)

// TestSettings_page checks that the page has every setting as the command
// line has it.
func TestSettings_page(t *testing.T) {
	bridgetest.Reference(t, configurationPage, referenceStart, referenceEnd, settingsReference(), *update)
}

// settingsReference is one table a group of settings.
func settingsReference() string {
	var b strings.Builder
	group := ""
	row := func(name, defaultValue, meaning string) {
		// The first variable follows from the name; NATS settings have a second one.
		for _, variable := range EnvNames(name)[1:] {
			meaning += fmt.Sprintf(" Also `%s`.", variable)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, defaultValue, meaning)
	}
	for _, flag := range Flags() {
		if flag.Group.Title != group {
			group = flag.Group.Title
			fmt.Fprintf(&b, "\n### %s\n\n| setting | default | meaning |\n|---|---|---|\n", strings.TrimSuffix(group, ":"))
		}
		row(flag.Name, defaultOf(flag), flag.Help)
		for _, secret := range Secrets {
			if flag.Name == secret.Name+"-file" {
				row(secret.Name, "", secret.Help)
			}
		}
	}
	return b.String() + "\n"
}

// defaultOf is the default of a flag for a table.
func defaultOf(flag *kong.Flag) string {
	switch {
	case flag.Default != "":
		return "`" + flag.Default + "`"
	case flag.IsBool():
		return "`false`"
	}
	return ""
}
