package acstest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Set returns an event with one value changed. The path names a member,
// data.resultInformation.code, or an element of a list, data.participants.0.isMuted. A
// member that does not exist is added at the end of its object, which may be new too.
// In data a value is JSON, or else a string; attributes are always strings, such as
// specversion=1.0.
func Set(event json.RawMessage, path, value string) (json.RawMessage, error) {
	if attribute, _, _ := strings.Cut(path, "."); attribute != "data" || !json.Valid([]byte(value)) {
		quoted, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		value = string(quoted)
	}
	changed, err := setValue(event, strings.Split(path, "."), json.RawMessage(value))
	if err != nil {
		return nil, fmt.Errorf("set %s: %w", path, err)
	}
	return changed, nil
}

func setValue(old json.RawMessage, path []string, value json.RawMessage) (json.RawMessage, error) {
	if len(path) == 0 {
		return value, nil
	}
	var list []json.RawMessage
	if bytes.HasPrefix(old, []byte("[")) && json.Unmarshal(old, &list) == nil {
		return setElement(list, path, value)
	}
	if path[0] == "" {
		return nil, errors.New("a name is empty; write data.operationContext=menu")
	}
	members, err := readMembers(old)
	if err != nil {
		return nil, fmt.Errorf("%s would be a member of a value that is not an object", path[0])
	}
	at := slices.IndexFunc(members, func(m member) bool { return m.name == path[0] })
	if at < 0 {
		at = len(members)
		members = append(members, member{path[0], json.RawMessage("{}")})
	}
	changed, err := setValue(members[at].value.(json.RawMessage), path[1:], value)
	if err != nil {
		return nil, err
	}
	members[at].value = changed
	var w dataWriter
	w.members(nil, members)
	return w.buf.Bytes(), w.err
}

func setElement(list []json.RawMessage, path []string, value json.RawMessage) (json.RawMessage, error) {
	at, err := strconv.Atoi(path[0])
	if err != nil || at < 0 || at >= len(list) {
		return nil, fmt.Errorf("a list of %d has no element %s, the first is 0", len(list), path[0])
	}
	if list[at], err = setValue(list[at], path[1:], value); err != nil {
		return nil, err
	}
	return json.Marshal(list)
}

// readMembers returns the members of a JSON object in their order.
func readMembers(object json.RawMessage) (members []member, err error) {
	d := json.NewDecoder(bytes.NewReader(object))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		members = append(members, member{name.(string), value})
	}
	return members, nil
}

// RawCallback is [SimCall.Callback] with the bytes of events, each a JSON object. Events
// of Event Grid, by their schema, source or type, make a delivery of Event Grid.
func (c *SimCall) RawCallback(events []json.RawMessage) (Callback, error) {
	if len(events) == 0 {
		return Callback{}, errors.New("no events to send")
	}
	d := c.Callback()
	var ways []way
	for i, raw := range events {
		e, w, err := readEvent(raw)
		if err != nil {
			return Callback{}, fmt.Errorf("event %d of %d is not an event: it must be a JSON object with the strings id, source and type, or id and eventType in Event Grid's schema", i+1, len(events))
		}
		d.Events, ways = append(d.Events, e), append(ways, w)
		if w != ways[0] {
			return Callback{}, fmt.Errorf("event %d of %d is not sent like the first: by callback, or by Event Grid in one of its two schemas", i+1, len(events))
		}
	}
	body, err := json.Marshal(events)
	if ways[0] != byCallback {
		d = Callback{Events: d.Events, Grid: true, bodyType: string(ways[0])}
	}
	d.body = body
	return d, err
}

// way is how an event is sent: by callback, or by Event Grid in a body of this media
// type.
type way string

const (
	byCallback    way = ""
	inCloudEvents way = "application/cloudevents-batch+json; charset=utf-8"
	inOwnSchema   way = "application/json; charset=utf-8"
)

// readEvent reads an event of either schema, and returns how it is sent.
func readEvent(raw json.RawMessage) (e WireEvent, w way, err error) {
	var read struct {
		ID, Source, Type, Topic, EventType, SpecVersion string

		Data    json.RawMessage
		Subject json.RawMessage // it need not be a string
	}
	err = json.Unmarshal(raw, &read)
	e = WireEvent{ID: read.ID, Source: read.Source, Type: read.Type, Data: read.Data}
	_ = json.Unmarshal(read.Subject, &e.Subject)
	switch {
	case read.EventType != "" && read.SpecVersion == "":
		e.Source, e.Type = read.Topic, read.EventType
		return e, inOwnSchema, err
	case byGrid(e.Type) || strings.HasPrefix(e.Source, "/subscriptions/"):
		w = inCloudEvents
	}
	return e, w, err
}

// ParseBody returns the events in the body of a callback: an array of JSON
// objects, or one.
func ParseBody(body []byte) (events []json.RawMessage, err error) {
	if body = bytes.TrimSpace(body); bytes.HasPrefix(body, []byte("{")) {
		body = slices.Concat([]byte("["), body, []byte("]"))
	}
	if err := json.Unmarshal(body, &events); err != nil {
		return nil, errors.New("neither a JSON array of events nor one event")
	}
	return events, nil
}
