package docs_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	fenced    = regexp.MustCompile("(?ms)^```.*?^```")
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInSlug = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	testName  = regexp.MustCompile(`^(?:Test|Fuzz)\w+$`)
	// sourcePath matches what a page means as a path from the root of the repository.
	sourcePath = regexp.MustCompile(`^[a-z.][\w./*-]*(?:/[\w.*-]*|\.(?:go|md|yaml|txtar))$`)
)

// TestPages_linksExist checks that each link of a page to a file of the repository, and
// to a heading of a page, leads somewhere.
func TestPages_linksExist(t *testing.T) {
	checked := 0
	for _, page := range pages(t) {
		for _, match := range link.FindAllStringSubmatch(quoted.ReplaceAllString(prose(t, page), ""), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			checked++
			target, anchor, _ := strings.Cut(match[1], "#")
			if target = path.Join(path.Dir(page), target); strings.HasPrefix(match[1], "#") {
				target = page
			}
			if _, err := os.Stat("../" + target); err != nil {
				t.Errorf("%s links to %s, which does not exist", page, match[1])
			} else if anchor != "" && !anchors(prose(t, target))[anchor] {
				t.Errorf("%s links to %s, a heading that does not exist", page, match[1])
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d links were found in the pages", checked)
	}
}

// TestPages_testsExist checks that each test that a page names exists.
func TestPages_testsExist(t *testing.T) {
	tests := testsOfTheModule(t)
	for _, page := range pages(t) {
		for _, name := range quoted.FindAllStringSubmatch(prose(t, page), -1) {
			if testName.MatchString(name[1]) && !tests[name[1]] {
				t.Errorf("%s names the test %s, which does not exist", page, name[1])
			}
		}
	}
}

// TestArchitecturePage_filesExist checks that each file and directory that the page
// names exists.
func TestArchitecturePage_filesExist(t *testing.T) {
	checked := 0
	for _, name := range quoted.FindAllStringSubmatch(prose(t, "docs/architecture.md"), -1) {
		if !sourcePath.MatchString(name[1]) {
			continue
		}
		checked++
		if matches, err := filepath.Glob(filepath.Join("..", name[1])); err != nil || len(matches) == 0 {
			t.Errorf("docs/architecture.md names %s, which does not exist", name[1])
		}
	}
	if checked < 30 {
		t.Errorf("only %d files were found in the page", checked)
	}
}

// prose returns a page without its blocks of code.
func prose(t *testing.T, page string) string {
	t.Helper()
	return fenced.ReplaceAllString(read(t, page), "")
}

// pages returns the Markdown files of the repository.
func pages(t *testing.T) (pages []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(".."), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "testdata"):
			return fs.SkipDir
		case path.Ext(name) == ".md":
			pages = append(pages, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// anchors returns the fragments that the headings of a page have on GitHub.
func anchors(page string) map[string]bool {
	names := make(map[string]bool)
	for _, match := range heading.FindAllStringSubmatch(page, -1) {
		slug := notInSlug.ReplaceAllString(strings.ToLower(match[1]), "")
		names[strings.ReplaceAll(slug, " ", "-")] = true
	}
	return names
}
