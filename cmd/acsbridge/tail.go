package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"syscall"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/replay"
)

// tailCmd prints events of the stream, past and new ones.
type tailCmd struct {
	selectionFlags
	connectionFlag

	Since  string `help:"Where to begin: a duration before now such as 10m or 2d, a time such as 2026-03-01T14:30, a sequence such as seq:4711, or all. Without it: 10m, or all with --call." placeholder:"POSITION"`
	Follow bool   `short:"f" help:"Continue with new events, until Ctrl-C."`
	Output string `help:"pretty, json (one object a line) or raw (the payload alone)." default:"pretty" enum:"pretty,json,raw" placeholder:"FORMAT"`
	personalFlag
	config.Reader

	since replay.Position
}

// selectionFlags say which events a command is about.
type selectionFlags struct {
	Type     string `help:"Only events of this type, such as CallConnected." placeholder:"TYPE"`
	Resource string `help:"Only events of this resource, by the name that serve has for it." placeholder:"NAME"`
}

// connectionFlag selects by subject, so that it also works for events yet to come.
type connectionFlag struct {
	Call string `help:"Only events of this callConnectionId, or for Event Grid of this correlationId. (call, calls --id and replay --call take any id of a call.)" placeholder:"ID"`
}

// personalFlag allows personal data in the output.
type personalFlag struct {
	ShowPII bool `name:"show-pii" help:"Show telephone numbers, identifiers, texts and the application's own context. They are masked without."`
}

func (f personalFlag) masking() replay.Masking {
	if f.ShowPII {
		return replay.MaskSecrets
	}
	return replay.MaskPII
}

// defaultSince is how far tail goes back without --since.
const defaultSince = "10m"

// Help is the text between the summary and the flags of tail --help.
func (tailCmd) Help() string {
	return `Reads without a consumer: nothing is left on the server, and no service that consumes the stream notices. ` +
		`The nats-* settings are those of serve, also in its variables and its file.`
}

// Validate refuses what cannot be done; kong calls it.
func (c *tailCmd) Validate() (err error) {
	if c.Output == "raw" && !c.ShowPII {
		return errors.New("--output=raw: the payload as ACS sent it has telephone numbers; add --show-pii, or take json, which masks them")
	}
	if c.Since == "" && c.Call != "" {
		c.Since = "all"
	}
	c.Since = cmp.Or(c.Since, defaultSince)
	if c.since, err = replay.ParsePosition(c.Since, time.Now()); err != nil {
		return fmt.Errorf("--since: %w", err)
	}
	return nil
}

// Run prints until the end of the stream, or until ctx ends with --follow.
func (c *tailCmd) Run(ctx context.Context, std stdio) error {
	reader, link, err := c.Open(ctx, std.err)
	if err != nil {
		return unlessEnded(err)
	}
	defer link.Close()
	out := bufio.NewWriterSize(std.out, outputBuffer)
	p := view.Printer{Color: view.ColorFor(std.out), Personal: c.ShowPII, Now: time.Now()}
	line := c.line(&p)
	selection := replay.Selection{Resource: c.Resource, Type: c.Type, Call: c.Call, Since: c.since, Follow: c.Follow}
	printed := 0
	var text []byte
	messages := reader.Read(ctx, selection)
	if !c.Follow && c.Output == "pretty" {
		messages = lookAhead(messages, func(m *replay.StoredMessage) { p.AppendMessage(nil, m) })
	}
	for m, err := range messages {
		if err != nil {
			return unlessEnded(errors.Join(out.Flush(), resumeHint(err)))
		}
		text = line(text[:0], m)
		if _, err := out.Write(text); err != nil {
			return unlessEnded(err)
		}
		printed++
		if c.Follow { // each is shown at once
			if err := out.Flush(); err != nil {
				return unlessEnded(err)
			}
		}
	}
	if printed == 0 && c.Output == "pretty" {
		fmt.Fprintln(std.err, "acsbridge: "+c.nothing())
	}
	return unlessEnded(out.Flush())
}

// nothing is printed when there were no events.
func (c *tailCmd) nothing() string {
	text := "the stream has no such events"
	if c.since != (replay.Position{}) {
		text = fmt.Sprintf("no such events since %s; --since all reads the whole stream", c.Since)
	}
	if c.Call != "" {
		text += "\n--call is a callConnectionId here; acsbridge call takes any id of a call"
	}
	return text
}

// outputBuffer is how much is written at a time.
const outputBuffer = 64 << 10

// line is how a message is written, by --output.
func (c *tailCmd) line(p *view.Printer) func([]byte, *replay.StoredMessage) []byte {
	switch c.Output {
	case "json":
		return func(dst []byte, m *replay.StoredMessage) []byte { return replay.AppendLine(dst, m, c.masking()) }
	case "raw":
		return func(dst []byte, m *replay.StoredMessage) []byte { return append(append(dst, m.Data...), '\n') }
	}
	return p.AppendMessage
}

// maxLookAhead is how many messages are read ahead, at most.
const maxLookAhead = 500

// lookAhead calls look with the first messages before the first of them is yielded, so
// that columns have their widths by then.
func lookAhead(messages iter.Seq2[*replay.StoredMessage, error], look func(*replay.StoredMessage)) iter.Seq2[*replay.StoredMessage, error] {
	return func(yield func(*replay.StoredMessage, error) bool) {
		var held []*replay.StoredMessage
		release := func() bool {
			for _, m := range held {
				if !yield(m, nil) {
					return false
				}
			}
			held = nil
			return true
		}
		n := 0
		for m, err := range messages {
			if n++; err == nil && n <= maxLookAhead {
				look(m)
				held = append(held, m)
				continue
			}
			if !release() || !yield(m, err) {
				return
			}
		}
		release()
	}
}

// unlessEnded is nil for the ways in which a user ends a command that prints: Ctrl-C,
// and a pipe whose reader is gone.
func unlessEnded(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// resumeHint adds to an error of a reading how to continue it.
func resumeHint(err error) error {
	if stopped, ok := errors.AsType[*replay.StoppedError](err); ok && stopped.Next > 0 {
		return fmt.Errorf("%w; --since seq:%d continues there", err, stopped.Next)
	}
	return err
}
