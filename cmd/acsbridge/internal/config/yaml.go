package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"

	"github.com/acsbridge/acsbridge/internal/secretfile"
)

// maxConfigFile bounds the configuration file; one with every setting has 4 KiB.
const maxConfigFile = 256 << 10

// fileValue is one setting of a YAML file.
type fileValue struct {
	value any // string, or []any of strings
	path  string
	line  int
}

// origin is the place of the value, for people.
func (v fileValue) origin() string { return fmt.Sprintf("%s:%d", filepath.Base(v.path), v.line) }

// readYAML reads settings from the file at path: one mapping from their names
// to scalars, or to lists of scalars where a setting is repeatable. Whatever
// else is in the mapping is returned as problems; an error means that there is
// no mapping to read.
func readYAML(path string, settings []*kong.Flag) (map[string]fileValue, []problem, error) {
	root, err := yamlMapping(path)
	if err != nil || root == nil {
		return nil, nil, err
	}
	repeatable := map[string]bool{}
	for _, flag := range settings {
		repeatable[flag.Name] = flag.IsSlice()
	}
	for _, secret := range Secrets {
		repeatable[secret.Name] = false
	}
	values := map[string]fileValue{}
	var problems []problem
	for i := 0; i < len(root.Content); i += 2 {
		name, entry := root.Content[i].Value, fileValue{path: path, line: root.Content[i].Line}
		fault := ""
		if _, known := repeatable[name]; !known {
			fault = "no such setting" + closest(name, slices.Sorted(maps.Keys(repeatable)))
		} else if first, ok := values[name]; ok {
			fault = fmt.Sprintf("given twice, first in line %d", first.line)
		} else {
			entry.value, fault = plainValue(root.Content[i+1], repeatable[name])
		}
		if fault != "" {
			problems = append(problems, problem{setting: name, origin: entry.origin(), fault: fault})
			continue
		}
		values[name] = entry
	}
	return values, problems, nil
}

// yamlMapping returns the one mapping in the file at path, nil when the file
// says nothing.
func yamlMapping(path string) (*yaml.Node, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, secretfile.Explain(err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxConfigFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxConfigFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxConfigFile)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, more yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, withoutAnchor(err)
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s holds more than one YAML document", path)
	}
	switch root := document.Content[0]; {
	case root.Kind == yaml.MappingNode:
		return root, nil
	case root.Tag == "!!null":
		return nil, nil
	}
	return nil, fmt.Errorf("%s is not a YAML mapping; write one setting a line, like listen: 127.0.0.1:8080", path)
}

// withoutAnchor is a YAML error without the name of a missing anchor. YAML
// takes an unquoted *text for a reference, and the text may be a password.
func withoutAnchor(err error) error {
	if strings.Contains(err.Error(), "anchor") {
		return errors.New("a value that starts with * is a reference in YAML; put it in quotes")
	}
	return err
}

// plainValue returns the text of a scalar, or the texts of a list of scalars.
// The fault never repeats the value, which may be a secret.
func plainValue(node *yaml.Node, repeatable bool) (value any, fault string) {
	switch {
	case node.Kind == yaml.ScalarNode && node.Tag == "!!null":
		return nil, "has no value; write one or remove the line"
	case node.Kind == yaml.ScalarNode:
		return node.Value, ""
	case node.Kind != yaml.SequenceNode || !repeatable:
		return nil, "must be a single value"
	}
	var values []any
	for _, item := range node.Content {
		text, fault := plainValue(item, false)
		if fault != "" {
			return nil, "must be a list of single values"
		}
		values = append(values, text)
	}
	return values, ""
}
