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

// TestEveryTypeHasItsContract holds the example of each type against its Go type
// and its schema: it is of that type, has no member that the Go type does not
// name, validates, and is encoded as it was.
func TestEveryTypeHasItsContract(t *testing.T) {
	c := compiler(t)
	for _, event := range schemas.Types() {
		example, err := os.ReadFile(filepath.Join("examples", event.Name+".json"))
		if err != nil {
			t.Error(err)
			continue
		}
		var e schemas.Event
		if err := json.Unmarshal(example, &e); err != nil {
			t.Errorf("%s: %v", event.Name, err)
			continue
		}
		if got, want := reflect.TypeOf(e.Data), reflect.TypeOf(event.NewData()); got != want || e.Type != event.CloudEventsType() {
			t.Errorf("%s: example is of type %s and was read as %v", event.Name, e.Type, got)
		}
		if unnamed := unnamedMembers(reflect.ValueOf(e)); len(unnamed) > 0 {
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
		if diff := cmp.Diff(canonical(t, example), encoded(t, &e)); diff != "" {
			t.Errorf("%s was encoded as something else (-want +got):\n%s", event.Name, diff)
		}
	}
}

// unnamedMembers returns the members in the rests of an object and of those in
// it that no Go field stands for.
func unnamedMembers(v reflect.Value) (unnamed []string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			unnamed = unnamedMembers(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			unnamed = append(unnamed, unnamedMembers(v.Index(i))...)
		}
	case reflect.Struct:
		named := make(map[string]bool)
		for _, f := range reflect.VisibleFields(v.Type()) {
			named[f.Tag.Get("json")] = true
			if !f.Anonymous {
				unnamed = append(unnamed, unnamedMembers(v.FieldByIndex(f.Index))...)
			}
		}
		if rest := v.FieldByName("Rest"); rest.IsValid() {
			for name := range rest.Interface().(schemas.Rest) {
				if !named[name] {
					unnamed = append(unnamed, name)
				}
			}
		}
	}
	return unnamed
}

// encoded encodes an event in the form of [canonical].
func encoded(t *testing.T, e *schemas.Event) string {
	t.Helper()
	document, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return canonical(t, document)
}

// TestFieldsAndProperties holds Go types and schemas against each other by
// reflection of their own, apart from the generator's.
func TestFieldsAndProperties(t *testing.T) {
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
			if f.Anonymous || name == "-" {
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

// TestCatalogue pins how many types there are, and that each is found by both
// its names.
func TestCatalogue(t *testing.T) {
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

// TestNoStrayFiles checks that every schema and example belongs to something.
func TestNoStrayFiles(t *testing.T) {
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
