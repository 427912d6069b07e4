package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/replay"
)

// callCmd shows the story of one call.
type callCmd struct {
	ID     string `arg:"" help:"Any id of the call: the callConnectionId of any of its legs, its serverCallId or correlationId, or a recordingId." placeholder:"ID"`
	Output string `help:"pretty, or json (its events, one object a line)." default:"pretty" enum:"pretty,json" placeholder:"FORMAT"`
	personalFlag
	config.Reader
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
	reader, link, err := c.Open(ctx, std.err)
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
		p := view.Printer{Color: view.ColorFor(std.out), Personal: c.ShowPII, Now: time.Now()}
		out.WriteString(p.Story(story))
	}
	return unlessEnded(out.Flush())
}

// unknownCall reports that an id was not found, and what was searched.
func unknownCall(where, id string, in replay.Searched) error {
	if strings.TrimSpace(id) == "" {
		return errors.New("the id of the call is empty")
	}
	if in.Messages == 0 {
		return fmt.Errorf("%s has no event of call %s; it is empty", where, view.Printable(id))
	}
	return fmt.Errorf("%s has no event of call %s: none of its %s from %s to %s has that callConnectionId, serverCallId, correlationId or recordingId; "+
		"acsbridge calls --since all lists all calls", where, view.Printable(id), view.Plural(in.Messages, "message"),
		in.First.Local().Format(time.DateTime), in.Last.Local().Format(time.DateTime))
}
