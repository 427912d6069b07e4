// Package docs_test checks the pages as a whole: what they link to and name exists.
package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	codeBlock = regexp.MustCompile("(?ms)^```.*?^```")
	codeSpan  = regexp.MustCompile("`[^`\n]+`")
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInSlug = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// TestPages_linksExist checks that each link of a page to a file of the repository, and to a
// heading of a page, leads somewhere.
func TestPages_linksExist(t *testing.T) {
	checked := 0
	for _, page := range pages(t) {
		text := codeSpan.ReplaceAllString(codeBlock.ReplaceAllString(read(t, page), ""), "")
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			checked++
			path, anchor, _ := strings.Cut(match[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which does not exist", page, match[1])
			} else if anchor != "" && !anchors(read(t, target))[anchor] {
				t.Errorf("%s links to %s, but the page has no such heading", page, match[1])
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d links were found in the pages", checked)
	}
}

// TestArchitecture_filesExist checks that each file and directory that the page names exists.
func TestArchitecture_filesExist(t *testing.T) {
	checked := 0
	for _, span := range codeSpan.FindAllString(codeBlock.ReplaceAllString(read(t, "architecture.md"), ""), -1) {
		name := strings.Trim(span, "`")
		if !sourcePath.MatchString(name) {
			continue
		}
		checked++
		if matches, err := filepath.Glob(filepath.Join("..", name)); err != nil || len(matches) == 0 {
			t.Errorf("architecture.md names %s, which does not exist", name)
		}
	}
	if checked < 30 {
		t.Errorf("only %d files were found in the page", checked)
	}
}

// sourcePath matches what the page means as a path below the root of the repository.
var sourcePath = regexp.MustCompile(`^[a-z.][\w./*-]*(/[\w.*-]*|\.(go|md|yaml|txtar))$`)

// pages returns the Markdown files of the repository.
func pages(t *testing.T) (pages []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules" || entry.Name() == "testdata"):
			return filepath.SkipDir
		case filepath.Ext(path) == ".md":
			pages = append(pages, path)
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
	for _, match := range heading.FindAllStringSubmatch(codeBlock.ReplaceAllString(page, ""), -1) {
		slug := notInSlug.ReplaceAllString(strings.ToLower(match[1]), "")
		names[strings.ReplaceAll(slug, " ", "-")] = true
	}
	return names
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
