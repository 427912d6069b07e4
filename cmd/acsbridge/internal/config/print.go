package config

import (
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// print writes the settings as a YAML file that --config reads back, each with
// where it came from. A secret is a comment, so that no bridge starts
// with the mask for a password.
func (s *Settings) print(w io.Writer) error {
	for _, flag := range s.flags {
		origin := s.sources.originOf(flag.Name)
		value := flag.Target.Interface()
		line, err := yaml.Marshal(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
			{Kind: yaml.ScalarNode, Value: flag.Name},
			yamlNode(value, origin),
		}})
		if err != nil {
			return fmt.Errorf("print %s: %w", flag.Name, err)
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	for _, secret := range Secrets {
		if s.sources.lookUp(secret.Name) == nil {
			continue
		}
		if _, err := fmt.Fprintf(w, "# %s: %s # %s\n", secret.Name, secretMask, s.sources.originOf(secret.Name)); err != nil {
			return err
		}
	}
	return nil
}

// yamlNode is the value of a setting with a comment. Text is quoted where YAML
// would take it for something else; the other types are never ambiguous.
func yamlNode(value any, comment string) *yaml.Node {
	switch v := value.(type) {
	case string:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v, LineComment: comment}
	case []string:
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle, LineComment: comment}
		for _, item := range v {
			list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: item})
		}
		return list
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(v), LineComment: comment}
	}
}

// Examine makes problems of the settings a result of [Settings.Problems]; else they end
// the command. It must be called before the settings are resolved.
func (s *Settings) Examine() { s.examined = true }

// Problems returns what is wrong with the settings, one line each.
func (s *Settings) Problems() (list []string) {
	for _, p := range s.found {
		list = append(list, p.String())
	}
	return list
}

// Value is a setting as text, and where it came from.
type Value struct{ Setting, Text, Origin string }

// Changed returns the settings that do not have their default, and how many have it.
// Secrets are masked.
func (s *Settings) Changed() (list []Value, defaults int) {
	for _, flag := range s.flags {
		origin := s.sources.originOf(flag.Name)
		switch {
		case origin == originDefault || origin == originNone:
			defaults++
		default:
			text := fmt.Sprint(flag.Target.Interface())
			if several, ok := flag.Target.Interface().([]string); ok {
				text = strings.Join(several, ", ")
			}
			list = append(list, Value{flag.Name, text, origin})
		}
	}
	for _, secret := range Secrets {
		if s.sources.lookUp(secret.Name) != nil {
			list = append(list, Value{secret.Name, secretMask, s.sources.originOf(secret.Name)})
		}
	}
	return list, defaults
}
