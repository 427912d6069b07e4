package main

import (
	"context"
	"errors"
	"strings"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/schemas"
)

// deadLettersCmd handles the events that a service has given up.
type deadLettersCmd struct {
	List    deadLettersListCmd    `cmd:"" group:"Commands:" help:"List the dead letters: number, time, reason, resource, size, call, type."`
	Show    deadLettersShowCmd    `cmd:"" group:"Commands:" help:"Show one as JSON."`
	Redrive deadLettersRedriveCmd `cmd:"" group:"Commands:" help:"Give the events of the chosen ones to the service again, and remove them."`
	Drop    deadLettersDropCmd    `cmd:"" group:"Commands:" help:"Remove the chosen ones."`
}

// serviceSource selects the service whose dead letters they are.
type serviceSource struct {
	Service string `help:"The service." required:"" placeholder:"NAME"`
	config.Reader
}

type deadLettersListCmd struct{ serviceSource }

type deadLettersShowCmd struct {
	itemNumber
	serviceSource
}

type deadLettersRedriveCmd struct {
	itemChoice
	serviceSource
}

type deadLettersDropCmd struct {
	itemChoice
	Release bool `help:"Also let their calls go on, in a service that holds them (HoldFailed)."`
	serviceSource
}

// Help is the text between the summary and the flags of deadletters redrive --help.
func (deadLettersRedriveCmd) Help() string {
	return `No other service gets the events. Those of one call are handled in their order, and before those of the call that wait. ` +
		`The service fetches them from the stream, so they must still be there, within ten seconds.`
}

// Run lists them.
func (c *deadLettersListCmd) Run(ctx context.Context, std stdio) error {
	return listItems(ctx, std, c.open)
}

// Run shows one.
func (c *deadLettersShowCmd) Run(ctx context.Context, std stdio) error {
	return c.show(ctx, std, c.open)
}

const deadLetterNouns = "dead letters"

// Run gives the chosen ones to the service again.
func (c *deadLettersRedriveCmd) Run(ctx context.Context, std stdio) error {
	return c.each(ctx, std, c.open, asked{
		question: "This gives %s to service " + c.Service + " again, and to no other.", nouns: deadLetterNouns, done: "redriven",
		check: itemStore.check, act: itemStore.publish,
	})
}

// Run removes the chosen ones.
func (c *deadLettersDropCmd) Run(ctx context.Context, std stdio) error {
	a := asked{question: "This removes %s for good.", nouns: deadLetterNouns, done: "dropped"}
	if c.Release {
		a.done = "released"
		a.act = func(s itemStore, ctx context.Context, i item) error { return s.(*deadLetterStream).release(ctx, i) }
	}
	return c.each(ctx, std, c.open, a)
}

// deadLetterStream holds the dead letters of a service.
type deadLetterStream struct {
	itemStream
	service string
	events  string // the stream that has the events
}

func (s *serviceSource) open(ctx context.Context, std stdio) (itemStore, error) {
	reader, link, err := s.Open(ctx, std.err)
	if err != nil {
		return nil, err
	}
	store := &deadLetterStream{itemStream{link: link, reader: reader, reason: schemas.HeaderDeadReason, withoutPayload: true}, s.Service, reader.Stream}
	reader.Stream, reader.Prefix = consume.DeadStream(s.Service), schemas.DeadPrefix
	return store, nil
}

// check looks at the entry of the call.
func (s *deadLetterStream) check(ctx context.Context, i item) error {
	js, err := s.link.JetStream(ctx)
	if err != nil {
		return err
	}
	return natsconn.WithRemedy(consume.CheckLetter(ctx, js, s.service, s.events, i.message))
}

// publish gives the event to the service again.
func (s *deadLetterStream) publish(ctx context.Context, i item) error {
	js, err := s.link.JetStream(ctx)
	if err != nil {
		return err
	}
	return natsconn.WithRemedy(consume.RedriveLetter(ctx, js, s.service, s.events, i.message))
}

// release lets the call of a dead letter go on.
func (s *deadLetterStream) release(ctx context.Context, i item) error {
	js, err := s.link.JetStream(ctx)
	if err != nil {
		return err
	}
	call := i.message.Subject[strings.LastIndexByte(i.message.Subject, '.')+1:]
	if err := consume.Redrive(ctx, js, s.service, call); !errors.Is(err, consume.ErrNoEntry) { // its state has expired
		return natsconn.WithRemedy(err)
	}
	return nil
}
