package schemas

import (
	"embed"
	"encoding/json"
	"io/fs"
	"reflect"
	"slices"
	"strings"
)

//go:generate go run ./internal/generate schemas
//go:generate go run ./internal/generate pages

// schemaBase is what the ids of all schemas begin with. They refer to each other
// by file name, relative to it.
const schemaBase = "https://github.com/acsbridge/acsbridge/blob/main/schemas/json/"

// Names of the schemas that are not those of a type.
const (
	SchemaEnvelope = "envelope" // what every event has around its data
	SchemaShared   = "shared"   // the objects inside data, as $defs
)

//go:embed json/*.json
var schemaFiles embed.FS

// SchemaID returns the id of a schema: that of a type, [SchemaEnvelope] or
// [SchemaShared].
func SchemaID(name string) string { return schemaBase + name + ".json" }

// Schema returns the JSON Schema (2020-12) of a type's whole event,
// [SchemaEnvelope] or [SchemaShared]. They take what the wire may bring: no
// member of data is required, and every set of values is open. What may be
// personal is marked x-pii. Not ok when there is none of this name.
func Schema(name string) (document []byte, ok bool) {
	document, err := fs.ReadFile(schemaFiles, "json/"+strings.TrimPrefix(name, TypePrefix)+".json")
	return document, err == nil
}

// Description says for people what a type of event is.
type Description struct {
	When    string   // when it comes: "when a prompt could not be played"
	Notes   string   // what else there is to know, in sentences; may be empty
	Data    Object   // named as the type
	Objects []Object // those inside data, each once
	Example json.RawMessage
}

// Object is a JSON object of the contract.
type Object struct {
	Name   string
	About  string
	Fields []Field
}

// Field is a member of an [Object].
type Field struct {
	Name  string
	Type  string // "text", "integer", "list of Participant", …
	About string
	PII   string   // what is personal about it, as in the package comment; empty when nothing is
	Known []string // the known values of an open set
}

// node is a part of a schema.
type node struct {
	Type        string
	Format      string
	Description string
	Ref         string `json:"$ref"`
	Items       *node
	Additional  *node `json:"additionalProperties"`
	Properties  map[string]node
	Definitions map[string]node `json:"$defs"`
	Known       []string        `json:"x-extensible-enum"`
	PII         string          `json:"x-pii"`
	Examples    []json.RawMessage
}

func readSchema(name string) (n node) {
	document, ok := Schema(name)
	if !ok || json.Unmarshal(document, &n) != nil {
		panic("schemas: the schema of " + name + " cannot be read") // embedded: our own fault
	}
	return n
}

// Describe returns what the type's schema says.
func (t *Type) Describe() Description {
	schema, shared := readSchema(t.Name), readSchema(SchemaShared)
	about, notes, _ := strings.Cut(schema.Description+" ", ". ")
	d := Description{
		When:    strings.TrimPrefix(about, t.Name+" comes "),
		Notes:   strings.TrimSpace(notes),
		Example: schema.Examples[0],
	}
	var parts []reflect.Type // met, in the order of their first mention
	met := make(map[reflect.Type]bool)
	object := func(of reflect.Type, n node) Object {
		o := Object{Name: of.Name(), About: n.Description}
		for _, f := range members(of) {
			name := f.Tag.Get("json")
			p := n.Properties[name]
			o.Fields = append(o.Fields, Field{name, p.typeName(), p.Description, p.PII, p.known()})
			inner := f.Type
			for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && !met[inner] {
				met[inner] = true
				parts = append(parts, inner)
			}
		}
		return o
	}
	d.Data = object(t.data, schema.Properties["data"])
	for len(parts) > 0 {
		part := parts[0]
		parts = parts[1:]
		d.Objects = append(d.Objects, object(part, shared.Definitions[part.Name()]))
	}
	return d
}

// typeName is the type of a member's value for people.
func (n *node) typeName() string {
	switch {
	case n.Ref != "":
		return n.Ref[strings.LastIndexByte(n.Ref, '/')+1:]
	case n.Items != nil:
		return "list of " + n.Items.typeName()
	case n.Additional != nil:
		return "object of " + n.Additional.typeName()
	case n.Format == "date-time":
		return "date and time"
	case n.Type == "string":
		return "text"
	}
	return n.Type
}

func (n *node) known() []string {
	if n.Items != nil {
		return n.Items.Known
	}
	return n.Known
}

// members returns the fields of a struct that stand for the members of its object,
// promoted ones included.
func members(t reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return f.Anonymous })
}
