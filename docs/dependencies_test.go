package docs_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPages_dependencies checks that docs/dependencies.md has a row for every
// module that go.mod requires directly and for every tool, and for nothing
// else.
func TestPages_dependencies(t *testing.T) {
	want := directDependencies(read(t, "go.mod"))
	if len(want) == 0 {
		t.Fatal("no direct dependencies found in go.mod")
	}
	var got []string
	for _, row := range dependencyRow.FindAllStringSubmatch(read(t, "docs/dependencies.md"), -1) {
		got = append(got, row[1])
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/dependencies.md differs from go.mod (-go.mod +page):\n%s", diff)
	}
}

// dependencyRow matches a row of a table whose first cell is a module path.
var dependencyRow = regexp.MustCompile("(?m)^\\| `([a-z][^`]*/[^`]*)` \\|")

// directDependencies returns the modules that a go.mod requires without the
// mark "// indirect", and the packages of its tools, sorted.
func directDependencies(mod string) []string {
	direct := map[string]bool{}
	block := "" // the directive whose parentheses are open
	for line := range strings.Lines(mod) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && fields[1] == "(":
			block = fields[0]
			continue
		case len(fields) > 0 && fields[0] == ")":
			block = ""
		case block != "":
			fields = append([]string{block}, fields...)
		}
		if len(fields) < 2 || strings.HasSuffix(strings.TrimSpace(line), "// indirect") {
			continue
		}
		if fields[0] == "require" || fields[0] == "tool" {
			direct[fields[1]] = true
		}
	}
	return slices.Sorted(maps.Keys(direct))
}
