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
//   - members whose value is the field's zero value, such as "" or null.
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
	rest   []int            // index of the Rest
}

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
	ok := eachMember(document, func(name string, value []byte) {
		delete(rest, name) // of a repeated name the last one counts
		if index, known := l.fields[name]; known {
			field := v.FieldByIndex(index)
			field.SetZero()
			if !fill(field, value) {
				field.SetZero()
			}
			if !field.IsZero() {
				return
			}
		}
		if rest == nil {
			rest = make(Rest)
		}
		rest[name] = value
	})
	if len(rest) > 0 {
		v.FieldByIndex(l.rest).Set(reflect.ValueOf(rest))
	}
	return ok
}

// fill sets a zero field to a JSON value and reports whether it says the same.
func fill(field reflect.Value, value []byte) bool {
	switch kind := field.Kind(); {
	case kind == reflect.Interface:
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
		if field.IsZero() {
			continue
		}
		document = append(append(append(document, separator, '"'), name...), '"', ':')
		separator = ','
		if document, err = appendValue(document, field); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		if index, known := l.fields[name]; known && !v.FieldByIndex(index).IsZero() {
			continue
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
