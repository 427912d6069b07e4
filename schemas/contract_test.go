package schemas_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/acsbridge/acsbridge/schemas"
)

// compiler knows every schema by its id, and nothing else.
func compiler(t *testing.T) *jsonschema.Compiler {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{})
	c.AssertFormat()
	names := []string{schemas.SchemaEnvelope, schemas.SchemaShared}
	for _, event := range schemas.Types() {
		names = append(names, event.Name)
	}
	for _, name := range names {
		document, ok := schemas.Schema(name)
		if !ok {
			t.Fatalf("%s has no schema", name)
		}
		if err := c.AddResource(schemas.SchemaID(name), parseJSON(t, document)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func parseJSON(t *testing.T, document []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestTypes_examples holds the example of each type against its Go type and its schema:
// it is of that type, has no member that the Go type does not name, and validates.
func TestTypes_examples(t *testing.T) {
	c := compiler(t)
	for _, event := range schemas.Types() {
		example, err := os.ReadFile(filepath.Join("examples", event.Name+".json"))
		if err != nil {
			t.Error(err)
			continue
		}
		e := parse(t, example)
		if got, want := reflect.TypeOf(e.Data), reflect.TypeOf(event.NewData()); got != want || e.Type != event.CloudEventsType() {
			t.Errorf("%s: example is of type %s and was read as %v", event.Name, e.Type, got)
		}
		if unnamed := unnamedMembers(t, example); len(unnamed) > 0 {
			t.Errorf("%s: the Go type does not name the members %v of its example", event.Name, unnamed)
		}
		schema, err := c.Compile(schemas.SchemaID(event.Name))
		if err != nil {
			t.Errorf("%s: %v", event.Name, err)
			continue
		}
		if err := schema.Validate(parseJSON(t, example)); err != nil {
			t.Errorf("%s: %v", event.Name, err)
		}
	}
}

// unnamedMembers returns the members of an event that no Go field stands for: by their
// exact names.
func unnamedMembers(t *testing.T, event []byte) (unnamed []string) {
	t.Helper()
	e := parse(t, event)
	var document map[string]any
	if err := json.Unmarshal(event, &document); err != nil {
		t.Fatal(err)
	}
	var compare func(of reflect.Type, value any)
	compare = func(of reflect.Type, value any) {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if list, ok := value.([]any); ok {
			for _, element := range list {
				compare(of, element)
			}
		}
		object, ok := value.(map[string]any)
		if !ok || of.Kind() != reflect.Struct {
			return
		}
		fields := make(map[string]reflect.Type)
		for _, f := range reflect.VisibleFields(of) {
			fields[f.Tag.Get("json")] = f.Type
		}
		for name, value := range object {
			if field, ok := fields[name]; !ok {
				unnamed = append(unnamed, name)
			} else if name == "data" && e.Data != nil {
				compare(reflect.TypeOf(e.Data), value)
			} else {
				compare(field, value)
			}
		}
	}
	compare(reflect.TypeOf(e), document)
	return unnamed
}

// TestSchema_fieldsAndProperties holds Go types and schemas against each other by
// reflection of their own, apart from the generator's.
func TestSchema_fieldsAndProperties(t *testing.T) {
	type node struct {
		Properties map[string]node
		Defs       map[string]node `json:"$defs"`
	}
	load := func(name string) (n node) {
		document, ok := schemas.Schema(name)
		if !ok {
			t.Fatalf("%s has no schema", name)
		}
		if err := json.Unmarshal(document, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	shared := load(schemas.SchemaShared).Defs
	met := make(map[string]bool)
	var compare func(object reflect.Type, properties map[string]node)
	compare = func(object reflect.Type, properties map[string]node) {
		want := make(map[string]bool)
		for _, f := range reflect.VisibleFields(object) {
			name := f.Tag.Get("json")
			if f.Anonymous {
				continue
			}
			want[name] = true
			inner := f.Type
			for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && !met[inner.Name()] {
				met[inner.Name()] = true
				compare(inner, shared[inner.Name()].Properties)
			}
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(properties))); diff != "" {
			t.Errorf("%s (-Go +schema):\n%s", object.Name(), diff)
		}
	}
	compare(reflect.TypeFor[schemas.Event](), load(schemas.SchemaEnvelope).Properties)
	for _, event := range schemas.Types() {
		compare(reflect.TypeOf(event.NewData()).Elem(), load(event.Name).Properties["data"].Properties)
	}
	for name := range shared {
		if !met[name] {
			t.Errorf("nothing refers to %s", name)
		}
	}
}

// TestTypes_catalogue pins how many types there are, and that each is found by both
// its names.
func TestTypes_catalogue(t *testing.T) {
	count := make(map[string]int)
	for _, event := range schemas.Types() {
		kind := string(event.Status)
		if event.Family == schemas.Grid {
			kind = "grid"
		}
		count[kind]++
		if (kind == "ga") != (event.Since != "") {
			t.Errorf("%s is %s since %q", event.Name, kind, event.Since)
		}
		for _, name := range []string{event.Name, event.CloudEventsType()} {
			if found, ok := schemas.LookupType(name); !ok || found.Name != event.Name {
				t.Errorf("%s was not found", name)
			}
		}
		if got, want := event.Filter("acs"), "acs.*."+event.Name+".*.*"; got != want || !schemas.ValidToken(event.Name) {
			t.Errorf("filter %q, want %q", got, want)
		}
	}
	if diff := cmp.Diff(map[string]int{"ga": 38, "preview": 12, "grid": 6}, count); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
	if _, ok := schemas.LookupType("Microsoft.Communication.CallMoved"); ok {
		t.Error("found a type that there is not")
	}
}

// TestSchema_noStrayFiles checks that every schema and example belongs to something.
func TestSchema_noStrayFiles(t *testing.T) {
	for _, folder := range []string{"json", "examples"} {
		names, err := fs.Glob(os.DirFS(folder), "*")
		if err != nil || len(names) == 0 {
			t.Fatalf("%s holds nothing: %v", folder, err)
		}
		for _, file := range names {
			name := strings.TrimSuffix(file, ".json")
			if _, ok := schemas.LookupType(name); !ok && (folder == "examples" || name != schemas.SchemaEnvelope && name != schemas.SchemaShared) {
				t.Errorf("%s/%s belongs to no type", folder, file)
			}
		}
	}
}
