package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/webhook"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
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

	To          string `help:"Where to: subject:PREFIX, an http or https URL, stdout, or file:PATH. Without it: subject:acs-replay." placeholder:"TARGET"`
	Pace        string `help:"fast, original, a rate such as 50/s, or a multiple of the original pace such as 10x." default:"fast" placeholder:"PACE"`
	Concurrency int    `help:"Posts to a URL at a time; those of one leg come one after another." default:"8" placeholder:"N"`
	truncatedFlag
	Append     bool   `help:"Add to the file of --to file:PATH when it exists."`
	Redact     bool   `help:"Replace telephone numbers, ids and texts by pseudonyms."`
	RedactKey  string `help:"File of the key that pseudonyms are made with, made when absent. None means a new key each time, and other pseudonyms." placeholder:"FILE"`
	IntoLive   bool   `help:"Publish the copies where the events themselves are, so that every consumer of the stream gets them."`
	Yes        bool   `help:"Do not ask before --into-live."`
	DryRun     bool   `help:"Send nothing: count, and show the first and the last event."`
	Checkpoint string `help:"File that says how far the replay is, written each second. The same command continues there, also after the process was killed." placeholder:"FILE"`
	ReplayID   string `help:"Id of the replay, in the headers of each copy. None means a new one." placeholder:"ID"`

	signFlags `group:"Tokens of a simulator, for a URL that asks for one:"`
	readerSettings

	plan replayPlan

	// What follows is set by Run.
	std          stdio
	args         []string       // of the command line
	streamReader *replay.Reader // nil when NATS is not needed
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

// eventSource is where the events come from.
type eventSource struct {
	messages iter.Seq2[*replay.StoredMessage, error]
	// done is the share of the source before a sequence, 0 to 1; negative when it is
	// not known.
	done  func(next uint64) float64
	close func() error
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
	var link *natsconn.Link
	if c.From == "" || c.plan.prefix != "" {
		if c.streamReader, link, err = c.reader(ctx, std); err != nil {
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
		key, err := resend.LoadRedactionKey(c.RedactKey)
		if err != nil {
			return fmt.Errorf("--redact-key: %w", err)
		}
		c.source.messages = resend.NewRedactor(key).Messages(c.source.messages)
	}
	if c.DryRun {
		return unlessEnded(c.dryRun(ctx))
	}
	return c.send(ctx)
}

// openStream fixes the end of the replay, which would otherwise follow its own copies
// when they go to the same stream.
func (c *replayCmd) openStream(ctx context.Context) (eventSource, error) {
	s := eventSource{done: func(uint64) float64 { return -1 }, close: func() error { return nil }}
	selection := &c.plan.selection
	info, err := c.streamReader.Info(ctx)
	if err != nil && c.IntoLive {
		return s, fmt.Errorf("--into-live has to know where the stream ends: %w", err)
	}
	if err == nil {
		last := info.State.LastSeq
		if selection.Until.Sequence > 0 {
			last = min(last, selection.Until.Sequence)
		}
		if c.IntoLive || selection.Until == (replay.Position{}) {
			selection.Until.Sequence = max(last, 1)
		}
		var first uint64
		s.done = func(next uint64) float64 {
			if first == 0 {
				first = next
			}
			if next > last {
				return 1
			}
			return float64(next-first) / float64(last+1-first)
		}
	}
	if c.Call == "" {
		s.messages = c.orNoLeg(c.streamReader.Read(ctx, *selection))
		return s, nil
	}
	story, err := c.streamReader.Story(ctx, c.Call, time.Now())
	if err == nil {
		s.messages, err = c.ofStory(story, "stream "+c.Stream)
	}
	return s, err
}

// openCapture opens a file of events to send.
func (c *replayCmd) openCapture(ctx context.Context) (s eventSource, err error) {
	path := c.plan.fromPath
	file, err := os.Open(path)
	if err != nil {
		return s, fmt.Errorf("--from: %w", err)
	}
	s.close = file.Close
	if c.Call != "" {
		s.done = func(uint64) float64 { return -1 }
		story, err := replay.CaptureStory(ctx, file, c.Call, time.Now())
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		} else {
			s.messages, err = c.ofStory(story, path)
		}
		if err != nil {
			return s, errors.Join(err, file.Close())
		}
		return s, nil
	}
	var info fs.FileInfo
	if info, err = file.Stat(); err != nil {
		return s, errors.Join(err, file.Close())
	}
	s.done = func(uint64) float64 {
		at, err := file.Seek(0, io.SeekCurrent)
		if err != nil || info.Size() == 0 {
			return -1
		}
		return float64(at) / float64(info.Size())
	}
	s.messages = c.orNoLeg(func(yield func(*replay.StoredMessage, error) bool) {
		for m, err := range replay.ReadCapture(file, c.plan.selection) {
			if err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
			if !yield(m, err) {
				return
			}
		}
	})
	return s, nil
}

// ofStory returns the selected messages of a call.
func (c *replayCmd) ofStory(story *replay.Story, where string) (iter.Seq2[*replay.StoredMessage, error], error) {
	if len(story.Steps) == 0 {
		return nil, unknownCall(where, c.Call, story.Searched)
	}
	selection := c.plan.selection
	selection.Call = ""
	if c.Leg == "" {
		return story.Messages(selection, nil), nil
	}
	leg := story.Leg(c.Leg)
	if leg == nil {
		var legs []string
		for _, leg := range story.Legs {
			legs = append(legs, leg.Name+" "+view.Printable(leg.ID))
		}
		return nil, fmt.Errorf("--leg: the call has no leg %s; it has %s", view.Printable(c.Leg), strings.Join(legs, ", "))
	}
	return story.Messages(selection, leg), nil
}

// orNoLeg ends with an error when there is no message of the leg of --leg.
func (c *replayCmd) orNoLeg(messages iter.Seq2[*replay.StoredMessage, error]) iter.Seq2[*replay.StoredMessage, error] {
	if c.Leg == "" || c.Type != "" || c.Resource != "" || c.plan.selection.Since != (replay.Position{}) {
		return messages // which may well select nothing
	}
	return func(yield func(*replay.StoredMessage, error) bool) {
		none := true
		for m, err := range messages {
			none = false
			if !yield(m, err) {
				return
			}
		}
		if none {
			yield(nil, fmt.Errorf("no event of leg %s was found by its callConnectionId; --call takes any id of a call", view.Printable(c.Leg)))
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
		token, stop, err := c.signer(c.std.err)
		if err != nil {
			return nil, nil, err
		}
		return &resend.Posts{URL: c.plan.url, ID: c.ReplayID, PostTruncated: c.PostTruncated, Token: token,
			Client: webhook.Client{Transport: webhook.NewTransport(c.Concurrency)}}, stop, nil
	case !c.IntoLive:
		err = c.checkOverlap(ctx)
	case !c.Yes:
		err = confirm(ctx, c.std, fmt.Sprintf("This publishes events again into %s.> of stream %s, where every consumer gets them.", c.plan.prefix, c.Stream))
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
		if c.plan.url != nil && !c.PostTruncated && m.TruncatedURL() {
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

// truncatedFlag is for what posts events to a URL.
type truncatedFlag struct {
	PostTruncated bool `help:"Post also events whose callback URL is not known in whole, because its path or query was cut at its bound, to what is left of it. They are not posted without."`
}
