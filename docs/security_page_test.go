package docs_test

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

// TestPages_security holds docs/security.md to its word: every test
// and every file that it names is there, and no threat is without a test.
func TestPages_security(t *testing.T) {
	tests := testsOfTheModule(t)
	rows := 0
	_, table, found := strings.Cut(read(t, "docs/security.md"), "| threat | met by | where | tests |\n|---|---|---|---|\n")
	if !found {
		t.Fatal("there is no table of threats")
	}
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		rows++
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 4 {
			t.Errorf("%d cells: %s", len(cells), line)
			continue
		}
		places, named := quoted.FindAllStringSubmatch(cells[2], -1), quoted.FindAllStringSubmatch(cells[3], -1)
		if len(places) == 0 || len(named) == 0 {
			t.Errorf("no place or no test: %s", line)
		}
		for _, place := range places {
			if _, err := os.Stat("../" + place[1]); err != nil {
				t.Error(err)
			}
		}
		for _, name := range named {
			if !tests[name[1]] {
				t.Errorf("there is no test %s", name[1])
			}
		}
	}
	if rows < 20 {
		t.Errorf("the table has %d rows", rows)
	}
}

var (
	quoted       = regexp.MustCompile("`([^`]+)`")
	testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

// testsOfTheModule returns the names of all tests, fuzz targets and stories.
func testsOfTheModule(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(name string, _ fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case strings.HasSuffix(name, "_test.go"):
			text, err := fs.ReadFile(root, name)
			if err != nil {
				return err
			}
			for _, function := range testFunction.FindAllSubmatch(text, -1) {
				names[string(function[1])] = true
			}
		case path.Ext(name) == ".txtar":
			names[strings.TrimSuffix(path.Base(name), ".txtar")] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
