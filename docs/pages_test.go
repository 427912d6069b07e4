// Package docs_test holds the pages against the source.
package docs_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// read reads a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPages_headers checks that the contract's page has every header of
// a message, as package schemas spells it.
func TestPages_headers(t *testing.T) {
	names := headerNames(t)
	for _, page := range []string{"docs/messages.md", "CHANGELOG.md"} {
		text := read(t, page)
		for _, name := range names {
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("%s does not name the header %s", page, name)
			}
		}
	}
}

// headerNames returns the headers that package schemas names, sorted.
func headerNames(t *testing.T) (names []string) {
	t.Helper()
	for _, constant := range headerConstant.FindAllStringSubmatch(read(t, "schemas/header.go"), -1) {
		names = append(names, constant[1])
	}
	if len(names) == 0 {
		t.Fatal("no headers found in schemas/header.go")
	}
	return distinct(names)
}

var headerConstant = regexp.MustCompile(`(?m)^\tHeader\w+ += "([\w-]+)"`)

// TestPages_logMessages checks that the page for operators names every message
// that a bridge or a service writes at info and above, and none that they do not.
func TestPages_logMessages(t *testing.T) {
	_, section, _ := strings.Cut(read(t, "docs/operations.md"), "\n## Logs\n")
	section, _, _ = strings.Cut(section, "\n## ")
	named := make(map[string]bool) // and whether there is such a message
	for _, row := range logRow.FindAllStringSubmatch(section, -1) {
		for _, message := range backquoted.FindAllStringSubmatch(row[1], -1) {
			named[strings.TrimSuffix(message[1], " …")] = false
		}
	}
	for _, written := range logMessages(t) {
		found := false
		for message := range named {
			if message == written || strings.HasPrefix(written, message) && strings.Contains(section, "`"+message+" …`") {
				named[message], found = true, true
			}
		}
		if !found {
			t.Errorf("docs/operations.md does not name the message %q", written)
		}
	}
	for message, there := range named {
		if !there {
			t.Errorf("docs/operations.md names %q, which is not written", message)
		}
	}
}

var (
	logRow     = regexp.MustCompile(`(?m)^\| (?:info|warn|error)[^|]* \| ([^|]+) \|`)
	backquoted = regexp.MustCompile("`([^`]+)`")
	// logMessage matches the message of a call that logs, and those of notes. Package
	// consume has warn and pause.
	logMessage = regexp.MustCompile(`(?:\.(?:Info|Warn|Error)\(|\b(?:level|slog\.Level(?:Info|Warn|Error)),\s+|\tnote\w+:\s+|\.warn\(|\.pause\(\w+, |const text = )"([^"]+)"`)
)

// logMessages returns the messages in the source of serve and of services, sorted.
func logMessages(t *testing.T) (messages []string) {
	t.Helper()
	for _, dir := range []string{"cmd/acsbridge", "cmd/acsbridge/internal/bridge", "ingest", "ingest/edge", "verify", "publish", "publish/journal", "publish/embedded", "internal/natsconn", "internal/tracing", "consume", "console"} {
		files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no source in %s: %v", dir, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, message := range logMessage.FindAllStringSubmatch(read(t, strings.TrimPrefix(filepath.ToSlash(file), "../")), -1) {
				messages = append(messages, strings.TrimSpace(message[1]))
			}
		}
	}
	return distinct(messages)
}

func distinct(names []string) []string {
	set := map[string]bool{}
	for _, name := range names {
		set[name] = true
	}
	return slices.Sorted(maps.Keys(set))
}
