package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/replay"
)

// Summary is one line of a call: when it began, its state, how long it took, its events and legs,
// the last event, the resource, and the id of its first connection.
func (p *Printer) Summary(c *replay.Summary) string {
	state := c.State(p.Now)
	code := map[replay.State]string{replay.Active: Green, replay.Failed: Red, replay.Silent: Yellow}[state]
	failures := ""
	if c.Failures > 0 {
		failures = p.Color.Paint(Red, fmt.Sprintf("  %d failed", c.Failures))
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
	return fmt.Sprintf("%s  %s %9s %s %7s  %s %s %s%s\n", p.Color.Paint(Faint, p.clocks.fit(-leastClock, p.Clock(c.First()))),
		p.Color.Paint(code, fmt.Sprintf("%-7s", state)), span(c.Last().Sub(c.First())), p.events.fit(-leastEvents, Plural(c.Events, "event")),
		Plural(legs, "leg"), p.types.fit(leastType, Printable(c.Latest)), p.resources.fit(leastResource, Printable(id.Resource)),
		p.Color.Paint(Cyan, Printable(id.ID)), failures)
}

// Story is a call's story as text.
func (p *Printer) Story(s *replay.Story) string {
	var b strings.Builder
	began := s.First()
	fmt.Fprintf(&b, "%s of %s: %s in %s, from %s\n\n", p.Color.Paint(Bold, "call"), Printable(s.Steps[0].Resource),
		Plural(len(s.Steps), "event"), span(s.Last().Sub(began)), p.Clock(began))
	for _, step := range s.Steps {
		p.types.fit(leastType, Printable(step.Type)) // for the width
	}
	for _, leg := range s.Legs {
		fmt.Fprintf(&b, "  %-3s %s  %s\n", leg.Name, p.Color.Paint(Cyan, Printable(leg.ID)), p.leg(leg))
	}
	b.WriteString("\n")
	for _, step := range s.Steps {
		line := fmt.Sprintf("%11s  %-3s %s %s", offset(step.At.Sub(began)), step.Leg.Name, p.kind(step.StoredEvent), p.details(step))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	if len(s.Findings) > 0 {
		b.WriteString("\n")
	}
	for _, f := range s.Findings {
		at, code := "", Yellow
		if f.Step != nil {
			at = " at " + offset(f.Step.At.Sub(began))
		}
		if f.Kind == replay.Failure {
			code = Red
		}
		fmt.Fprintf(&b, "%s  %s%s\n", p.Color.Paint(code, fmt.Sprintf("%-7s", f.Kind)), Printable(f.Text), at)
	}
	return b.String()
}

// leg is the outcome of a leg.
func (p *Printer) leg(l *replay.Leg) string {
	switch {
	case l.EventGrid:
		return "Event Grid, " + Plural(l.Events, "event")
	case l.Recording:
		return "recording, " + Plural(l.Events, "event")
	case !l.Connected.IsZero() && l.End != nil:
		return fmt.Sprintf("connected for %s, ended %s", span(max(l.Ended.Sub(l.Connected), 0)), ending(l.End))
	case l.End != nil:
		return "ended " + ending(l.End)
	case !l.Connected.IsZero():
		return "connected, no end so far"
	}
	return Plural(l.Events, "event") + ", neither beginning nor end"
}

// ending is how a leg ended, in codes and words.
func ending(step *replay.Step) string {
	r := step.Result()
	if r == nil {
		return "without a result"
	}
	if words := replay.ResultMeaning(r); words != "" {
		return fmt.Sprintf("%d/%d: %s", r.Code, r.SubCode, words)
	}
	return fmt.Sprintf("%d/%d", r.Code, r.SubCode)
}

// details are the brief of an event, the meaning of its codes, how long its operation
// took, its participants, and notes.
func (p *Printer) details(step *replay.Step) string {
	words := []string{Printable(step.Brief())}
	if meaning := replay.ResultMeaning(step.Result()); meaning != "" {
		words = append(words, meaning)
	}
	if step.Took > 0 {
		words = append(words, p.Color.Paint(Faint, "took "+span(step.Took)))
	}
	if people := p.people(step.StoredEvent); people != "" {
		words = append(words, people)
	}
	if step.Note != "" {
		words = append(words, p.Color.Paint(Yellow, "["+step.Note+"]"))
	}
	if cut := p.cut(step.Message); cut != "" {
		words = append(words, cut)
	}
	return strings.TrimSpace(strings.Join(words, "  "))
}

// offset is a time since the beginning of a call, in seconds.
func offset(d time.Duration) string { return fmt.Sprintf("%+.3f", d.Seconds()) }

// span is a duration for people: 1.234s, 3m20s, 2h5m0s.
func span(d time.Duration) string {
	if d < time.Minute {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
