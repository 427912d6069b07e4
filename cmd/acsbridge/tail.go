package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/suggest"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
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
	Type     []string `help:"Only events of this type, such as CallConnected. Repeatable." placeholder:"TYPE"`
	Resource string   `help:"Only events of this resource, by the name that serve has for it." placeholder:"NAME"`
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
	selection := replay.Selection{Resource: c.Resource, Types: c.Type, Call: c.Call, Since: c.since, Follow: c.Follow}
	if err := known(ctx, reader, selection, std.err); err != nil {
		return unlessEnded(err)
	}
	out := bufio.NewWriterSize(std.out, outputBuffer)
	p := view.Printer{Color: view.ColorFor(std.out), Personal: c.ShowPII, Now: time.Now()}
	line := c.line(&p)
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
	if c.since == (replay.Position{}) {
		return "the stream has no such events"
	}
	return fmt.Sprintf("no such events since %s; --since all reads the whole stream", c.Since)
}

// known reports a resource, a call or a type that the stream has no event of. With Follow
// such a resource or call may still come: that is noted and not an error. Types of the
// contract may come in any case.
func known(ctx context.Context, reader *replay.Reader, s replay.Selection, notes io.Writer) error {
	silent := *reader
	silent.OnWarning = nil // the reading that follows has the same
	err := checkKnown("stream "+reader.Stream, s, func(s replay.Selection) iter.Seq2[*replay.StoredMessage, error] { return silent.Read(ctx, s) })
	unknown, ok := errors.AsType[*unknownError](err)
	if !ok || !s.Follow || unknown.isType {
		return err
	}
	fmt.Fprintf(notes, "acsbridge: %v; waiting for one\n", err)
	return nil
}

// unknownError reports a name in a selection that the events do not have.
type unknownError struct {
	isType bool
	text   string
}

func (e *unknownError) Error() string { return e.text }

// maxNamed is how many messages are read for the names of resources that are suggested.
const maxNamed = 1000

// checkKnown returns an [*unknownError] for a resource, a call or a type that no event
// has, unless it is a type of the contract.
func checkKnown(where string, s replay.Selection, read func(replay.Selection) iter.Seq2[*replay.StoredMessage, error]) error {
	exists := func(s replay.Selection) (bool, error) {
		s.Limit = 1
		for _, err := range read(s) {
			return err == nil, err
		}
		return false, nil
	}
	for _, name := range s.Types {
		if _, known := schemas.LookupType(name); known {
			continue
		}
		found, err := exists(replay.Selection{Types: []string{name}})
		if err != nil {
			return err
		}
		if found {
			continue
		}
		return &unknownError{true, fmt.Sprintf("%s %s has no event of it; acsbridge events lists the known ones", unknownType(name), where)}
	}
	if s.Resource != "" {
		found, err := exists(replay.Selection{Resource: s.Resource})
		if err != nil {
			return err
		}
		if !found {
			return unknownResource(where, s.Resource, read)
		}
	}
	if s.Call == "" {
		return nil
	}
	if found, err := exists(replay.Selection{Call: s.Call}); err != nil || found {
		return err
	}
	return &unknownError{false, fmt.Sprintf("%s has no event whose callConnectionId is %s; acsbridge call, calls --id and replay --call take any id of a call", where, view.Printable(s.Call))}
}

// unknownResource names resources of the first events.
func unknownResource(where, name string, read func(replay.Selection) iter.Seq2[*replay.StoredMessage, error]) error {
	resources := make(map[string]bool)
	for m, err := range read(replay.Selection{Limit: maxNamed}) {
		if err != nil {
			return err
		}
		if subject, ok := schemas.ParseSubject(m.Subject); ok {
			resources[subject.Resource] = true
		}
	}
	hint := "; it is empty"
	if names := slices.Sorted(maps.Keys(resources)); len(names) > 0 {
		hint = "; its first events are of " + strings.Join(names, ", ")
		if nearest, distance := suggest.Nearest(name, names); distance <= len(name)/2 {
			hint = fmt.Sprintf(", did you mean %s?", nearest)
		}
	}
	return &unknownError{false, fmt.Sprintf("%s has no event of resource %q%s", where, name, hint)}
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
