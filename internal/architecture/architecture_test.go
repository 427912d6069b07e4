// Package architecture_test checks the source of the module against its plan:
// which room may import which, and how long a file or a function may be.
package architecture_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/acsbridge/acsbridge"

// Bounds within which a file and a function can be read in one go.
const (
	maxFileLines     = 400
	maxFunctionLines = 70
)

// arrows say which rooms a room may import. A room is a directory of the first
// level with all below it. Nothing else may be imported across rooms, except
// internal, which knows no room itself.
var arrows = map[string][]string{
	"schemas":  {},
	"verify":   {},
	"publish":  {"schemas", "verify"},
	"ingest":   {"schemas", "verify", "publish"},
	"replay":   {"schemas"},
	"acstest":  {"schemas"},
	"internal": {},
	"faults":   {},
	"consume":  {"schemas", "replay"},
	"console":  {"schemas", "replay", "consume"},
	"examples": {"schemas", "consume"},
	"cmd":      {"schemas", "verify", "publish", "ingest", "replay", "consume", "console", "acstest"},
}

// simulators are the files of the command that may play ACS. No other may, so
// that serve has nothing that signs tokens.
var simulators = []string{"cmd/acsbridge/demo*.go", "cmd/acsbridge/post.go", "cmd/acsbridge/probe.go", "cmd/acsbridge/simulate.go", "cmd/acsbridge/trigger*.go"}

// TestSource checks this module.
func TestSource(t *testing.T) {
	source := os.DirFS("../..")
	if _, err := fs.Stat(source, "go.mod"); err != nil {
		t.Fatal(err)
	}
	faults, err := findFaults(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		t.Error(fault)
	}
}

// TestFindFaults_eachRule checks a module that breaks each rule.
func TestFindFaults_eachRule(t *testing.T) {
	long := func(lines int, in string) string { return fmt.Sprintf(in, strings.Repeat("\n", lines)) }
	source := fstest.MapFS{}
	for name, text := range map[string]string{
		"schemas/a.go":            `package schemas; import _ "github.com/google/uuid"`,
		"schemas/internal/a.go":   `package generate; import _ "github.com/google/uuid"`,
		"schemas/sub/a.go":        `package sub; import _ "encoding/json"; import _ "` + module + `/schemas"`,
		"verify/a.go":             `package verify; import _ "` + module + `/schemas"; import _ "` + module + `/internal/datadir"`,
		"verify/a_test.go":        `package verify_test; import _ "` + module + `/acstest"`,
		"verify/testdata/a.go":    `no Go`,
		"publish/journal/a.go":    `package journal; import _ "` + module + `/ingest"`,
		"internal/x/a.go":         `package x; import _ "` + module + `/verify"`,
		"attic/a.go":              `package attic`,
		"cmd/acsbridge/serve.go":  `package main; import _ "` + module + `/acstest"`,
		"cmd/acsbridge/demo_x.go": `package main; import _ "` + module + `/acstest"`,
		"ingest/file.go":          long(401, "package ingest%s"),
		"ingest/fits.go":          long(400, "package ingest%s"),
		"ingest/function.go":      long(70, "package ingest; func f() {%s}"),
		"ingest/method.go":        long(69, "package ingest; func (t) fits() {%s}; func (t) f() {\n}"),
	} {
		source[name] = &fstest.MapFile{Data: []byte(text)}
	}
	got, err := findFaults(source)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"attic/a.go: the room attic has no arrows; say here which rooms it may import",
		"cmd/acsbridge/serve.go: only those that play ACS may import acstest",
		"ingest/file.go: 401 lines, at most 400",
		"ingest/function.go:1: f has 71 lines, at most 70",
		"internal/x/a.go: internal may not import verify",
		"publish/journal/a.go: publish may not import ingest",
		"schemas/a.go: schemas may import the standard library only, not github.com/google/uuid",
		"verify/a.go: verify may not import schemas",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("faults (-want +got):\n", diff)
	}
}

// findFaults returns what is wrong with the source of a module, in the order of
// its files. Tests may import what they like and be as long as they must.
func findFaults(source fs.FS) (faults []string, err error) {
	err = fs.WalkDir(source, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && ignoredByGo(entry.Name()):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := fs.ReadFile(source, name)
		if err != nil {
			return err
		}
		positions := token.NewFileSet()
		file, err := parser.ParseFile(positions, name, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		faults = append(faults, imports(name, file)...)
		faults = append(faults, lengths(name, positions, file)...)
		return nil
	})
	return faults, err
}

// ignoredByGo reports whether a directory's files are no part of the module.
func ignoredByGo(directory string) bool {
	return directory == "testdata" || directory != "." && strings.HasPrefix(directory, ".") || strings.HasPrefix(directory, "_")
}

// imports returns the imports of a file that leave their arrows.
func imports(name string, file *ast.File) (faults []string) {
	room, _, _ := strings.Cut(name, "/")
	allowed, known := arrows[room]
	if !known {
		return []string{fmt.Sprintf("%s: the room %s has no arrows; say here which rooms it may import", name, room)}
	}
	for _, spec := range file.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic(err) // the parser has read it as a string
		}
		inner, ours := strings.CutPrefix(target, module+"/")
		to, _, _ := strings.Cut(inner, "/")
		switch {
		case !ours && room == "schemas" && strings.Contains(to, ".") && !strings.HasPrefix(name, "schemas/internal/"):
			faults = append(faults, fmt.Sprintf("%s: schemas may import the standard library only, not %s", name, target))
		case !ours || to == room:
		case to == "internal" && room != "schemas":
		case !slices.Contains(allowed, to):
			faults = append(faults, fmt.Sprintf("%s: %s may not import %s", name, room, to))
		case to == "acstest" && !simulates(name):
			faults = append(faults, name+": only those that play ACS may import acstest")
		}
	}
	return faults
}

// simulates reports whether a file may play ACS.
func simulates(name string) bool {
	return slices.ContainsFunc(simulators, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	})
}

// lengths returns what is too long in a file.
func lengths(name string, positions *token.FileSet, file *ast.File) (faults []string) {
	if lines := positions.File(file.FileStart).LineCount(); lines > maxFileLines {
		faults = append(faults, fmt.Sprintf("%s: %d lines, at most %d", name, lines, maxFileLines))
	}
	for _, declaration := range file.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok {
			continue
		}
		first, last := positions.Position(function.Pos()).Line, positions.Position(function.End()).Line
		if lines := last - first + 1; lines > maxFunctionLines {
			faults = append(faults, fmt.Sprintf("%s:%d: %s has %d lines, at most %d", name, first, function.Name.Name, lines, maxFunctionLines))
		}
	}
	return faults
}
