package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/replay"
)

// callCmd shows the story of one call.
type callCmd struct {
	ID     string `arg:"" help:"Any id of the call: the callConnectionId of any of its legs, its serverCallId or correlationId, or a recordingId." placeholder:"ID"`
	Output string `help:"pretty, or json (its events, one object a line)." default:"pretty" enum:"pretty,json" placeholder:"FORMAT"`
	personalFlag
	readerSettings
}

// Help is the text between the summary and the flags of call --help.
func (callCmd) Help() string {
	return `The legs of a call and its recording have different callConnectionIds. Those that share its serverCallId or ` +
		`correlationId are found in what was stored from two minutes before it to two minutes after it. ` +
		`A callConnectionId is found at once; for another id the stream is read, the last hour first. ` +
		`Times are those of ACS; the order is that of the stream.`
}

// Run prints the call's legs, its events, and its findings.
func (c *callCmd) Run(ctx context.Context, std stdio) error {
	reader, link, err := c.reader(ctx, std)
	if err != nil {
		return unlessEnded(err)
	}
	defer link.Close()
	story, err := reader.Story(ctx, c.ID, time.Now())
	if err != nil {
		return unlessEnded(err)
	}
	if len(story.Steps) == 0 {
		return unknownCall("stream "+c.Stream, c.ID, story.Searched)
	}
	out := bufio.NewWriterSize(std.out, outputBuffer)
	if c.Output == "json" {
		for _, step := range story.Steps {
			out.Write(replay.AppendLine(nil, step.Message, c.masking()))
		}
	} else {
		p := printer{color: colorFor(std.out), personal: c.ShowPII, now: time.Now()}
		out.WriteString(p.story(story))
	}
	return unlessEnded(out.Flush())
}

// unknownCall reports that an id was not found, and what was searched.
func unknownCall(where, id string, in replay.Searched) error {
	if strings.TrimSpace(id) == "" {
		return errors.New("the id of the call is empty")
	}
	if in.Messages == 0 {
		return fmt.Errorf("%s has no event of call %s; it is empty", where, printable(id))
	}
	return fmt.Errorf("%s has no event of call %s: none of its %s from %s to %s has that callConnectionId, serverCallId, correlationId or recordingId; "+
		"acsbridge calls --since all lists all calls", where, printable(id), plural(in.Messages, "message"),
		in.First.Local().Format(time.DateTime), in.Last.Local().Format(time.DateTime))
}

// story is a call's story as text.
func (p *printer) story(s *replay.Story) string {
	var b strings.Builder
	began := s.First()
	fmt.Fprintf(&b, "%s of %s: %s in %s, from %s\n\n", p.color.paint(bold, "call"), printable(s.Steps[0].Resource),
		plural(len(s.Steps), "event"), span(s.Last().Sub(began)), p.clock(began))
	for _, step := range s.Steps {
		p.types.fit(leastType, printable(step.Type)) // for the width
	}
	for _, leg := range s.Legs {
		fmt.Fprintf(&b, "  %-3s %s  %s\n", leg.Name, p.color.paint(cyan, printable(leg.ID)), p.leg(leg))
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
		at, code := "", yellow
		if f.Step != nil {
			at = " at " + offset(f.Step.At.Sub(began))
		}
		if f.Kind == replay.Failure {
			code = red
		}
		fmt.Fprintf(&b, "%s  %s%s\n", p.color.paint(code, fmt.Sprintf("%-7s", f.Kind)), printable(f.Text), at)
	}
	return b.String()
}

// leg is the outcome of a leg.
func (p *printer) leg(l *replay.Leg) string {
	switch {
	case l.EventGrid:
		return "Event Grid, " + plural(l.Events, "event")
	case l.Recording:
		return "recording, " + plural(l.Events, "event")
	case !l.Connected.IsZero() && l.End != nil:
		return fmt.Sprintf("connected for %s, ended %s", span(max(l.Ended.Sub(l.Connected), 0)), ending(l.End))
	case l.End != nil:
		return "ended " + ending(l.End)
	case !l.Connected.IsZero():
		return "connected, no end so far"
	}
	return plural(l.Events, "event") + ", neither beginning nor end"
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
func (p *printer) details(step *replay.Step) string {
	words := []string{printable(step.Brief())}
	if meaning := replay.ResultMeaning(step.Result()); meaning != "" {
		words = append(words, meaning)
	}
	if step.Took > 0 {
		words = append(words, p.color.paint(faint, "took "+span(step.Took)))
	}
	if people := p.people(step.StoredEvent); people != "" {
		words = append(words, people)
	}
	if step.Note != "" {
		words = append(words, p.color.paint(yellow, "["+step.Note+"]"))
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
