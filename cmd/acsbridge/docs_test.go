package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

// configurationPage holds the reference of all settings between two marks.
const (
	configurationPage = "../../docs/configuration.md"
	referenceStart    = "<!-- reference: written by go test ./cmd/acsbridge -run TestConfigurationPage -update -->\n"
	referenceEnd      = "<!-- end of reference -->\n"
)

// TestConfigurationPage checks that the page has every setting as the command
// line has it.
func TestConfigurationPage(t *testing.T) {
	text, err := os.ReadFile(configurationPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, start := strings.Cut(string(text), referenceStart)
	got, after, end := strings.Cut(rest, referenceEnd)
	if !start || !end {
		t.Fatalf("no reference in %s", configurationPage)
	}
	want := settingsReference(t)
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
func settingsReference(t *testing.T) string {
	t.Helper()
	parser, err := newParser(&serveCmd{}, stdio{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	group := ""
	for _, flag := range parser.Model.Flags {
		if !isSetting(flag.Name) {
			continue
		}
		if flag.Group.Title != group {
			group = flag.Group.Title
			fmt.Fprintf(&b, "\n### %s\n\n| setting | variable | default | meaning |\n|---|---|---|---|\n", strings.TrimSuffix(group, ":"))
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n",
			flag.Name, strings.Join(envNames(flag.Name), "`, `"), defaultOf(flag), flag.Help)
		for _, secret := range secretSettings {
			if flag.Name == secret.name+"-file" {
				fmt.Fprintf(&b, "| `%s` | `%s` |  | %s |\n", secret.name, strings.Join(envNames(secret.name), "`, `"), secret.help)
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

// TestPagesNameRealSettings checks that the pages name no flag or variable
// that does not exist.
func TestPagesNameRealSettings(t *testing.T) {
	parser, err := newParser(&cli{}, stdio{})
	if err != nil {
		t.Fatal(err)
	}
	flags := []*kong.Flag{parser.Model.HelpFlag}
	commands := parser.Model.Children
	for len(commands) > 0 {
		flags = append(flags, commands[0].Flags...)
		commands = append(commands[1:], commands[0].Children...)
	}
	known := map[string]bool{}
	for _, flag := range flags {
		known["--"+flag.Name] = true
		for _, name := range envNames(flag.Name) {
			known[name] = true
		}
	}
	for _, secret := range secretSettings {
		for _, name := range envNames(secret.name) {
			known[name] = true
		}
	}
	pages := []string{
		"README.md", "CHANGELOG.md", "docs/configuration.md", "docs/deployment.md", "docs/operations.md", "docs/messages.md", "docs/security.md",
		"docs/consuming.md", "docs/replay.md",
	}
	for _, page := range pages {
		text := readDeployment(t, page)
		for _, name := range settingName.FindAllString(text, -1) {
			if !known[name] && !foreignFlags[name] {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
}

// settingName matches what looks like a flag or a variable of ours.
var settingName = regexp.MustCompile(`--[a-z][a-z-]*[a-z]|\b(ACSBRIDGE|NATS)_[A-Z_]*[A-Z]`)

// foreignFlags are the flags of docker, az, nats and base64 in the pages.
var foreignFlags = map[string]bool{
	"--env-file": true, "--profile": true, "--tag": true, "--build-arg": true, "--read-only": true, "--cap-drop": true,
	"--volume": true, "--publish": true, "--env": true, "--stop-timeout": true,
	"--name": true, "--resource-group": true, "--query": true, "--output": true,
	"--all": true, "--new": true, "--last-for": true, "--jetstream": true, "--force-stdin": true, "--decode": true,
	"--subjects": true, "--storage": true, "--retention": true, "--discard": true, "--max-age": true, "--max-bytes": true,
	"--dupe-window": true, "--compression": true, "--allow-direct": true, "--replicas": true, "--defaults": true,
	"--pull": true, "--filter": true, "--ack": true, "--max-deliver": true, "--deliver": true, "--wait": true, "--now": true, "--signal": true, "--since": true, "--js-domain": true,
	"--allow-msg-ttl": true, "--display-name": true, "--sign-in-audience": true, "--id": true, "--source-resource-id": true,
	"--included-event-types": true, "--endpoint": true, "--event-delivery-schema": true, "--max-delivery-attempts": true, "--event-ttl": true,
	"--azure-active-directory-tenant-id": true, "--azure-active-directory-application-id-or-uri": true, "--deadletter-endpoint": true,
	"--max-events-per-batch": true, "--preferred-batch-size-in-kilobytes": true,
}
