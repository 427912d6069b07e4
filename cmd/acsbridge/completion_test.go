package main

import (
	"slices"
	"strings"
	"testing"
)

// TestComplete asks what can be typed. The last word is not finished.
func TestComplete(t *testing.T) {
	ignoreEnvironment(t)
	for line, want := range map[string][]string{
		"":                       {"demo", "serve", "quarantine", "tail", "completion"},
		"qu":                     {"quarantine"},
		"deadletters ":           {"list", "show", "redrive", "drop"},
		"quarantine ":            {"list", "show", "redrive", "drop"},
		"help ":                  {"tail", "nats"},
		"completion ":            {"bash", "zsh", "fish", "powershell"},
		"tail --ty":              {"--type"},
		"tail ":                  {"--type", "--follow", "--nats-url", "--config"},
		"tail --type ":           {"CallConnected", "IncomingCall"},
		"tail --type CallDis":    {"CallDisconnected"},
		"tail --output=":         {"--output=pretty", "--output=json", "--output=raw"},
		"tail --follow --output": {"--output"},
		"serve --log-level ":     {"debug", "info", "warn", "error"},
		"serve --journal=o":      {"--journal=on", "--journal=off"},
		"trigger Call":           {"CallConnected"},
		"replay --call x --to":   {"--to"},
	} {
		words := strings.Split(line, " ")
		got := completions(t, words[:len(words)-1], words[len(words)-1])
		for _, word := range want {
			if !slices.Contains(got, word) {
				t.Errorf("%q: %q, want %q too", line, got, word)
			}
		}
	}
	for line, none := range map[string]string{
		"":                      "__complete",
		"tail --follow --fo":    "--follow",        // was given
		"tail --type ":          "--follow",        // it wants a value
		"tail --config ":        "--type",          // a file
		"trigger CallConnected": "CallTransferred", // does not begin so
		"call x ":               "CallConnected",
	} {
		words := strings.Split(line, " ")
		if got := completions(t, words[:len(words)-1], words[len(words)-1]); slices.Contains(got, none) {
			t.Errorf("%q: %q, want no %q", line, got, none)
		}
	}
}

// completions runs the command that the shells' scripts call.
func completions(t *testing.T, words []string, current string) (completions []string) {
	t.Helper()
	parser, out := parserFor(t)
	command, err := parser.Parse(append([]string{"__complete", "--current=" + current, "--"}, words...))
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Run(stdio{out: out, err: out}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		word, _, tab := strings.Cut(line, "\t")
		if !tab {
			t.Errorf("no tab in %q", line)
		}
		completions = append(completions, word)
	}
	return completions
}
