package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/acsbridge/acsbridge/replay"
)

// callsCmd lists calls.
type callsCmd struct {
	Since    string `help:"Where to begin: as --since of tail." default:"1h" placeholder:"POSITION"`
	Resource string `help:"Only calls of this resource, by the name that serve has for it." placeholder:"NAME"`
	Output   string `help:"pretty, or json (one object a line)." default:"pretty" enum:"pretty,json" placeholder:"FORMAT"`
	readerSettings

	since replay.Position
}

// Validate refuses a position that is none; kong calls it.
func (c *callsCmd) Validate() (err error) {
	if c.since, err = replay.ParsePosition(c.Since, time.Now()); err != nil {
		return fmt.Errorf("--since: %w", err)
	}
	return nil
}

// Run prints one line a call.
func (c *callsCmd) Run(ctx context.Context, std stdio) error {
	reader, link, err := c.reader(ctx, std)
	if err != nil {
		return unlessEnded(err)
	}
	defer link.Close()
	calls, err := reader.Calls(ctx, replay.Selection{Resource: c.Resource, Since: c.since})
	if err != nil {
		return unlessEnded(err)
	}
	out := bufio.NewWriterSize(std.out, outputBuffer)
	p := printer{ink: inkFor(std.out), now: time.Now()}
	for _, call := range calls {
		if c.Output == "json" {
			err = json.NewEncoder(out).Encode(newCallLine(call, p.now))
		} else {
			_, err = out.WriteString(p.call(call))
		}
		if err != nil {
			return unlessEnded(err)
		}
	}
	if len(calls) == 0 && c.Output == "pretty" {
		fmt.Fprintf(std.err, "acsbridge: no calls since %s; --since all looks at everything that the stream holds\n", c.Since)
	}
	return unlessEnded(out.Flush())
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
}

func newCallLine(c *replay.Summary, now time.Time) callLine {
	line := callLine{
		State: c.State(now), Began: c.First().UTC(), Seconds: c.Last().Sub(c.First()).Round(time.Millisecond).Seconds(),
		Events: c.Events, Failures: c.Failures, LastEvent: c.Latest, Resource: c.Legs[0].Resource, Calls: []string{},
	}
	for _, leg := range c.Legs {
		if !leg.Grid {
			line.Calls = append(line.Calls, leg.ID)
		}
	}
	return line
}

// call is one line: when it began, how it stands, how long it took, how much it
// has, the last event, the resource, and the id of its first connection.
func (p *printer) call(c *replay.Summary) string {
	state := c.State(p.now)
	colour := map[replay.State]string{replay.Active: green, replay.Failed: red, replay.Silent: yellow}[state]
	failures := ""
	if c.Failures > 0 {
		failures = p.ink.paint(red, fmt.Sprintf("  %d failed", c.Failures))
	}
	id, legs := c.Legs[0], 0
	for _, leg := range c.Legs {
		if !leg.Connects() {
			continue
		}
		if legs++; legs == 1 {
			id = leg
		}
	}
	return fmt.Sprintf("%s  %s %9s %11s %7s  %-24s %-10s %s%s\n", p.ink.paint(faint, p.clock(c.First())),
		p.ink.paint(colour, fmt.Sprintf("%-7s", state)), span(c.Last().Sub(c.First())), plural(c.Events, "event"), plural(legs, "leg"),
		printable(c.Latest), printable(id.Resource), p.ink.paint(cyan, printable(id.ID)), failures)
}
