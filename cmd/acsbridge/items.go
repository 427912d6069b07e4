package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// What quarantine and deadletters have in common: entries that an operator lists, shows,
// sends again and removes.

// item is a quarantined callback or a dead letter.
type item struct {
	number  uint64
	reason  string
	kind    string // type of the event, or of the content
	call    string // token of the event's call in its subject; empty without one
	size    int    // of the payload, which a list may lack
	message *replay.StoredMessage
}

func newItem(number uint64, reason string, m *replay.StoredMessage) item {
	subject, _ := schemas.ParseSubject(cmp.Or(m.Header.Get(schemas.HeaderDeadSubject), m.Subject)) // zero in quarantine
	kind := cmp.Or(schemas.ShortType(m.Header.Get(schemas.HeaderEventType)), subject.Type, m.Header.Get(schemas.HeaderContentType))
	if subject.Call == schemas.NoCall {
		subject.Call = ""
	}
	return item{number, reason, kind, subject.Call, len(m.Data), m}
}

// itemStore holds items.
type itemStore interface {
	items(context.Context) ([]item, error)
	// item returns one with its payload, or errNoItem.
	item(context.Context, uint64) (item, error)
	// claim makes sure that no other process changes the items from now on.
	claim() error
	// check returns why publish would fail, as far as can be known without doing it.
	check(context.Context, item) error
	// publish sends an item where it goes when it is redriven.
	publish(context.Context, item) error
	remove(context.Context, item) error
	close() error
}

// openItems opens the store that flags name.
type openItems func(context.Context, stdio) (itemStore, error)

var errNoItem = errors.New("this number does not exist")

// itemStream is a stream of items. Their numbers are its sequences.
type itemStream struct {
	link   *natsconn.Link
	reader *replay.Reader
	reason string // header that has the reason
	// withoutPayload bounds what a list of them takes, when a redrive needs the headers
	// alone.
	withoutPayload bool
}

// items reads the stream whole.
func (s *itemStream) items(ctx context.Context) (list []item, err error) {
	for m, err := range s.reader.Read(ctx, replay.Selection{}) {
		if err != nil {
			return nil, err
		}
		i := newItem(m.Sequence, m.Header.Get(s.reason), m)
		if s.withoutPayload {
			m.Data = nil
		}
		list = append(list, i)
	}
	return list, nil
}

func (s *itemStream) item(ctx context.Context, number uint64) (item, error) {
	for m, err := range s.reader.Read(ctx, replay.Selection{Since: replay.Position{Sequence: max(number, 1)}}) {
		if err != nil {
			return item{}, err
		}
		if m.Sequence != number {
			break
		}
		return newItem(m.Sequence, m.Header.Get(s.reason), m), nil
	}
	return item{}, errNoItem
}

// claim has nothing to do: sequences of a stream do not change.
func (s *itemStream) claim() error { return nil }

// remove overwrites a message: it is personal data.
func (s *itemStream) remove(ctx context.Context, i item) error {
	js, err := s.link.JetStream(ctx)
	if err != nil {
		return err
	}
	var stream jetstream.Stream
	if stream, err = js.Stream(ctx, s.reader.Stream); err == nil {
		err = stream.SecureDeleteMsg(ctx, i.number)
	}
	if err != nil {
		return fmt.Errorf("remove it from stream %s: %w; it needs the rights to get the information of that stream and to delete its messages", s.reader.Stream, err)
	}
	return nil
}

func (s *itemStream) close() error {
	s.link.Close()
	return nil
}

// itemChoice selects entries.
type itemChoice struct {
	Number []uint64 `arg:"" optional:"" help:"Numbers, as list shows them." placeholder:"NUMBER"`
	All    bool     `help:"All of them."`
	Reason string   `help:"All of this reason." placeholder:"REASON"`
	DryRun bool     `help:"Say what would be done, and change nothing."`
	Yes    bool     `help:"Do not ask."`
}

// Validate makes sure that nothing is chosen by mistake; kong calls it.
func (c *itemChoice) Validate() error {
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

// itemNumber selects one item.
type itemNumber struct {
	Number uint64 `arg:"" help:"Number that list shows."`
	personalFlag
}

// listItems prints one line an item, and a second one when it has a call.
func listItems(ctx context.Context, std stdio, open openItems) (err error) {
	store, err := open(ctx, std)
	if err != nil {
		return unlessEnded(err)
	}
	defer func() { err = errors.Join(err, store.close()) }()
	list, err := store.items(ctx)
	if err != nil {
		return unlessEnded(err)
	}
	p := view.Printer{Color: view.ColorFor(std.out), Now: time.Now()}
	for _, i := range list {
		p.Quarantined(i.number, i.reason, i.kind, i.call, i.size, i.message) // for the widths
	}
	for _, i := range list {
		fmt.Fprintln(std.out, p.Quarantined(i.number, i.reason, i.kind, i.call, i.size, i.message))
	}
	if len(list) == 0 {
		fmt.Fprintln(std.err, "there are none")
	}
	return nil
}

// show prints one item as JSON.
func (c *itemNumber) show(ctx context.Context, std stdio, open openItems) (err error) {
	store, err := open(ctx, std)
	if err != nil {
		return unlessEnded(err)
	}
	defer func() { err = errors.Join(err, store.close()) }()
	i, err := store.item(ctx, c.Number)
	if errors.Is(err, errNoItem) {
		return fmt.Errorf("number %d does not exist; list shows the numbers", c.Number)
	}
	if err != nil {
		return unlessEnded(err)
	}
	var text bytes.Buffer
	if err := json.Indent(&text, replay.AppendLine(nil, i.message, c.masking()), "", "  "); err != nil {
		return err
	}
	_, err = text.WriteTo(std.out)
	return err
}

// asked is what is to be done with the chosen items.
type asked struct {
	question string // with %s for how many of what
	nouns    string
	done     string                                       // what is said of each
	check    func(itemStore, context.Context, item) error // for --dry-run; nil: nothing can be known
	act      func(itemStore, context.Context, item) error // nil: they are removed alone
}

// each asks, and then acts on each chosen item and removes it. An item whose act fails
// stays.
func (c *itemChoice) each(ctx context.Context, std stdio, open openItems, a asked) (err error) {
	store, err := open(ctx, std)
	if err != nil {
		return unlessEnded(err)
	}
	defer func() { err = errors.Join(err, store.close()) }()
	chosen, err := c.choose(ctx, store)
	if err != nil {
		return unlessEnded(err)
	}
	question := fmt.Sprintf(a.question, fmt.Sprint(len(chosen), " ", a.nouns))
	if c.DryRun {
		fmt.Fprintln(std.err, question)
		return unlessEnded(a.dryRun(ctx, std, store, chosen))
	}
	if !c.Yes {
		if err := view.Confirm(ctx, std.err, question); err != nil {
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
		done, err := "", error(nil)
		if a.act != nil {
			if err = a.act(store, ctx, i); err == nil {
				done = " is " + a.done + ", and"
			}
		}
		if err == nil {
			err = store.remove(ctx, i)
		}
		if err != nil {
			failed++
			fmt.Fprintf(std.err, "%d%s stays: %s\n", i.number, done, view.Printable(err.Error()))
			continue
		}
		fmt.Fprintf(std.out, "%d %s\n", i.number, a.done)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d stay where they are", failed, len(chosen))
	}
	return nil
}

// dryRun says what would be done with each item.
func (a *asked) dryRun(ctx context.Context, std stdio, store itemStore, chosen []item) error {
	failed := 0
	for _, i := range chosen {
		var err error
		if a.check != nil {
			err = a.check(store, ctx, i)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed++
			fmt.Fprintf(std.err, "%d would stay: %s\n", i.number, view.Printable(err.Error()))
			continue
		}
		fmt.Fprintf(std.out, "%d would be %s\n", i.number, a.done)
	}
	fmt.Fprintln(std.err, "nothing was done: --dry-run")
	if failed > 0 {
		return fmt.Errorf("%d of %d would stay where they are", failed, len(chosen))
	}
	return nil
}

// choose returns the chosen items.
func (c *itemChoice) choose(ctx context.Context, store itemStore) ([]item, error) {
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
		return nil, fmt.Errorf("number %d does not exist; list shows the numbers", n)
	}
	if len(chosen) == 0 {
		return nil, errors.New("none has this reason")
	}
	return chosen, nil
}
