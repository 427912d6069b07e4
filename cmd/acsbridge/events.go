package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/acsbridge/acsbridge/internal/suggest"
	"github.com/acsbridge/acsbridge/schemas"
)

// eventsCmd shows the catalogue of events: the contract with consumers.
type eventsCmd struct {
	Type   string `arg:"" optional:"" help:"Event type, such as CallConnected. None lists all." placeholder:"TYPE"`
	Schema bool   `help:"Print the type's JSON Schema (2020-12) instead."`
}

// Run prints the list of types, or one of them.
func (c *eventsCmd) Run(std stdio) error {
	if c.Type == "" {
		if c.Schema {
			return fmt.Errorf("--schema is of one type: acsbridge events CallConnected --schema")
		}
		return listEvents(std.out)
	}
	event, ok := schemas.LookupType(c.Type)
	if !ok {
		return fmt.Errorf("%s acsbridge events lists all that are known; others pass the bridge all the same", unknownType(c.Type))
	}
	if c.Schema {
		document, _ := schemas.Schema(event.Name)
		_, err := std.out.Write(document)
		return err
	}
	return showEvent(std.out, &event)
}

// unknownType begins a message about a type that is not known, with the one that was
// probably meant.
func unknownType(name string) string {
	var names []string
	for _, event := range schemas.Types() {
		names = append(names, event.Name)
	}
	short, hint := schemas.ShortType(name), ";"
	if closest, distance := suggest.Nearest(short, names); distance <= len(short)/2 {
		hint = fmt.Sprintf(", did you mean %s?", closest)
	}
	return fmt.Sprintf("unknown event type %q%s", name, hint)
}

// listEvents prints each type with when it comes, family by family.
func listEvents(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	var family schemas.Family
	for _, event := range schemas.Types() {
		if event.Family != family {
			if family != "" {
				fmt.Fprintln(w)
			}
			family = event.Family
			fmt.Fprintf(w, "%s\n", strings.ToUpper(string(family)))
		}
		fmt.Fprintf(w, "%s\t%s\n", event.Name, event.Describe().When)
	}
	return w.Flush()
}

// showEvent prints what a consumer must know of a type.
func showEvent(out io.Writer, event *schemas.Type) error {
	d := event.Describe()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s comes %s.\n", event.Name, d.When)
	if d.Notes != "" {
		fmt.Fprintln(&b, d.Notes)
	}
	last := "callConnectionId"
	if event.Family == schemas.Grid {
		last = "correlationId"
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nstatus\t%s\n", strings.TrimSpace(string(event.Status)+" "+sinceVersion(event)))
	fmt.Fprintf(w, "subject\t%s.<resource>.%s.<slot>.<%s>\n", schemas.SubjectPrefix, event.Name, last)
	fmt.Fprintf(w, "follow\tnats subscribe --stream %s --new '%s'\n", schemas.Stream, event.Filter(schemas.SubjectPrefix))
	fmt.Fprintf(w, "Go\t*schemas.%s\n", event.Name)
	for _, object := range append([]schemas.Object{d.Data}, d.Objects...) {
		name := object.Name
		if name == event.Name {
			name = "data"
		}
		fmt.Fprintf(w, "\n%s\n", name)
		for _, f := range object.Fields {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", f.Name, f.Type, fieldNotes(f))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	b.WriteString("\nexample\n")
	if err := json.Indent(&b, d.Example, "", "  "); err != nil {
		return err
	}
	fmt.Fprintln(&b)
	_, err := b.WriteTo(out)
	return err
}

// sinceVersion says which API version brought a type, empty when that is not
// known.
func sinceVersion(event *schemas.Type) string {
	switch {
	case event.Family == schemas.Grid:
		return "by Event Grid"
	case event.Since != "":
		return "since API version " + event.Since
	}
	return ""
}

// fieldNotes is what there is to say about a field.
func fieldNotes(f schemas.Field) string {
	notes := f.About
	if len(f.Known) > 0 {
		notes += " Known: " + strings.Join(f.Known, ", ") + "."
	}
	if f.PII != "" {
		notes += " (personal: " + f.PII + ")"
	}
	return notes
}
