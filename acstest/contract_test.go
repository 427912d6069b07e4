package acstest_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestTypesOfTheContract checks that every type in the catalogue can be made, and
// none beyond it, and that what is made has the members of the contract's example.
func TestTypesOfTheContract(t *testing.T) {
	var want []string
	for _, event := range schemas.Types() {
		want = append(want, event.Name)
		made, err := acstest.NewCall().NewEvent(event.Name)
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(exampleMembers(t, &event), slices.Sorted(maps.Keys(members(t, "", made.Data)))); diff != "" {
			t.Errorf("%s (-example +made):\n%s", event.Name, diff)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(append(acstest.Types(), acstest.GridTypes()...)))); diff != "" {
		t.Errorf("types (-contract +made):\n%s", diff)
	}
}

// exampleMembers returns the paths of the members in the data of a type's
// example, sorted. The simulator tells the type once more in every event.
func exampleMembers(t *testing.T, event *schemas.Type) []string {
	t.Helper()
	document, _ := schemas.Schema(event.Name)
	var schema struct {
		Examples []struct{ Data json.RawMessage }
	}
	if err := json.Unmarshal(document, &schema); err != nil || len(schema.Examples) != 1 {
		t.Fatalf("%s has %d examples: %v", event.Name, len(schema.Examples), err)
	}
	paths := members(t, "", schema.Examples[0].Data)
	if event.Family != schemas.Grid {
		paths["/publicEventType"] = true
	}
	return slices.Sorted(maps.Keys(paths))
}

// members returns the paths of the members of a value and of those in it; the
// elements of a list share one.
func members(t *testing.T, path string, value json.RawMessage) map[string]bool {
	t.Helper()
	paths := make(map[string]bool)
	var object map[string]json.RawMessage
	var list []json.RawMessage
	switch {
	case json.Unmarshal(value, &object) == nil:
		for name, inner := range object {
			paths[path+"/"+name] = true
			maps.Copy(paths, members(t, path+"/"+name, inner))
		}
	case json.Unmarshal(value, &list) == nil:
		for _, inner := range list {
			maps.Copy(paths, members(t, path+"/[]", inner))
		}
	}
	return paths
}
