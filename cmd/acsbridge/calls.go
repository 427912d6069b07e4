package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/replay"
)

// callsCmd lists calls.
type callsCmd struct {
	ID       string `name:"id" help:"Only the call with this id: any that acsbridge call takes." placeholder:"ID"`
	Since    string `help:"Where to begin: as --since of tail. Without it: 1h, or all with --id." placeholder:"POSITION"`
	Resource string `help:"Only calls of this resource, by the name that serve has for it." placeholder:"NAME"`
	Outcome  string `help:"Only calls whose outcome has this: a code such as 487, code and subcode as 487/5003, or words such as busy." placeholder:"TEXT"`
	Output   string `help:"pretty, or json (one object a line)." default:"pretty" enum:"pretty,json" placeholder:"FORMAT"`
	config.Reader

	since replay.Position
}

// defaultCallsSince is how far calls goes back without --since.
const defaultCallsSince = "1h"

// Validate reads the position; kong calls it.
func (c *callsCmd) Validate() (err error) {
	if c.Since == "" && c.ID != "" {
		c.Since = "all"
	}
	c.Since = cmp.Or(c.Since, defaultCallsSince)
	if c.since, err = replay.ParsePosition(c.Since, time.Now()); err != nil {
		return fmt.Errorf("--since: %w", err)
	}
	return nil
}

// Run prints one line a call.
func (c *callsCmd) Run(ctx context.Context, std stdio) error {
	reader, link, err := c.Open(ctx, std.err)
	if err != nil {
		return unlessEnded(err)
	}
	defer link.Close()
	calls, err := c.read(ctx, reader)
	if err != nil {
		return unlessEnded(err)
	}
	calls = slices.DeleteFunc(calls, func(call *replay.Summary) bool { return !call.HasOutcome(c.Outcome) })
	out := bufio.NewWriterSize(std.out, outputBuffer)
	p := view.Printer{Color: view.ColorFor(std.out), Now: time.Now()}
	for _, call := range calls {
		p.Summary(call) // for the widths
	}
	for _, call := range calls {
		if c.Output == "json" {
			err = json.NewEncoder(out).Encode(newCallLine(call, p.Now))
		} else {
			_, err = out.WriteString(p.Summary(call))
		}
		if err != nil {
			return unlessEnded(err)
		}
	}
	if len(calls) == 0 && c.Output == "pretty" {
		which := "calls"
		if c.Outcome != "" {
			which += " with that outcome"
		}
		fmt.Fprintf(std.err, "acsbridge: no %s since %s; --since all reads the whole stream\n", which, c.Since)
	}
	return unlessEnded(out.Flush())
}

// read returns the calls to list.
func (c *callsCmd) read(ctx context.Context, reader *replay.Reader) ([]*replay.Summary, error) {
	selection := replay.Selection{Resource: c.Resource, Since: c.since}
	if c.ID == "" {
		if err := known(ctx, reader, selection, nil); err != nil {
			return nil, err
		}
		return reader.Calls(ctx, selection)
	}
	story, err := reader.Story(ctx, c.ID, time.Now())
	if err != nil {
		return nil, err
	}
	if len(story.Steps) == 0 {
		return nil, unknownCall("stream "+c.Stream, c.ID, story.Searched)
	}
	call := story.Summary(selection)
	if call == nil {
		return nil, fmt.Errorf("stream %s holds call %s, but no event of it by --since and --resource", c.Stream, view.Printable(c.ID))
	}
	return []*replay.Summary{call}, nil
}

// callLine is a call for machines.
type callLine struct {
	State     replay.State `json:"state"`
	Began     time.Time    `json:"began"`
	Seconds   float64      `json:"seconds"` // from the first event to the last
	Events    int          `json:"events"`
	Failures  int          `json:"failures"`
	LastEvent string       `json:"lastEvent"`
	Resource  string       `json:"resource"`
	Calls     []string     `json:"callConnectionIds"` // of its legs and its recording
	Outcome   string       `json:"outcome"`           // in codes and words; empty while nothing has ended
}

func newCallLine(c *replay.Summary, now time.Time) callLine {
	line := callLine{
		State: c.State(now), Began: c.First().UTC(), Seconds: c.Last().Sub(c.First()).Round(time.Millisecond).Seconds(),
		Events: c.Events, Failures: c.Failures, LastEvent: c.Latest, Resource: c.Legs[0].Resource, Calls: []string{},
	}
	line.Outcome, _ = c.Outcome()
	for _, leg := range c.Legs {
		if !leg.EventGrid {
			line.Calls = append(line.Calls, leg.ID)
		}
	}
	return line
}
