// Command generate writes what can be derived from the Go types of package
// schemas, so that they are the one source of the contract. The comments of
// types, fields and headers are the descriptions; each schema gets the example of
// its type in schemas/examples, which is written by hand.
//
// It runs by go generate ./schemas, in that directory and in two steps, since the
// pages are made of the schemas that the package embeds:
//
//	schemas  the JSON Schemas of the types
//	pages    asyncapi.yaml, and docs/events.md for people
package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	if err := run(os.Args[1:], "."); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// run writes the files of one step that belong to the package in a directory.
func run(args []string, directory string) error {
	if len(args) != 1 || steps[args[0]] == nil {
		return errors.New("usage: generate schemas|pages")
	}
	files, err := generate(args[0], directory)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := os.WriteFile(filepath.Join(directory, name), files[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// steps add files by their path from the package's directory.
var steps = map[string]func(files map[string][]byte, s *source, directory string) error{
	"schemas": addSchemas,
	"pages":   addPages,
}

// generate returns the files of one step.
func generate(step, directory string) (map[string][]byte, error) {
	source, err := readSource(directory)
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	return files, steps[step](files, source, directory)
}
