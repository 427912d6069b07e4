package schemas

import (
	"embed"
	"io/fs"
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
