package main

import (
	"regexp"
	"testing"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

// TestPages_settings checks that the pages name no flag or variable
// that does not exist.
func TestPages_settings(t *testing.T) {
	parser, err := newParser(&cli{}, stdio{})
	if err != nil {
		t.Fatal(err)
	}
	flags := parser.Model.Node.Flags
	commands := parser.Model.Children
	for len(commands) > 0 {
		flags = append(flags, commands[0].Flags...)
		commands = append(commands[1:], commands[0].Children...)
	}
	known := map[string]bool{config.WebhookSecret: true}
	for _, flag := range flags {
		known["--"+flag.Name] = true
		for _, name := range config.EnvNames(flag.Name) {
			known[name] = true
		}
	}
	for _, secret := range config.Secrets {
		for _, name := range config.EnvNames(secret.Name) {
			known[name] = true
		}
	}
	pages := []string{
		"README.md", "CHANGELOG.md", "docs/configuration.md", "docs/deployment.md", "docs/operations.md", "docs/messages.md", "docs/security.md",
		"docs/consuming.md", "docs/replay.md", "docs/probe.md", "docs/console.md",
	}
	for _, page := range pages {
		text := bridgetest.ReadFile(t, "../../"+page)
		for _, name := range settingName.FindAllString(text, -1) {
			if !known[name] && !foreignFlags[name] {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
}

// settingName matches what looks like a flag or a variable of ours.
var settingName = regexp.MustCompile(`--[a-z][a-z-]*[a-z]|\b(ACSBRIDGE|NATS)_[A-Z_]*[A-Z]`)

// foreignFlags are the flags of docker, helm, az, nats, base64, sha256sum and .ci/release in the pages.
var foreignFlags = map[string]bool{
	"--namespace": true, "--values": true,
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
	"--snapshot": true, "--check": true, "--ignore-missing": true,
	"--max-events-per-batch": true, "--preferred-batch-size-in-kilobytes": true,
}
