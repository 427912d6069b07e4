package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/tracing"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

// replayCmd sends events of the stream again.
type replayCmd struct {
	selectionFlags
	Call  string `help:"Only this call, as acsbridge call shows it: with all its legs, its recording and its events of Event Grid. Any id that call takes." placeholder:"ID"`
	Leg   string `help:"Only this leg of a call, by its callConnectionId, or with --call also by the letter that acsbridge call gives it." placeholder:"ID"`
	Since string `help:"Where to begin: a duration before now such as 10m or 2d, a time such as 2026-03-01T14:30, a sequence such as seq:4711, or all. Needed unless --call, --leg or --from is set." placeholder:"POSITION"`
	Until string `help:"Where to end, written likewise. Without it: the end of the stream as it is at the start." placeholder:"POSITION"`
	Limit int    `help:"Send so many events at most. 0 means all." placeholder:"N"`
	From  string `help:"Take the events from a file that --to file:PATH has made, and not from the stream." placeholder:"file:PATH"`

	To          string   `help:"Where to: subject:PREFIX, an http or https URL, stdout, or file:PATH. Without it: subject:acs-replay." placeholder:"TARGET"`
	Pace        string   `help:"fast, original, a rate such as 50/s, or a multiple of the original pace such as 10x." default:"fast" placeholder:"PACE"`
	Concurrency int      `help:"Posts to a URL at a time; those of one leg come one after another." default:"8" placeholder:"N"`
	ToEventGrid string   `name:"to-eventgrid" help:"With --to URL, another URL for the events of Event Grid, such as IncomingCall, which are posted in its form. They are left out without." placeholder:"URL"`
	Append      bool     `help:"Add to the file of --to file:PATH when it exists."`
	Redact      bool     `help:"Replace telephone numbers, ids and texts by pseudonyms."`
	RedactKey   string   `help:"File of the key that pseudonyms are made with, made when absent. None means a new key each time, and other pseudonyms." placeholder:"FILE"`
	Keep        []string `help:"With --redact, keep this member, such as data.operationContext or data.dtmfResult.tones, this parameter of the callback URL's query, as query.NAME, or its path, as path. Repeatable." placeholder:"PATH"`
	IntoLive    bool     `help:"Publish the copies where the events themselves are, so that every consumer of the stream gets them."`
	Yes         bool     `help:"Do not ask before --into-live."`
	DryRun      bool     `help:"Send nothing: count, and show the first and the last event."`
	Checkpoint  string   `help:"File that says how far the replay is, written each second. The same command continues there, also after the process was killed." placeholder:"FILE"`
	ReplayID    string   `help:"Id of the replay, in the headers of each copy. None means a new one." placeholder:"ID"`

	postFlags
	config.Reader

	plan replayPlan

	// What follows is set by Run.
	std          stdio
	args         []string       // of the command line
	streamReader *replay.Reader // nil when NATS is not needed
	redactor     *resend.Redactor
	leftOut      map[string]int // events of Event Grid, by type
	source       eventSource
	sender       *resend.Sender
	resumed      *resend.Checkpoint // of the run before; nil without one
}

// Help is the text between the summary and the flags of replay --help.
func (replayCmd) Help() string {
	return `Events of one leg are sent one after another, in their order; those of different legs at the same time, ` +
		`but with --call one after another, too. ` +
		`A replay that ends early prints the command that continues it. Reads without a consumer; the nats-* settings are those of serve, ` +
		`also in its variables and its file.`
}

// Validate reads the flags; kong calls it.
func (c *replayCmd) Validate() (err error) {
	c.plan, err = c.parse(time.Now())
	return err
}

// Run sends the selected events, and fails unless all of them were accepted.
func (c *replayCmd) Run(ctx context.Context, command *kong.Context, std stdio) (err error) {
	c.std, c.args = std, command.Args
	if c.ReplayID == "" {
		c.ReplayID = uuid.Must(uuid.NewV7()).String()
	}
	if c.Checkpoint != "" {
		if err := c.resume(); err != nil {
			return fmt.Errorf("--checkpoint: %w", err)
		}
	}
	traces, err := tracing.New("acsbridge-replay", thisBuild().Version, view.NewLogger(std.err, "auto", "info"))
	if err != nil {
		return err
	}
	defer traces.Close()
	traces.Install()
	var link *natsconn.Link
	if c.From == "" || c.plan.prefix != "" {
		if c.streamReader, link, err = c.Open(ctx, std.err); err != nil {
			return unlessEnded(err)
		}
		defer link.Close()
	}
	if c.From != "" {
		c.source, err = c.openCapture(ctx)
	} else {
		c.source, err = c.openStream(ctx)
	}
	if err != nil {
		return unlessEnded(err)
	}
	defer c.source.close()
	if c.Redact {
		if err := c.redact(); err != nil {
			return err
		}
	}
	if c.plan.url != nil && c.plan.eventGrid == nil {
		c.leftOut = make(map[string]int)
		c.source.messages = withoutEventGrid(c.source.messages, func(m *replay.StoredMessage) {
			c.leftOut[schemas.ShortType(m.Header.Get(schemas.HeaderEventType))]++
		})
	}
	if c.DryRun {
		return unlessEnded(c.dryRun(ctx))
	}
	return c.send(ctx)
}

// redact replaces what is personal in the messages of the source.
func (c *replayCmd) redact() error {
	key, err := resend.LoadRedactionKey(c.RedactKey)
	if err != nil {
		return fmt.Errorf("--redact-key: %w", err)
	}
	c.redactor = resend.NewRedactor(key)
	for _, path := range c.Keep {
		if err := c.redactor.Keep(path); err != nil {
			return fmt.Errorf("--keep: %w", err)
		}
	}
	c.source.messages = c.redactor.Messages(c.source.messages)
	return nil
}

// notes says what was not sent, or not kept, without being an error.
func (c *replayCmd) notes(w io.Writer) {
	total, types := 0, []string(nil)
	for _, name := range slices.Sorted(maps.Keys(c.leftOut)) {
		total += c.leftOut[name]
		types = append(types, view.Printable(name))
	}
	if total > 0 {
		fmt.Fprintf(w, "left out: %s of Event Grid (%s); --to-eventgrid URL posts them\n", view.Plural(total, "event"), strings.Join(types, ", "))
	}
	if c.redactor != nil {
		for _, path := range c.redactor.Unused() {
			fmt.Fprintf(w, "--keep %s: no event has it\n", view.Printable(path))
		}
	}
}

// openTarget opens the target of --to, after a check that copies go where they are
// meant to.
func (c *replayCmd) openTarget(ctx context.Context) (target resend.Target, closeTarget func() error, err error) {
	closeTarget = func() error { return nil }
	switch {
	case c.plan.stdout:
		return replay.NewCapture(c.std.out), closeTarget, nil
	case c.plan.path != "":
		file, err := replay.CreateCapture(c.plan.path, c.Append)
		if err != nil {
			return nil, nil, err
		}
		if c.Checkpoint != "" {
			c.source.messages = replay.After(file.Last, c.source.messages)
		}
		return file, file.Close, nil
	case c.plan.url != nil:
		posts, stop, err := c.posts(c.std.err, c.plan.url, c.plan.eventGrid, c.Concurrency)
		if err != nil {
			return nil, nil, err
		}
		posts.ID = c.ReplayID
		return posts, stop, nil
	case !c.IntoLive:
		err = c.checkOverlap(ctx)
	case !c.Yes:
		err = view.Confirm(ctx, c.std.err, fmt.Sprintf("This publishes events again into %s.> of stream %s, where every consumer gets them.", c.plan.prefix, c.Stream))
	}
	copies := &resend.Copies{JetStream: c.streamReader.JetStream, ID: c.ReplayID, Prefix: c.plan.prefix, Source: c.Stream, Live: c.IntoLive}
	return copies, closeTarget, err
}

// checkOverlap refuses a prefix whose subjects the stream of the events has, too, as
// far as its subjects are known; otherwise the first acknowledgement shows it.
func (c *replayCmd) checkOverlap(ctx context.Context) error {
	info, err := c.streamReader.Info(ctx)
	if err != nil {
		return ctx.Err()
	}
	for _, subject := range info.Config.Subjects {
		if server.SubjectsCollide(subject, c.plan.prefix+".>") {
			return fmt.Errorf("--to: stream %s has %s, so it would store the copies among the events; take another prefix, or --into-live if that is meant", c.Stream, subject)
		}
	}
	return nil
}

// dryRun counts what would be sent.
func (c *replayCmd) dryRun(ctx context.Context) error {
	var first, last *replay.StoredMessage
	n, bytes, truncated := 0, 0, 0
	for m, err := range c.source.messages {
		if err != nil {
			return resumeHint(err)
		}
		if first == nil {
			first = m
		}
		last = m
		if c.AppendPath && !c.PostTruncated && !m.EventGrid() && m.TruncatedURL() {
			truncated++
			continue
		}
		n++
		bytes += len(m.Data)
	}
	fmt.Fprintf(c.std.out, "would send %s, %s, to %s\n", view.Plural(n, "event"), view.Plural(bytes, "byte"), c.plan.target)
	if truncated > 0 {
		fmt.Fprintf(c.std.out, "would not send %s: %v; --post-truncated posts to what is left of it\n", view.Plural(truncated, "event"), resend.ErrTruncatedURL)
	}
	c.notes(c.std.out)
	p := view.Printer{Now: time.Now()}
	if first != nil {
		p.AppendMessage(nil, last) // for the widths
		fmt.Fprintf(c.std.out, "first  seq:%d  %s", first.Sequence, p.AppendMessage(nil, first))
		fmt.Fprintf(c.std.out, "last   seq:%d  %s", last.Sequence, p.AppendMessage(nil, last))
	}
	return ctx.Err()
}

// send sends the events and reports the outcome.
func (c *replayCmd) send(ctx context.Context) error {
	target, closeTarget, err := c.openTarget(ctx)
	if err != nil {
		return unlessEnded(err)
	}
	c.sender = &resend.Sender{Target: target, Pace: c.plan.pace, Sequential: c.Call != ""}
	if c.plan.url != nil {
		c.sender.MaxInFlight = c.Concurrency
	}
	show := newProgress(c)
	c.sender.OnDone = show.done
	err = c.sender.Send(ctx, c.source.messages)
	err = errors.Join(err, target.Flush(), show.stop(err == nil), closeTarget())
	p := c.sender.Progress()
	fmt.Fprintf(c.std.err, "replay %s: %s sent to %s%s\n", c.ReplayID, view.Plural(p.Accepted, "event"), c.plan.target, notAccepted(p))
	c.notes(c.std.err)
	if err != nil {
		if command := c.resumeCommand(p); command != "" {
			fmt.Fprintf(c.std.err, "it continues with\n  %s\n", command)
		}
		if c.Redact && c.RedactKey == "" {
			fmt.Fprintln(c.std.err, "with other pseudonyms from there on; --redact-key keeps them")
		}
		if errors.Is(err, context.Canceled) {
			return errors.New("stopped before the end")
		}
		if errors.Is(err, resend.ErrNoAnswer) {
			return fmt.Errorf("%w; start the receiver, or name another one with --to", err)
		}
		return resumeHint(err)
	}
	if p.Rejected > 0 {
		return fmt.Errorf("not accepted: %s", view.Plural(p.Rejected, "event"))
	}
	return nil
}

// notAccepted says how many events were not accepted, for the end of a line.
func notAccepted(p resend.Progress) string {
	switch {
	case p.Rejected == 0:
		return ""
	case p.Truncated == 0:
		return fmt.Sprintf(", %d not accepted", p.Rejected)
	}
	return fmt.Sprintf(", %d not accepted, %d of them not posted because %v (--post-truncated posts them to what is left of it)",
		p.Rejected, p.Truncated, resend.ErrTruncatedURL)
}
