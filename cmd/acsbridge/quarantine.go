package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

// quarantineCmd handles quarantined callbacks and dead letters.
type quarantineCmd struct {
	List    quarantineListCmd    `cmd:"" group:"Commands:" help:"List the entries: number, time, reason, resource, size."`
	Show    quarantineShowCmd    `cmd:"" group:"Commands:" help:"Show one as JSON."`
	Redrive quarantineRedriveCmd `cmd:"" group:"Commands:" help:"Publish the events of the chosen entries, and remove the published ones."`
	Drop    quarantineDropCmd    `cmd:"" group:"Commands:" help:"Remove the chosen entries."`
}

// quarantineSource selects the stream or the file that holds them.
type quarantineSource struct {
	DeadLetters string `help:"The dead-letter file of a bridge, in place of the quarantine stream." placeholder:"FILE"`
	config.Reader
}

// quarantineChoice selects entries.
type quarantineChoice struct {
	Number []uint64 `arg:"" optional:"" help:"Numbers, as list shows them." placeholder:"NUMBER"`
	All    bool     `help:"All of them."`
	Reason string   `help:"All of this reason." placeholder:"REASON"`
	Yes    bool     `help:"Do not ask."`
}

// Validate makes sure that nothing is chosen by mistake; kong calls it.
func (c *quarantineChoice) Validate() error {
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

type quarantineListCmd struct{ quarantineSource }

type quarantineShowCmd struct {
	Number uint64 `arg:"" help:"Number that list shows."`
	personalFlag
	quarantineSource
}

type quarantineRedriveCmd struct {
	quarantineChoice
	NewID bool `name:"new-id" help:"Publish an event under a message id of its own when the stream has another event with its id."`
	quarantineSource
}

type quarantineDropCmd struct {
	quarantineChoice
	quarantineSource
}

// item is a quarantined callback or a dead letter.
type item struct {
	number  uint64
	reason  string
	message *replay.StoredMessage
}

// itemStore holds items.
type itemStore interface {
	items(context.Context) ([]item, error)
	// claim makes sure that no other process changes the items from now on.
	claim() error
	// publish brings an item to the stream.
	publish(context.Context, item) error
	remove(context.Context, item) error
	close() error
}

func (s *quarantineSource) open(ctx context.Context, std stdio, newID bool) (itemStore, error) {
	if s.DeadLetters != "" {
		file, err := resend.OpenDeadLetters(s.DeadLetters)
		if err != nil {
			return nil, fmt.Errorf("--dead-letters: %w", err)
		}
		return &deadLetterFile{source: s, std: std, file: file}, nil
	}
	reader, link, err := s.Open(ctx, std.err)
	if err != nil {
		return nil, err
	}
	return &quarantineStream{link, &resend.Redrive{Reader: reader, Decode: ingest.Decode, NewID: newID}}, nil
}

// quarantineStream holds quarantined callbacks.
type quarantineStream struct {
	link    *natsconn.Link
	redrive *resend.Redrive
}

// items reads the stream whole: the bridge bounds it to 256 MiB.
func (q *quarantineStream) items(ctx context.Context) (list []item, err error) {
	reader := *q.redrive.Reader
	reader.Stream, reader.Prefix = schemas.QuarantineStream, schemas.QuarantinePrefix
	for m, err := range reader.Read(ctx, replay.Selection{}) {
		if err != nil {
			return nil, err
		}
		list = append(list, item{m.Sequence, m.Header.Get(schemas.HeaderQuarantineReason), m})
	}
	return list, nil
}

// claim has nothing to do: sequences of a stream do not change.
func (q *quarantineStream) claim() error { return nil }

func (q *quarantineStream) publish(ctx context.Context, i item) error {
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
func (q *quarantineStream) remove(ctx context.Context, i item) error {
	js, err := q.link.JetStream(ctx)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, schemas.QuarantineStream)
	if err == nil {
		err = stream.SecureDeleteMsg(ctx, i.number)
	}
	if err != nil {
		return fmt.Errorf("remove it from stream %s: %w; it needs the rights to get the information of that stream and to delete its messages", schemas.QuarantineStream, err)
	}
	return nil
}

func (q *quarantineStream) close() error {
	q.link.Close()
	return nil
}

// deadLetterFile holds dead letters. Their numbers are those of its lines.
type deadLetterFile struct {
	source  *quarantineSource
	std     stdio
	file    *resend.DeadLetterFile
	link    *natsconn.Link // nil until a letter is published
	redrive *resend.Redrive
}

func (f *deadLetterFile) items(context.Context) (list []item, err error) {
	for i, letter := range f.file.Letters {
		list = append(list, item{uint64(i + 1), letter.Reason, letter.Message})
	}
	return list, nil
}

func (f *deadLetterFile) claim() error {
	if err := f.file.Claim(); err != nil {
		return fmt.Errorf("--dead-letters: %w", err)
	}
	return nil
}

func (f *deadLetterFile) publish(ctx context.Context, i item) error {
	if f.redrive == nil {
		reader, link, err := f.source.Open(ctx, f.std.err)
		if err != nil {
			return err
		}
		f.link, f.redrive = link, &resend.Redrive{Reader: reader, Decode: ingest.Decode}
	}
	m, err := f.redrive.Letter(i.message)
	if err != nil {
		return err
	}
	return f.redrive.Publish(ctx, m)
}

func (f *deadLetterFile) remove(_ context.Context, i item) error {
	return f.file.Remove(int(i.number) - 1)
}

func (f *deadLetterFile) close() error {
	if f.link != nil {
		f.link.Close()
	}
	left, err := f.file.Close()
	if left {
		fmt.Fprintf(f.std.err, "the letters that are left are in %s\n", f.file.Path)
	}
	return err
}

// read returns the items of a store that stays as it is.
func (s *quarantineSource) read(ctx context.Context, std stdio) (list []item, err error) {
	store, err := s.open(ctx, std, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	return store.items(ctx)
}

// Run lists the items.
func (c *quarantineListCmd) Run(ctx context.Context, std stdio) error {
	list, err := c.read(ctx, std)
	if err != nil {
		return unlessEnded(err)
	}
	p := view.Printer{Color: view.ColorFor(std.out), Now: time.Now()}
	line := func(i item) string {
		kind := schemas.ShortType(i.message.Header.Get(schemas.HeaderEventType))
		if kind == "" {
			kind = i.message.Header.Get(schemas.HeaderContentType)
		}
		return p.Quarantined(i.number, i.reason, kind, i.message)
	}
	for _, i := range list {
		line(i) // for the widths
	}
	for _, i := range list {
		fmt.Fprintln(std.out, strings.TrimRight(line(i), " "))
	}
	if len(list) == 0 {
		fmt.Fprintln(std.err, "there are none")
	}
	return nil
}

// Run shows one entry.
func (c *quarantineShowCmd) Run(ctx context.Context, std stdio) error {
	list, err := c.read(ctx, std)
	if err != nil {
		return unlessEnded(err)
	}
	for _, i := range list {
		if i.number != c.Number {
			continue
		}
		var text bytes.Buffer
		if err := json.Indent(&text, replay.AppendLine(nil, i.message, c.masking()), "", "  "); err != nil {
			return err
		}
		_, err = text.WriteTo(std.out)
		return err
	}
	return fmt.Errorf("there is no number %d; list shows the numbers", c.Number)
}

// Run publishes the chosen entries, and removes those that were published.
func (c *quarantineRedriveCmd) Run(ctx context.Context, std stdio) error {
	store, err := c.open(ctx, std, c.NewID)
	if err != nil {
		return unlessEnded(err)
	}
	return c.each(ctx, std, store, "This publishes %s into stream "+c.Stream+", where every consumer gets the events.", "published", store.publish)
}

// Run removes the chosen entries.
func (c *quarantineDropCmd) Run(ctx context.Context, std stdio) error {
	store, err := c.open(ctx, std, false)
	if err != nil {
		return unlessEnded(err)
	}
	return c.each(ctx, std, store, "This removes %s for good.", "dropped", nil)
}

// each asks, and then calls act, if there is one, for each chosen item and removes it.
// An item whose act fails stays.
func (c *quarantineChoice) each(ctx context.Context, std stdio, store itemStore, question, done string, act func(context.Context, item) error) (err error) {
	defer func() { err = errors.Join(err, store.close()) }()
	chosen, err := c.choose(ctx, store)
	if err != nil {
		return unlessEnded(err)
	}
	if !c.Yes {
		what := fmt.Sprintf("%d quarantined callbacks or dead letters", len(chosen))
		if err := view.Confirm(ctx, std.err, fmt.Sprintf(question, what)); err != nil {
			return unlessEnded(err)
		}
	}
	if err := store.claim(); err != nil {
		return err
	}
	failed := 0
	for _, i := range chosen {
		if ctx.Err() != nil {
			return errors.New("stopped before the end; the others stay")
		}
		published, err := "", error(nil)
		if act != nil {
			if err = act(ctx, i); err == nil {
				published = " is " + done + ", and"
			}
		}
		if err == nil {
			err = store.remove(ctx, i)
		}
		if err != nil {
			failed++
			fmt.Fprintf(std.err, "%d%s stays: %s\n", i.number, published, view.Printable(err.Error()))
			continue
		}
		fmt.Fprintf(std.out, "%d %s\n", i.number, done)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d stay where they are", failed, len(chosen))
	}
	return nil
}

// choose returns the chosen items.
func (c *quarantineChoice) choose(ctx context.Context, store itemStore) ([]item, error) {
	list, err := store.items(ctx)
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
		return nil, fmt.Errorf("there is no number %d; list shows the numbers", n)
	}
	if len(chosen) == 0 {
		return nil, errors.New("there are none with this reason")
	}
	return chosen, nil
}
