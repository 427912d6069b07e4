package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync"
	"unicode/utf8"
)

// Rest holds what the Go type of an object does not show, by name, as it came:
//
//   - members that the type does not name, such as those of a newer API version;
//   - members whose value does not fit the field, which stays zero;
//   - members whose value is the field's zero value, such as "" or null;
//   - members that another field stands for as well: eventType of Event Grid's own
//     schema for Type, and those of an identifier that has no object of its own.
//
// It is written again with the object, so that nothing is lost; a field that
// has got a value wins. Nil when there is nothing.
type Rest map[string]json.RawMessage

// errNoObject reports JSON that is no object where one must be.
var errNoObject = errors.New("schemas: no JSON object")

// layout says where the members of an object are in its struct. Promoted fields
// of embedded structs count as the struct's own.
type layout struct {
	names  []string         // in the order of the fields
	fields map[string][]int // index of the field, by the member's name
	others []otherForm
	rest   []int // index of the Rest
}

// otherForm is where else than in its member a field can be said. Tag also names
// the other member: Event Grid's own schema writes eventType for type. A dot means
// the object itself: until 2022 a participant had the members of its identifier.
// What is said so stays in Rest, too, from where it is written again.
type otherForm struct{ name, also string }

var layouts sync.Map // reflect.Type → *layout

// layoutOf returns the layout of a struct that stands for an object, nil for
// any other type.
func layoutOf(t reflect.Type) *layout {
	if known, ok := layouts.Load(t); ok {
		return known.(*layout)
	}
	var l *layout
	if t.Kind() == reflect.Struct {
		l = &layout{fields: make(map[string][]int)}
		for _, f := range reflect.VisibleFields(t) {
			switch {
			case f.Type == reflect.TypeFor[Rest]():
				l.rest = f.Index
			case !f.Anonymous:
				name := f.Tag.Get("json")
				l.names = append(l.names, name)
				l.fields[name] = f.Index
				if also := f.Tag.Get("also"); also != "" {
					l.others = append(l.others, otherForm{name, also})
				}
			}
		}
	}
	layouts.Store(t, l)
	return l
}

// decode fills the struct that object points to from a JSON object. Names are
// matched exactly, as JSON has it. Only a document that is no object is an
// error: what does not fit stays in Rest. The document is copied.
func decode(document []byte, object any) error {
	if !json.Valid(document) || !fillObject(reflect.ValueOf(object).Elem(), bytes.Clone(document)) {
		return errNoObject
	}
	return nil
}

// fillObject fills a struct from valid JSON, of which Rest keeps parts. It
// reports whether that is an object.
func fillObject(v reflect.Value, document []byte) bool {
	v.SetZero()
	l := layoutOf(v.Type())
	var rest Rest
	own := make([][]byte, len(l.others)) // the members of fields that have another form
	ok := eachMember(document, func(name string, value []byte) {
		delete(rest, name) // of a repeated name the last one counts
		if index, known := l.fields[name]; known {
			field := v.FieldByIndex(index)
			field.SetZero()
			if !fill(field, value) {
				field.SetZero()
			}
			if !field.IsZero() {
				for i := range l.others {
					if l.others[i].name == name {
						own[i] = value
					}
				}
				return
			}
		}
		if rest == nil {
			rest = make(Rest)
		}
		rest[name] = value
	})
	if len(rest) > 0 {
		l.fillOthers(v, rest, own)
		v.FieldByIndex(l.rest).Set(reflect.ValueOf(rest))
	}
	return ok
}

// fillOthers sets the fields that are said in another form. A member that says the
// same as the other form goes into Rest, so that both are written again.
func (l *layout) fillOthers(v reflect.Value, rest Rest, own [][]byte) {
	for i, other := range l.others {
		field := v.FieldByIndex(l.fields[other.name])
		if field.IsZero() {
			other.fill(field, rest)
		} else if own[i] != nil && other.says(field, rest) {
			rest[other.name] = own[i]
		}
	}
}

// fill sets a zero field to what Rest says in the other form.
func (o *otherForm) fill(field reflect.Value, rest Rest) {
	value := []byte(rest[o.also])
	if o.also == "." {
		members := make(Rest)
		for _, name := range layoutOf(field.Type().Elem()).names {
			if member, there := rest[name]; there {
				members[name] = member
			}
		}
		if len(members) == 0 {
			return
		}
		value, _ = json.Marshal(members) // valid JSON cannot fail
	}
	if value != nil && !fill(field, value) {
		field.SetZero()
	}
}

// says reports whether Rest says what a field has in the other form.
func (o *otherForm) says(field reflect.Value, rest Rest) bool {
	if o.also != "." && rest[o.also] == nil {
		return false
	}
	said := reflect.New(field.Type()).Elem()
	o.fill(said, rest)
	return !said.IsZero() && reflect.DeepEqual(said.Interface(), field.Interface())
}

// inRest reports whether a field that has a value is written by its Rest.
func (l *layout) inRest(name string, field reflect.Value, rest Rest) bool {
	i := slices.IndexFunc(l.others, func(o otherForm) bool { return o.name == name })
	return i >= 0 && len(rest) > 0 && l.others[i].says(field, rest)
}

// fill sets a zero field to a JSON value and reports whether it says the same.
func fill(field reflect.Value, value []byte) bool {
	switch kind := field.Kind(); {
	case kind == reflect.Interface || string(value) == "null":
		return false
	case kind == reflect.String && value[0] == '"' && bytes.IndexByte(value, '\\') < 0 && utf8.Valid(value):
		field.SetString(string(value[1 : len(value)-1]))
		return true
	case kind == reflect.Pointer && layoutOf(field.Type().Elem()) != nil:
		object := reflect.New(field.Type().Elem())
		if !fillObject(object.Elem(), value) {
			return false
		}
		field.Set(object)
		return true
	}
	return json.Unmarshal(value, field.Addr().Interface()) == nil && !nullInside(field, value)
}

// nullInside reports whether a list or a map has a null, for which encoding/json
// leaves an empty element.
func nullInside(field reflect.Value, value []byte) bool {
	if field.Type() == reflect.TypeFor[json.RawMessage]() || !bytes.Contains(value, []byte("null")) {
		return false
	}
	var elements []json.RawMessage
	switch field.Kind() {
	case reflect.Slice:
		_ = json.Unmarshal(value, &elements) // it just was a list
	case reflect.Map:
		eachMember(value, func(_ string, value []byte) { elements = append(elements, value) })
	}
	return slices.ContainsFunc(elements, func(e json.RawMessage) bool { return string(e) == "null" })
}

// encode writes a struct as a JSON object: its fields that are not zero in
// their order, then its rest, sorted.
func encode(object any) ([]byte, error) { return appendObject(nil, reflect.ValueOf(object)) }

func appendObject(document []byte, v reflect.Value) ([]byte, error) {
	l := layoutOf(v.Type())
	rest := v.FieldByIndex(l.rest).Interface().(Rest)
	separator := byte('{')
	var err error
	for _, name := range l.names {
		field := v.FieldByIndex(l.fields[name])
		if field.IsZero() || l.inRest(name, field, rest) {
			continue
		}
		document = append(append(append(document, separator, '"'), name...), '"', ':')
		separator = ','
		if document, err = appendValue(document, field); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		if index, known := l.fields[name]; known {
			if field := v.FieldByIndex(index); !field.IsZero() && !l.inRest(name, field, rest) {
				continue
			}
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		document = append(append(append(append(document, separator), quoted...), ':'), rest[name]...)
		separator = ','
	}
	if separator == '{' {
		document = append(document, '{')
	}
	return append(document, '}'), nil
}

// appendValue writes the value of a field that is not zero.
func appendValue(document []byte, field reflect.Value) ([]byte, error) {
	for field.Kind() == reflect.Pointer || field.Kind() == reflect.Interface {
		if field.IsNil() { // a typed nil in an interface
			return append(document, "null"...), nil
		}
		field = field.Elem()
	}
	if layoutOf(field.Type()) != nil {
		return appendObject(document, field)
	}
	value, err := json.Marshal(field.Interface())
	return append(document, value...), err
}
