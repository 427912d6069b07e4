package main

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

// quarantineCmd handles quarantined callbacks and dead letters.
type quarantineCmd struct {
	List    quarantineListCmd    `cmd:"" group:"Commands:" help:"List the entries: number, time, reason, resource, size, type, and the call of an event."`
	Show    quarantineShowCmd    `cmd:"" group:"Commands:" help:"Show one as JSON."`
	Redrive quarantineRedriveCmd `cmd:"" group:"Commands:" help:"Publish the events of the chosen entries, and remove the published ones."`
	Drop    quarantineDropCmd    `cmd:"" group:"Commands:" help:"Remove the chosen entries."`
}

// quarantineSource selects the stream or the file that holds them.
type quarantineSource struct {
	DeadLetters string `help:"The dead-letter file of a bridge, in place of the quarantine stream." placeholder:"FILE"`
	config.Reader

	newID bool
}

type quarantineListCmd struct{ quarantineSource }

type quarantineShowCmd struct {
	itemNumber
	quarantineSource
}

type quarantineRedriveCmd struct {
	itemChoice
	NewID bool `name:"new-id" help:"Publish an event under a message id of its own when the stream has another event with its id."`
	quarantineSource
}

type quarantineDropCmd struct {
	itemChoice
	quarantineSource
}

// quarantineNouns are what there are some of.
const quarantineNouns = "quarantined callbacks or dead letters"

func (s *quarantineSource) open(ctx context.Context, std stdio) (itemStore, error) {
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
	quarantine := *reader
	quarantine.Stream, quarantine.Prefix = schemas.QuarantineStream, schemas.QuarantinePrefix
	return &quarantineStream{
		itemStream{link: link, reader: &quarantine, reason: schemas.HeaderQuarantineReason}, &resend.Redrive{Reader: reader, Decode: ingest.Decode, NewID: s.newID},
	}, nil
}

// quarantineStream holds quarantined callbacks.
type quarantineStream struct {
	itemStream
	redrive *resend.Redrive
}

func (q *quarantineStream) check(ctx context.Context, i item) error {
	return q.each(i, func(m *nats.Msg) error { return q.redrive.Check(ctx, m) })
}

func (q *quarantineStream) publish(ctx context.Context, i item) error {
	return q.each(i, func(m *nats.Msg) error { return q.redrive.Publish(ctx, m) })
}

// each does something with the events of a callback, until that fails.
func (q *quarantineStream) each(i item, do func(*nats.Msg) error) error {
	events, err := q.redrive.Messages(i.message)
	if err != nil {
		return err
	}
	for _, m := range events {
		if err := do(m); err != nil {
			return err
		}
	}
	return nil
}

// deadLetterFile holds dead letters. Their numbers are those of its lines.
type deadLetterFile struct {
	source  *quarantineSource
	std     stdio
	file    *resend.DeadLetterFile
	link    *natsconn.Link // nil until a letter is checked or published
	redrive *resend.Redrive
}

func (f *deadLetterFile) items(ctx context.Context) (list []item, err error) {
	for n := range f.file.Len() {
		i, err := f.item(ctx, uint64(n+1))
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	return list, nil
}

func (f *deadLetterFile) item(_ context.Context, number uint64) (item, error) {
	if number == 0 || number > uint64(f.file.Len()) {
		return item{}, errNoItem
	}
	letter, err := f.file.Letter(int(number) - 1)
	if err != nil {
		return item{}, fmt.Errorf("--dead-letters: %w", err)
	}
	return newItem(number, letter.Reason, letter.Message), nil
}

func (f *deadLetterFile) claim() error {
	if err := f.file.Claim(); err != nil {
		return fmt.Errorf("--dead-letters: %w", err)
	}
	return nil
}

func (f *deadLetterFile) check(ctx context.Context, i item) error {
	m, err := f.letter(ctx, i)
	if err != nil {
		return err
	}
	return f.redrive.Check(ctx, m)
}

func (f *deadLetterFile) publish(ctx context.Context, i item) error {
	m, err := f.letter(ctx, i)
	if err != nil {
		return err
	}
	return f.redrive.Publish(ctx, m)
}

// letter returns the message of a dead letter. It connects at the first one.
func (f *deadLetterFile) letter(ctx context.Context, i item) (*nats.Msg, error) {
	if f.redrive == nil {
		reader, link, err := f.source.Open(ctx, f.std.err)
		if err != nil {
			return nil, err
		}
		f.link, f.redrive = link, &resend.Redrive{Reader: reader, Decode: ingest.Decode}
	}
	return f.redrive.Letter(i.message)
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

// Run lists the entries.
func (c *quarantineListCmd) Run(ctx context.Context, std stdio) error {
	return listItems(ctx, std, c.open)
}

// Run shows one entry.
func (c *quarantineShowCmd) Run(ctx context.Context, std stdio) error {
	return c.show(ctx, std, c.open)
}

// Run publishes the chosen entries, and removes those that were published.
func (c *quarantineRedriveCmd) Run(ctx context.Context, std stdio) error {
	c.newID = c.NewID
	return c.each(ctx, std, c.open, asked{
		question: "This publishes %s into stream " + c.Stream + ", where every consumer gets the events.",
		nouns:    quarantineNouns, done: "published", check: itemStore.check, act: itemStore.publish,
	})
}

// Run removes the chosen entries.
func (c *quarantineDropCmd) Run(ctx context.Context, std stdio) error {
	return c.each(ctx, std, c.open, asked{question: "This removes %s for good.", nouns: quarantineNouns, done: "dropped"})
}
