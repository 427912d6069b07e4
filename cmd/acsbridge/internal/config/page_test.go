package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
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
	text, err := os.ReadFile(configurationPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, start := strings.Cut(string(text), referenceStart)
	got, after, end := strings.Cut(rest, referenceEnd)
	if !start || !end {
		t.Fatalf("no reference in %s", configurationPage)
	}
	want := settingsReference()
	if *update {
		page := before + referenceStart + want + referenceEnd + after
		if err := os.WriteFile(configurationPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the page differs from the flags; run with -update (-want +got):\n%s", diff)
	}
}

// settingsReference is one table a group of settings.
func settingsReference() string {
	var b strings.Builder
	group := ""
	for _, flag := range Flags() {
		if flag.Group.Title != group {
			group = flag.Group.Title
			fmt.Fprintf(&b, "\n### %s\n\n| setting | variable | default | meaning |\n|---|---|---|---|\n", strings.TrimSuffix(group, ":"))
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n",
			flag.Name, strings.Join(EnvNames(flag.Name), "`, `"), defaultOf(flag), flag.Help)
		for _, secret := range Secrets {
			if flag.Name == secret.Name+"-file" {
				fmt.Fprintf(&b, "| `%s` | `%s` |  | %s |\n", secret.Name, strings.Join(EnvNames(secret.Name), "`, `"), secret.Help)
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
