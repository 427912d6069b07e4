package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/acsbridge/acsbridge/schemas"
)

const dialect = "https://json-schema.org/draft/2020-12/schema"

// addSchemas adds the schema of each type in the catalogue, that of the envelope, and
// the one that holds what they share.
func addSchemas(files map[string][]byte, s *source, directory string) error {
	examples := filepath.Join(directory, "examples")
	add := func(name string, build func() (object, error)) error {
		schema, err := build()
		if err != nil {
			return fmt.Errorf("schema of %s: %w", name, err)
		}
		head := object{{"$schema", dialect}, {"$id", schemas.SchemaID(name)}}
		files["json/"+name+".json"], err = append(head, schema...).document()
		return err
	}
	for _, t := range schemas.Types() {
		if err := add(t.Name, func() (object, error) { return s.event(&t, examples) }); err != nil {
			return err
		}
	}
	if err := add("envelope", s.envelope); err != nil {
		return err
	}
	return add("shared", s.shared)
}

// event describes a whole event of a type.
func (s *source) event(t *schemas.Type, examples string) (object, error) {
	data := reflect.TypeOf(t.NewData()).Elem()
	description, err := s.comment(t.Name)
	if err != nil {
		return nil, err
	}
	properties, err := s.properties(data)
	if err != nil {
		return nil, err
	}
	example, err := os.ReadFile(filepath.Join(examples, t.Name+".json"))
	if err != nil {
		return nil, err
	}
	o := object{{"title", t.Name}, {"description", description}}
	o.set("x-family", string(t.Family))
	o.set("x-status", string(t.Status))
	o.set("x-since-api-version", t.Since)
	o.set("allOf", []object{{{"$ref", "envelope.json"}}})
	o.set("properties", object{
		{"type", object{{"const", t.CloudEventsType()}}},
		{"data", object{{"type", "object"}, {"properties", properties}}},
	})
	o.set("examples", []json.RawMessage{example})
	return o, nil
}

// envelope describes what every event has around its data. What the bridge
// holds an event to is required.
func (s *source) envelope() (object, error) {
	t := reflect.TypeFor[schemas.Event]()
	properties, err := s.properties(t)
	return object{
		{"title", "Event"},
		{"description", "An event of Azure Communication Services as a message's payload holds it: a CloudEvent 1.0 in the JSON format."},
		{"type", "object"},
		{"required", []string{"id", "source", "type", "specversion"}},
		{"properties", properties},
	}, err
}

// shared holds the objects that are inside the data of events.
func (s *source) shared() (object, error) {
	found := make(map[string]reflect.Type)
	for _, t := range schemas.Types() {
		addObjects(found, reflect.TypeOf(t.NewData()).Elem())
	}
	for _, t := range schemas.Types() {
		delete(found, t.Name)
	}
	var definitions object
	for _, name := range slices.Sorted(maps.Keys(found)) {
		description, err := s.comment(name)
		if err != nil {
			return nil, err
		}
		properties, err := s.properties(found[name])
		if err != nil {
			return nil, err
		}
		definitions.set(name, object{{"description", description}, {"type", "object"}, {"properties", properties}})
	}
	return object{
		{"title", "Shared"},
		{"description", "The objects inside the data of events."},
		{"$defs", definitions},
	}, nil
}

// properties describes the members of an object. None is required: the wire
// leaves out any of them.
func (s *source) properties(t reflect.Type) (object, error) {
	var properties object
	for _, f := range members(t) {
		owner := t
		if n := len(f.Index); n > 1 {
			owner = t.FieldByIndex(f.Index[:n-1]).Type
		}
		description, err := s.comment(owner.Name() + "." + f.Name)
		if err != nil {
			return nil, err
		}
		property := s.value(f.Type)
		property.set("description", description)
		property.set("x-pii", f.Tag.Get("pii"))
		properties.set(f.Tag.Get("json"), property)
	}
	return properties, nil
}

// value describes the values of a Go type. The known values of an open set are
// an annotation alone, so that a new one validates.
func (s *source) value(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[json.RawMessage](), reflect.TypeFor[schemas.Data]():
		return object{{"type", "object"}}
	case reflect.TypeFor[schemas.Timestamp]():
		return object{{"type", "string"}, {"format", "date-time"}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.value(t.Elem())
	case reflect.Struct:
		return object{{"$ref", "shared.json#/$defs/" + t.Name()}}
	case reflect.Slice:
		return object{{"type", "array"}, {"items", s.value(t.Elem())}}
	case reflect.Map:
		return object{{"type", "object"}, {"additionalProperties", s.value(t.Elem())}}
	case reflect.Bool:
		return object{{"type", "boolean"}}
	case reflect.Int:
		return object{{"type", "integer"}}
	case reflect.Float64:
		return object{{"type", "number"}}
	case reflect.String:
		o := object{{"type", "string"}}
		o.set("x-extensible-enum", s.values[t.Name()])
		return o
	}
	panic("no JSON type for " + t.String()) // a new kind of field: say here what it is
}

// addObjects adds a type and those of all objects in it, by name.
func addObjects(found map[string]reflect.Type, t reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		addObjects(found, t.Elem())
	case reflect.Struct:
		if found[t.Name()] == nil {
			found[t.Name()] = t
			for _, f := range members(t) {
				addObjects(found, f.Type)
			}
		}
	}
}

// members returns the fields of a struct that stand for members of its object,
// promoted ones included.
func members(t reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return f.Anonymous })
}
