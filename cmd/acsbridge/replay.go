package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/replay"
)

// replayCmd sends events of the stream again.
type replayCmd struct {
	selectionFlags
	Call  string `help:"Only this call, as acsbridge call shows it: with all its legs, its recording and what Event Grid tells of it. Any id that call takes." placeholder:"ID"`
	Leg   string `help:"Only this leg of a call, by its callConnectionId, or with --call also by the letter that acsbridge call gives it." placeholder:"ID"`
	Since string `help:"Where to begin: a duration before now such as 10m or 2d, a time such as 2026-03-01T14:30, a sequence such as seq:4711, or all. Needed unless --call, --leg or --from is set." placeholder:"POSITION"`
	Until string `help:"Where to end, written likewise. Without it: the end of the stream as it is at the start." placeholder:"POSITION"`
	Limit int    `help:"Send so many events at most. 0 means all." placeholder:"N"`
	From  string `help:"Take the events from a file that --to file:PATH has made, and not from the stream." placeholder:"file:PATH"`

	To          string `help:"Where to: subject:PREFIX, an http or https URL, stdout, or file:PATH. Without it: subject:acs-replay." placeholder:"TARGET"`
	Pace        string `help:"fast, original, a rate such as 50/s, or a multiple of the original pace such as 10x." default:"fast" placeholder:"PACE"`
	Concurrency int    `help:"Posts to a URL at a time; those of one leg come one after another." default:"8" placeholder:"N"`
	truncatedFlag
	Append     bool   `help:"Add to the file of --to file:PATH when it is there."`
	Redact     bool   `help:"Replace telephone numbers, ids and texts by pseudonyms."`
	RedactKey  string `help:"File of the key that pseudonyms are made with, made when absent. None means a new key each time, and other pseudonyms." placeholder:"FILE"`
	IntoLive   bool   `help:"Publish the copies where the events themselves are, so that every consumer of the stream gets them."`
	Yes        bool   `help:"Do not ask before --into-live."`
	DryRun     bool   `help:"Send nothing: count, and show the first and the last event."`
	Checkpoint string `help:"File that says how far the replay is, written each second. The same command again goes on there, also after the process was killed." placeholder:"FILE"`
	ReplayID   string `help:"Id of the replay, in the headers of each copy. None means a new one." placeholder:"ID"`

	signFlags `group:"Tokens of a simulator, for a URL that asks for one:"`
	readerSettings

	plan plan
}

// Help is the text between the summary and the flags of replay --help.
func (replayCmd) Help() string {
	return `Events of one leg are sent one after another, in their order; those of different legs side by side, ` +
		`but with --call one after another, too. ` +
		`A replay that ends early says how to go on. Reads without a consumer; the nats-* settings are those of serve, ` +
		`also in its variables and its file.`
}

// Validate reads the flags; kong calls it.
func (c *replayCmd) Validate() (err error) {
	c.plan, err = c.examine(time.Now())
	return err
}

// replaying is one run of the command.
type replaying struct {
	*replayCmd
	plan
	std  stdio
	args []string // of the command line

	reader *replay.Reader // nil when NATS is not needed
	source source
	sender *replay.Sender
	before int // events that were sent before the checkpoint
}

// source is where the events come from.
type source struct {
	messages iter.Seq2[*replay.Message, error]
	// done is the share of the source that is behind a sequence, 0 to 1; a
	// negative one is not known.
	done  func(next uint64) float64
	close func() error
}

// Run sends what is selected, and fails unless all of it was taken.
func (c *replayCmd) Run(ctx context.Context, command *kong.Context, std stdio) (err error) {
	r := &replaying{replayCmd: c, plan: c.plan, std: std, args: command.Args}
	if c.ReplayID == "" {
		r.ReplayID = uuid.Must(uuid.NewV7()).String()
	}
	if err := r.resume(); err != nil {
		return err
	}
	var link *publish.Link
	if c.From == "" || r.prefix != "" {
		if r.reader, link, err = c.reader(ctx, std); err != nil {
			return unlessEnded(err)
		}
		defer link.Close()
	}
	if err := r.open(ctx); err != nil {
		return unlessEnded(err)
	}
	defer r.source.close()
	if c.DryRun {
		return unlessEnded(r.rehearse(ctx))
	}
	return r.send(ctx)
}

// open opens the source.
func (r *replaying) open(ctx context.Context) (err error) {
	if r.From != "" {
		r.source, err = r.openCapture(ctx)
	} else {
		r.source, err = r.openStream(ctx)
	}
	if err != nil || !r.Redact {
		return err
	}
	key, err := redactionKey(r.RedactKey)
	if err != nil {
		return err
	}
	redactor, original := replay.NewRedactor(key), r.source.messages
	r.source.messages = func(yield func(*replay.Message, error) bool) {
		for m, err := range original {
			if err == nil {
				m, err = redactor.Message(m)
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
	return nil
}

// openStream fixes the end of the replay, which would otherwise follow its own
// copies when they go to the same stream.
func (r *replaying) openStream(ctx context.Context) (source, error) {
	s := source{done: func(uint64) float64 { return -1 }, close: func() error { return nil }}
	info, err := r.reader.Look(ctx)
	if err != nil && r.IntoLive {
		return s, fmt.Errorf("--into-live has to know where the stream ends: %w", err)
	}
	if err == nil {
		last := info.State.LastSeq
		if until := r.selection.Until; until.Sequence > 0 {
			last = min(last, until.Sequence)
		}
		if r.IntoLive || r.selection.Until == (replay.Position{}) {
			r.selection.Until.Sequence = max(last, 1)
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
	if r.Call == "" {
		s.messages = r.orNone(r.reader.Read(ctx, r.selection))
		return s, nil
	}
	story, err := r.reader.Story(ctx, r.Call, time.Now())
	if err == nil {
		s.messages, err = r.ofStory(story, "stream "+r.Stream)
	}
	return s, err
}

// ofStory returns the messages of a call that are selected.
func (r *replaying) ofStory(story *replay.Story, where string) (iter.Seq2[*replay.Message, error], error) {
	if len(story.Steps) == 0 {
		return nil, unknownCall(where, r.Call, story.Searched)
	}
	selection := r.selection
	selection.Call = ""
	if r.Leg == "" {
		return story.Messages(selection, nil), nil
	}
	leg := story.Leg(r.Leg)
	if leg == nil {
		var legs []string
		for _, leg := range story.Legs {
			legs = append(legs, leg.Name+" "+printable(leg.ID))
		}
		return nil, fmt.Errorf("--leg: the call has no leg %s; it has %s", printable(r.Leg), strings.Join(legs, ", "))
	}
	return story.Messages(selection, leg), nil
}

// orNone ends with an error when there was nothing of the leg that was asked for.
func (r *replaying) orNone(messages iter.Seq2[*replay.Message, error]) iter.Seq2[*replay.Message, error] {
	if r.Leg == "" || r.Type != "" || r.Resource != "" || r.selection.Since != (replay.Position{}) {
		return messages // which may well select nothing
	}
	return func(yield func(*replay.Message, error) bool) {
		none := true
		for m, err := range messages {
			none = false
			if !yield(m, err) {
				return
			}
		}
		if none {
			yield(nil, fmt.Errorf("nothing of leg %s was found by its callConnectionId; --call takes any id of a call", printable(r.Leg)))
		}
	}
}

// rehearse counts what would be sent.
func (r *replaying) rehearse(ctx context.Context) error {
	var first, last *replay.Message
	n, bytes, cut := 0, 0, 0
	for m, err := range r.source.messages {
		if err != nil {
			return goOn(err)
		}
		if first == nil {
			first = m
		}
		last = m
		if r.url != nil && !r.PostTruncated && m.TruncatedURL() {
			cut++
			continue
		}
		n++
		bytes += len(m.Data)
	}
	fmt.Fprintf(r.std.out, "would send %s, %s, to %s\n", plural(n, "event"), plural(bytes, "byte"), r.target)
	if cut > 0 {
		fmt.Fprintf(r.std.out, "would not send %s: %v; --post-truncated posts to what is left of it\n", plural(cut, "event"), replay.ErrTruncatedURL)
	}
	p := printer{now: time.Now()}
	if first != nil {
		p.appendMessage(nil, last) // for the widths
		fmt.Fprintf(r.std.out, "first  seq:%d  %s", first.Sequence, p.appendMessage(nil, first))
		fmt.Fprintf(r.std.out, "last   seq:%d  %s", last.Sequence, p.appendMessage(nil, last))
	}
	return ctx.Err()
}

// send sends, and says what came of it.
func (r *replaying) send(ctx context.Context) error {
	target, closeTarget, err := r.openTarget(ctx)
	if err != nil {
		return unlessEnded(err)
	}
	r.sender = &replay.Sender{Target: target, Pace: r.pace, Sequential: r.Call != ""}
	if r.url != nil {
		r.sender.MaxInFlight = r.Concurrency
	}
	show := newProgress(r)
	r.sender.OnDone = show.done
	err = r.sender.Send(ctx, r.source.messages)
	err = errors.Join(err, target.Flush(), show.stop(err == nil), closeTarget())
	p := r.sender.Progress()
	fmt.Fprintf(r.std.err, "replay %s: %s sent to %s%s\n", r.ReplayID, plural(p.Accepted, "event"), r.target, notTaken(p))
	if err != nil {
		if next := r.continuation(p); next != "" {
			fmt.Fprintf(r.std.err, "it goes on with\n  %s\n", next)
		}
		if r.Redact && r.RedactKey == "" {
			fmt.Fprintln(r.std.err, "with other pseudonyms from there on; --redact-key keeps them")
		}
		if errors.Is(err, context.Canceled) {
			return errors.New("stopped before the end")
		}
		return goOn(err)
	}
	if p.Rejected > 0 {
		return fmt.Errorf("not taken: %s", plural(p.Rejected, "event"))
	}
	return nil
}

// notTaken says how many events were not taken, for the end of a line.
func notTaken(p replay.Progress) string {
	switch {
	case p.Rejected == 0:
		return ""
	case p.Truncated == 0:
		return fmt.Sprintf(", %d not taken", p.Rejected)
	}
	return fmt.Sprintf(", %d not taken, %d of them not posted because %v (--post-truncated posts them to what is left of it)",
		p.Rejected, p.Truncated, replay.ErrTruncatedURL)
}

// truncatedFlag is for what posts events to a URL.
type truncatedFlag struct {
	PostTruncated bool `help:"Post also events whose callback URL is not known in whole, because its path or query was cut at its bound, to what is left of it. They are not posted without."`
}
