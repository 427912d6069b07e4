package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// asyncAPI is what the test reads of schemas/asyncapi.yaml.
type asyncAPI struct {
	Channels map[string]struct {
		Address    string
		Parameters map[string]any
		Messages   map[string]reference
	}
	Components struct {
		Messages map[string]struct {
			Name             string
			ContentType      string `yaml:"contentType"`
			Headers, Payload reference
			Examples         []struct {
				Headers map[string]string
				Payload any
			}
		}
		Schemas map[string]any
	}
}

type reference struct {
	Ref string `yaml:"$ref"`
}

func readAsyncAPI(t *testing.T) (a asyncAPI) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(readRoot(t, "schemas/asyncapi.yaml")), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// parameter matches a parameter of an address.
var parameter = regexp.MustCompile(`\\\{(\w+)\\\}`)

// address returns a pattern for the subjects of a channel, whose parameters are
// its groups.
func (a *asyncAPI) address(t *testing.T, channel string) *regexp.Regexp {
	t.Helper()
	c := a.Channels[channel]
	pattern := regexp.MustCompile("^" + parameter.ReplaceAllString(regexp.QuoteMeta(c.Address), `(?P<$1>[\w-]{1,64})`) + "$")
	names := pattern.SubexpNames()[1:] // the first is the whole
	if diff := cmp.Diff(slices.Sorted(maps.Keys(c.Parameters)), slices.Sorted(slices.Values(names))); diff != "" {
		t.Errorf("channel %s: (-parameters +address):\n%s", channel, diff)
	}
	return pattern
}

// compiler knows the schemas and that of the headers.
func (a *asyncAPI) compiler(t *testing.T) *jsonschema.Compiler {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{}) // loads nothing
	names := []string{schemas.SchemaEnvelope, schemas.SchemaShared}
	for name := range a.Components.Messages {
		if name != "Quarantined" {
			names = append(names, name)
		}
	}
	for _, name := range names {
		document, _ := schemas.Schema(name)
		if err := c.AddResource(schemas.SchemaID(name), parsed(t, document)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.AddResource("urn:headers", a.Components.Schemas["Headers"]); err != nil {
		t.Fatal(err)
	}
	return c
}

func parsed(t *testing.T, document []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestAsyncAPI_agreesWithTheCode holds the document against the catalogue and
// the headers, and its examples against the schemas that it refers to.
func TestAsyncAPI_agreesWithTheCode(t *testing.T) {
	a := readAsyncAPI(t)
	c := a.compiler(t)
	want := []string{}
	for _, event := range schemas.Types() {
		want = append(want, event.Name)
		m := a.Components.Messages[event.Name]
		if m.Name != event.CloudEventsType() || m.Payload.Ref != "json/"+event.Name+".json" || m.ContentType != schemas.ContentTypeEvent || len(m.Examples) != 1 {
			t.Errorf("%s is described as %s with the payload %s, %d examples", event.Name, m.Name, m.Payload.Ref, len(m.Examples))
			continue
		}
		schema, err := c.Compile(schemas.SchemaID(event.Name))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(m.Examples[0].Payload); err != nil {
			t.Errorf("%s: %v", event.Name, err)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(a.Channels["events"].Messages))); diff != "" {
		t.Errorf("messages (-catalogue +document):\n%s", diff)
	}
	var headers []string
	for _, constant := range regexp.MustCompile(`(?m)^\tHeader\w+ += "([\w-]+)"`).FindAllStringSubmatch(readRoot(t, "schemas/header.go"), -1) {
		headers = append(headers, constant[1])
	}
	slices.Sort(headers)
	if diff := cmp.Diff(headers, a.headers()); diff != "" {
		t.Errorf("headers (-code +document):\n%s", diff)
	}
}

// headers are the names of the headers that are described, sorted.
func (a *asyncAPI) headers() []string {
	schema, _ := a.Components.Schemas["Headers"].(map[string]any)
	properties, _ := schema["properties"].(map[string]any)
	return slices.Sorted(maps.Keys(properties))
}

// TestMessages_asDescribed has a bridge store one event of every type that
// comes by callback, one that deviates from its schema, and a callback that is
// none. It holds each message against the document: subject, headers and payload.
// Each must be read by Parse.
func TestMessages_asDescribed(t *testing.T) {
	server := natstest.Start(t)
	sendEveryType(t, server)

	a := readAsyncAPI(t)
	c := a.compiler(t)
	headers, err := c.Compile("urn:headers")
	if err != nil {
		t.Fatal(err)
	}
	described := a.headers()
	check := func(channel string, m *jetstream.RawStreamMsg) map[string]string {
		values := make(map[string]any)
		for name := range m.Header {
			values[name] = m.Header.Get(name)
			if !slices.Contains(described, name) {
				t.Errorf("%s has the header %s, which is not described", m.Subject, name)
			}
		}
		if err := headers.Validate(values); err != nil {
			t.Errorf("headers of %s: %v", m.Subject, err)
		}
		pattern := a.address(t, channel)
		groups := pattern.FindStringSubmatch(m.Subject)
		if groups == nil {
			t.Fatalf("subject %s is not as the address of %s", m.Subject, channel)
		}
		found := make(map[string]string)
		for i, name := range pattern.SubexpNames() {
			found[name] = groups[i]
		}
		return found
	}
	deviations := []string{}
	for _, m := range server.Await(schemas.Stream, len(acstest.Types())+1) {
		found := check("events", m)
		read, err := schemas.Parse(m.Header, m.Data)
		if err != nil {
			t.Fatal(err)
		}
		name := schemas.ShortType(read.Event.Type)
		if found["eventType"] != name || found["call"] != read.Event.Data.IDs().CallConnectionID || found["resource"] != read.Delivery.Resource {
			t.Errorf("subject %s of a %s", m.Subject, name)
		}
		if read.Claims.Audience != acstest.DemoAudience || read.Claims.ExpiresAt.IsZero() || read.Delivery.Count != 1 || read.Delivery.Path == "" {
			t.Errorf("%s was read as %+v, %+v", name, read.Claims, read.Delivery)
		}
		schema, err := c.Compile(schemas.SchemaID(name))
		if err != nil {
			t.Fatal(err)
		}
		if schema.Validate(parsed(t, m.Data)) != nil {
			deviations = append(deviations, name+" "+string(m.Data))
		}
	}
	if len(deviations) != 1 || !strings.Contains(deviations[0], `"sequenceNumber":"next"`) {
		t.Errorf("got %q, want one deviation, the sequenceNumber that is a string", deviations)
	}
	if found := check("quarantine", server.Await(schemas.QuarantineStream, 1)[0]); found["reason"] != "not_cloudevents" {
		t.Errorf("quarantine: %v", found)
	}
}

// sendEveryType sends one event of each type to a bridge, one that deviates from
// its schema, and one that lacks its id.
func sendEveryType(t *testing.T, server *natstest.Server) {
	t.Helper()
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := issuer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { issuer.Close() })
	target := startBridge(t, "--resource="+acstest.DemoResource+"="+acstest.DemoAudience,
		"--issuer="+issuer.Name(), "--oidc-config-url="+issuer.MetadataURL(), "--nats-url="+server.URL())
	caller, err := acstest.NewCaller(acstest.CallerOptions{Target: target.String(), Signer: issuer})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(caller.Close)
	send := func(name string, want int, changes ...string) {
		call := acstest.NewCall()
		event, err := call.NewEvent(name)
		if err != nil {
			t.Fatal(err)
		}
		document, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		raw := json.RawMessage(document)
		for _, change := range changes {
			path, value, _ := strings.Cut(change, "=")
			if raw, err = acstest.Set(raw, path, value); err != nil {
				t.Fatal(err)
			}
		}
		delivery, err := call.RawCallback([]json.RawMessage{raw})
		if err != nil {
			t.Fatal(err)
		}
		if answer := caller.Send(t.Context(), delivery); answer.Status != want {
			t.Fatalf("%s was answered %d, %v", name, answer.Status, answer.Err)
		}
	}
	for _, name := range acstest.Types() {
		send(name, 200)
	}
	send("ParticipantsUpdated", 200, "data.sequenceNumber=next")
	send("CallConnected", 400, "id=")
}
