package schemas

import (
	"reflect"
	"slices"
	"sync"
)

// Kinds of what can be personal about the text of a member, in a field's tag pii,
// from the least to the most protected.
const (
	PIINone       = ""           // a word or a time of the service's own
	PIILink       = "link"       // ties the event to its call or to something of the application's
	PIIIdentifier = "identifier" // identifies a person, as a telephone number does
	PIIName       = "name"       // a person's name
	PIISaid       = "said"       // what a person said, pressed or picked
	PIIText       = "text"       // text for people, which can name a person
	PIIContext    = "context"    // what the application or a caller's system has attached
	PIISecret     = "secret"     // lets its holder act for the receiver
)

var piiOrder = []string{PIINone, PIILink, PIIIdentifier, PIIName, PIISaid, PIIText, PIIContext, PIISecret}

// PII returns what can be personal about the text of an event's attribute, or of a
// member of an object in its data. A name that several objects have gets the most
// protected of their kinds. It is not ok for a name that no type has: nothing is
// known about that one, so treat it as personal.
func PII(name string, inData bool) (kind string, ok bool) {
	if inData {
		kind, ok = dataPII()[name]
	} else {
		kind, ok = attributePII()[name]
	}
	return kind, ok
}

var attributePII = sync.OnceValue(func() map[string]string {
	kinds := map[string]string{ // those of other schemas than Event's
		"dataschema": PIINone, "topic": PIILink, "eventType": PIINone, "eventTime": PIINone, "dataVersion": PIINone, "metadataVersion": PIINone,
	}
	for _, f := range members(reflect.TypeFor[Event]()) {
		if name := f.Tag.Get("json"); name != "data" {
			kinds[name] = f.Tag.Get("pii")
		}
	}
	return kinds
})

// isObject reports whether a member holds an object, or objects. It has no text of its
// own: if it has one in a later version, nothing is known about that.
func isObject(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct
}

var dataPII = sync.OnceValue(func() map[string]string {
	kinds := make(map[string]string)
	seen := make(map[reflect.Type]bool)
	var add func(reflect.Type)
	add = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || seen[t] {
			return
		}
		seen[t] = true
		for _, f := range members(t) {
			name, kind := f.Tag.Get("json"), f.Tag.Get("pii")
			if kind == PIINone && isObject(f.Type) {
				add(f.Type)
				continue
			}
			if slices.Index(piiOrder, kind) >= slices.Index(piiOrder, kinds[name]) {
				kinds[name] = kind
			}
			add(f.Type)
		}
	}
	for i := range catalogue {
		add(catalogue[i].data)
	}
	return kinds
})
