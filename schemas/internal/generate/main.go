// Command generate writes what can be derived from the Go types of package
// schemas, so that they are the one source of the contract: the methods that
// decode and encode them, and their JSON Schemas. The comments of types and
// fields are the descriptions; each schema gets the example of its type in
// schemas/examples, which is written by hand.
//
// It runs by go generate ./schemas, in that directory.
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// run writes the files that belong to the package in a directory.
func run(directory string) error {
	files, err := generate(directory)
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

// generate returns the files that belong to the package in a directory, by
// their path from there.
func generate(directory string) (map[string][]byte, error) {
	source, err := readSource(directory)
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	if files["codec.go"], err = codec(); err != nil {
		return nil, err
	}
	if err := addSchemas(files, source, filepath.Join(directory, "examples")); err != nil {
		return nil, err
	}
	return files, nil
}
