package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// parserFor returns a parser that ends no process, and what it prints.
func parserFor(t *testing.T) (*kong.Kong, *bytes.Buffer) {
	t.Helper()
	out := new(bytes.Buffer)
	parser, err := newParser(&cli{}, stdio{out: out, err: out})
	if err != nil {
		t.Fatal(err)
	}
	parser.Exit = func(int) {}
	return parser, out
}

// commandPaths returns the words of each command that is shown, "" for none.
func commandPaths(t *testing.T) (paths []string) {
	t.Helper()
	parser, _ := parserFor(t)
	nodes := []*kong.Node{parser.Model.Node}
	for len(nodes) > 0 {
		node := nodes[0]
		nodes = append(nodes[1:], node.Children...)
		if !node.Hidden {
			paths = append(paths, node.Path())
		}
	}
	if len(paths) < 20 {
		t.Fatalf("only %d commands: %q", len(paths), paths)
	}
	return paths
}

// TestHelp_everyCommand holds every help text to 80 columns, and each command to two
// examples.
func TestHelp_everyCommand(t *testing.T) {
	ignoreEnvironment(t)
	t.Setenv("COLUMNS", "200")
	const atMost = 80
	for _, path := range append(commandPaths(t), natsTopic) {
		t.Run(path, func(t *testing.T) {
			parser, out := parserFor(t)
			command, err := parser.Parse(append([]string{"help"}, strings.Fields(path)...))
			if err != nil {
				t.Fatal(err)
			}
			if err := command.Run(stdio{out: out, err: out}); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out.String()) {
				if columns := utf8.RuneCountInString(strings.TrimRight(line, "\n")); columns > atMost {
					t.Errorf("%d columns, want at most %d: %s", columns, atMost, line)
				}
			}
			if got := strings.Count(out.String(), "\n  # "); path != "" && got < 2 {
				t.Errorf("%d examples, want two:\n%s", got, out)
			}
			if strings.Contains(out.String(), "--nats-creds") != (path == "serve" || path == natsTopic) {
				t.Errorf("the flags of NATS are in serve and in the topic, and nowhere else:\n%s", out)
			}
			if path == "" || path == natsTopic {
				return
			}
			asked, want := out.String(), ""
			parser, out = parserFor(t)
			_, _ = parser.Parse(append(strings.Fields(path), "--help")) // arguments may be missing
			if want = out.String(); asked != want {
				t.Errorf("help %s prints\n%s\n--help prints\n%s", path, asked, want)
			}
		})
	}
}

// TestExamples parses each example of the help texts.
func TestExamples(t *testing.T) {
	ignoreEnvironment(t)
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"bridge.yaml": "resource: contoso=" + testGUID + "\nnats-url: nats://127.0.0.1:4222", "reader.creds": "x", "key.pem": "x", "admin-token": testSecret, "metrics-token": testSecret, "console-token": testSecret + "0",
		"crm.secret": newWebhookSecret, "new.secret": newWebhookSecret, "old.secret": oldWebhookSecret,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for of, list := range examples {
		for _, example := range list {
			_, line, found := strings.Cut(example.command, "acsbridge ")
			if i := strings.IndexAny(line, "|>)"); i >= 0 {
				line = line[:i]
			}
			words := strings.Fields(line)
			if path := strings.Fields(of); !found || of != natsTopic && !strings.HasPrefix(line+" ", strings.Join(path, " ")+" ") {
				t.Errorf("an example of %q is %q", of, example.command)
			}
			parser, out := parserFor(t)
			if _, err := parser.Parse(words); err != nil {
				t.Errorf("%s: %v\n%s", example.command, err, out)
			}
		}
	}
}

// TestMan_everyCommand writes all pages, and checks that each has what help has.
func TestMan_everyCommand(t *testing.T) {
	ignoreEnvironment(t)
	dir := filepath.Join(t.TempDir(), "man1")
	parser, out := parserFor(t)
	command, err := parser.Parse([]string{"man", "--dir", dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Run(stdio{out: out, err: out}); err != nil {
		t.Fatal(err)
	}
	paths := commandPaths(t)
	for _, path := range paths {
		name := strings.ReplaceAll(strings.TrimSpace("acsbridge "+path), " ", "-") + ".1"
		page, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		node, err := commandNode(parser, strings.Fields(path))
		if err != nil {
			t.Fatal(err)
		}
		want := []string{".SH \"NAME\"\n", ".SH \"OPTIONS\"\n", ".SH \"EXIT STATUS\"\n"}
		if node.Parent != nil {
			for _, flag := range node.Flags {
				want = append(want, `\fB`+strings.ReplaceAll(flag.String(), "-", `\-`)+`\fR`)
			}
			want = append(want, ".EX\n")
		}
		for _, text := range want {
			if !bytes.Contains(page, []byte(text)) {
				t.Errorf("%s has no %q", name, text)
			}
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != len(paths) {
		t.Errorf("%d pages of %d commands: %v", len(entries), len(paths), err)
	}
}
