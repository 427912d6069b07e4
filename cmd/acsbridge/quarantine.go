package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// quarantineCmd is about what did not come into the stream of the events.
type quarantineCmd struct {
	List    quarantineListCmd    `cmd:"" help:"List what is there: number, time, reason, resource, size."`
	Show    quarantineShowCmd    `cmd:"" help:"Show one as JSON."`
	Redrive quarantineRedriveCmd `cmd:"" help:"Publish the events of some, and remove what was published."`
	Drop    quarantineDropCmd    `cmd:"" help:"Remove some."`
}

// asideSettings say where to look.
type asideSettings struct {
	DeadLetters string `help:"The dead-letter file of a bridge, in the place of the quarantine stream." placeholder:"FILE"`
	readerSettings
}

// asideChoice says which ones are meant.
type asideChoice struct {
	Number []uint64 `arg:"" optional:"" help:"Numbers that list shows." placeholder:"NUMBER"`
	All    bool     `help:"All of them."`
	Reason string   `help:"All of this reason." placeholder:"REASON"`
	Yes    bool     `help:"Do not ask."`
}

// Validate refuses a choice of everything by mistake; kong calls it.
func (c *asideChoice) Validate() error {
	ways := 0
	for _, given := range []bool{len(c.Number) > 0, c.All, c.Reason != ""} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return errors.New("say which: numbers that list shows, --reason=REASON, or --all")
	}
	return nil
}

type quarantineListCmd struct{ asideSettings }

type quarantineShowCmd struct {
	Number uint64 `arg:"" help:"Number that list shows."`
	personalFlag
	asideSettings
}

type quarantineRedriveCmd struct {
	asideChoice
	Beside bool `help:"Publish an event beside another one in the stream that has its id, under a message id of its own."`
	asideSettings
}

type quarantineDropCmd struct {
	asideChoice
	asideSettings
}

// item is a callback in quarantine or a dead letter.
type item struct {
	number  uint64
	reason  string
	message *replay.Message
}

// resource is the one that the callback's token was for.
func (i *item) resource() string { return i.message.Header.Get(schemas.HeaderResource) }

// aside is where items are kept.
type aside interface {
	items(context.Context) ([]item, error)
	// take makes sure that nobody else changes what is about to be changed.
	take() error
	// publish brings an item to the stream.
	publish(context.Context, item) error
	remove(context.Context, item) error
	// close keeps what is left.
	close() error
}

// open opens the place where to look.
func (s *asideSettings) open(ctx context.Context, std stdio, beside bool) (aside, error) {
	if s.DeadLetters != "" {
		return openLetters(s, std)
	}
	reader, link, err := s.reader(ctx, std)
	if err != nil {
		return nil, err
	}
	return &quarantine{link: link, reader: reader, redrive: s.redrive(reader, beside)}, nil
}

func (s *asideSettings) redrive(reader *replay.Reader, beside bool) *replay.Redrive {
	return &replay.Redrive{Reader: reader, Decode: ingest.Decode, Beside: beside}
}

// quarantine is the quarantine stream.
type quarantine struct {
	link    *natsconn.Link
	reader  *replay.Reader // of the event stream
	redrive *replay.Redrive
}

// items reads the stream whole: the bridge bounds it to 256 MiB.
func (q *quarantine) items(ctx context.Context) (list []item, err error) {
	reader := *q.reader
	reader.Stream, reader.Prefix = schemas.QuarantineStream, schemas.QuarantinePrefix
	for m, err := range reader.Read(ctx, replay.Selection{}) {
		if err != nil {
			return nil, err
		}
		list = append(list, item{m.Sequence, m.Header.Get(schemas.HeaderQuarantineReason), m})
	}
	return list, nil
}

// take has nothing to do: a stream keeps its sequences.
func (q *quarantine) take() error { return nil }

func (q *quarantine) publish(ctx context.Context, i item) error {
	events, err := q.redrive.Messages(i.message)
	if err != nil {
		return err
	}
	for _, m := range events {
		if err := q.redrive.Publish(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// remove overwrites a message: it is personal data.
func (q *quarantine) remove(ctx context.Context, i item) error {
	js, err := q.link.JetStream(ctx)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, schemas.QuarantineStream)
	if err == nil {
		err = stream.SecureDeleteMsg(ctx, i.number)
	}
	if err != nil {
		return fmt.Errorf("remove it from stream %s: %w; it needs the right to look at that stream and to delete messages", schemas.QuarantineStream, err)
	}
	return nil
}

func (q *quarantine) close() error {
	q.link.Close()
	return nil
}

// Run lists what is there.
func (c *quarantineListCmd) Run(ctx context.Context, std stdio) (err error) {
	place, err := c.open(ctx, std, false)
	if err != nil {
		return unlessEnded(err)
	}
	defer func() { err = errors.Join(err, place.close()) }()
	list, err := place.items(ctx)
	if err != nil {
		return unlessEnded(err)
	}
	p := printer{ink: inkFor(std.out), now: time.Now()}
	line := func(i item) string {
		kind := schemas.ShortType(i.message.Header.Get(schemas.HeaderEventType))
		if kind == "" {
			kind = i.message.Header.Get(schemas.HeaderContentType)
		}
		return fmt.Sprintf("%6d  %s  %s %s %13s  %s", i.number, p.clocks.fit(-leastClock, p.clock(i.message.Time)),
			p.ink.paint(yellow, p.types.fit(leastReason, printable(i.reason))), p.resources.fit(leastResource, printable(i.resource())),
			plural(len(i.message.Data), "byte"), printable(kind))
	}
	for _, i := range list {
		line(i) // for the widths
	}
	for _, i := range list {
		fmt.Fprintln(std.out, strings.TrimRight(line(i), " "))
	}
	if len(list) == 0 {
		fmt.Fprintln(std.err, "there is nothing")
	}
	return nil
}

// Run shows one.
func (c *quarantineShowCmd) Run(ctx context.Context, std stdio) (err error) {
	place, err := c.open(ctx, std, false)
	if err != nil {
		return unlessEnded(err)
	}
	defer func() { err = errors.Join(err, place.close()) }()
	list, err := place.items(ctx)
	if err != nil {
		return unlessEnded(err)
	}
	for _, i := range list {
		if i.number != c.Number {
			continue
		}
		var text bytes.Buffer
		if err := json.Indent(&text, replay.AppendLine(nil, i.message, c.ShowPII), "", "  "); err != nil {
			return err
		}
		_, err = text.WriteTo(std.out)
		return err
	}
	return fmt.Errorf("there is no number %d; list shows those that there are", c.Number)
}

// Run publishes some, and removes what was published.
func (c *quarantineRedriveCmd) Run(ctx context.Context, std stdio) error {
	place, err := c.open(ctx, std, c.Beside)
	if err != nil {
		return unlessEnded(err)
	}
	return c.each(ctx, std, place, "This publishes %s into stream "+c.Stream+", where every consumer gets the events.", "published", place.publish)
}

// Run removes some.
func (c *quarantineDropCmd) Run(ctx context.Context, std stdio) error {
	place, err := c.open(ctx, std, false)
	if err != nil {
		return unlessEnded(err)
	}
	return c.each(ctx, std, place, "This removes %s for good.", "dropped", nil)
}

// each asks, and then deals with the chosen items one after another: act, when
// there is one, and then they are removed. What fails stays.
func (c *asideChoice) each(ctx context.Context, std stdio, place aside, question, done string, act func(context.Context, item) error) (err error) {
	defer func() { err = errors.Join(err, place.close()) }()
	chosen, err := c.choose(ctx, place)
	if err != nil {
		return unlessEnded(err)
	}
	if !c.Yes {
		what := fmt.Sprintf("%d of what is set aside", len(chosen))
		if err := confirm(ctx, std, fmt.Sprintf(question, what)); err != nil {
			return unlessEnded(err)
		}
	}
	if err := place.take(); err != nil {
		return err
	}
	failed := 0
	for _, i := range chosen {
		if ctx.Err() != nil {
			return errors.New("stopped before the end; what is left is there still")
		}
		so, err := "", error(nil)
		if act != nil {
			if err = act(ctx, i); err == nil {
				so = " is " + done + ", and"
			}
		}
		if err == nil {
			err = place.remove(ctx, i)
		}
		if err != nil {
			failed++
			fmt.Fprintf(std.err, "%d%s stays: %s\n", i.number, so, printable(err.Error()))
			continue
		}
		fmt.Fprintf(std.out, "%d %s\n", i.number, done)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d stay where they are", failed, len(chosen))
	}
	return nil
}

// choose returns the items that are meant.
func (c *asideChoice) choose(ctx context.Context, place aside) ([]item, error) {
	list, err := place.items(ctx)
	if err != nil {
		return nil, err
	}
	wanted := make(map[uint64]bool)
	for _, n := range c.Number {
		wanted[n] = true
	}
	var chosen []item
	for _, i := range list {
		if c.All || c.Reason != "" && i.reason == c.Reason || wanted[i.number] {
			chosen = append(chosen, i)
			delete(wanted, i.number)
		}
	}
	for n := range wanted {
		return nil, fmt.Errorf("there is no number %d; list shows those that there are", n)
	}
	if len(chosen) == 0 {
		return nil, errors.New("there is nothing of that kind")
	}
	return chosen, nil
}
