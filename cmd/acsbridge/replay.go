package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/webhook"
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
	config.Reader

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

// replayPlan is what the flags of replay ask for.
type replayPlan struct {
	selection replay.Selection
	pace      resend.Pace
	fromPath  string

	// One of these, by --to.
	prefix string
	url    *url.URL
	stdout bool
	path   string

	target string // in words
}

// parse reads the flags, and refuses those that contradict each other.
func (c *replayCmd) parse(now time.Time) (p replayPlan, err error) {
	if p.pace, err = resend.ParsePace(c.Pace); err != nil {
		return p, fmt.Errorf("--pace: %w", err)
	}
	if c.Since == "" && c.Call == "" && c.Leg == "" && c.From == "" {
		return p, errors.New("--since is missing: say where to begin, such as --since 1h, or which call, with --call")
	}
	if c.Limit < 0 || c.Concurrency < 1 {
		return p, errors.New("--limit must not be negative, and --concurrency at least 1")
	}
	p.selection = replay.Selection{Resource: c.Resource, Type: c.Type, Call: c.Leg, Limit: c.Limit}
	if p.selection.Since, err = replay.ParsePosition(cmp.Or(c.Since, "all"), now); err != nil {
		return p, fmt.Errorf("--since: %w", err)
	}
	if p.selection.Until, err = replay.ParsePosition(cmp.Or(c.Until, "all"), now); err != nil {
		return p, fmt.Errorf("--until: %w", err)
	}
	if err := c.parseSource(&p); err != nil {
		return p, err
	}
	if err := c.parseTarget(&p); err != nil {
		return p, err
	}
	if c.PostTruncated && p.url == nil {
		return p, errors.New("--post-truncated is for a URL; set --to http://…")
	}
	if c.SignWithSimulator && p.url == nil {
		return p, errors.New("--sign-with-simulator is for a URL; set --to http://…")
	}
	if c.RedactKey != "" && !c.Redact {
		return p, errors.New("--redact-key is for --redact; add that")
	}
	if c.Checkpoint != "" && c.Redact && c.RedactKey == "" {
		return p, errors.New("--checkpoint with --redact needs --redact-key: the run that continues has to use the same pseudonyms")
	}
	if c.Checkpoint != "" && p.stdout {
		return p, errors.New("--checkpoint cannot know how much of the standard output was kept; set --to file:PATH")
	}
	return p, nil
}

func (c *replayCmd) parseSource(p *replayPlan) error {
	if c.From == "" {
		return nil
	}
	path, ok := strings.CutPrefix(c.From, "file:")
	if !ok || path == "" {
		return fmt.Errorf("--from: %q is not a source; write file:PATH", c.From)
	}
	if c.IntoLive {
		return errors.New("--into-live takes only events of the stream: the author of a file is not known")
	}
	p.fromPath = path
	return nil
}

// parseTarget reads --to.
func (c *replayCmd) parseTarget(p *replayPlan) error {
	path, file := strings.CutPrefix(c.To, "file:")
	if c.Append && !file {
		return errors.New("--append is for --to file:PATH")
	}
	if c.IntoLive {
		return c.parseLive(p)
	}
	prefix, subject := strings.CutPrefix(c.To, "subject:")
	switch {
	case file && path != "":
		p.path, p.target = path, path
		return nil
	case c.To == "stdout":
		p.stdout, p.target = true, "the standard output"
		return nil
	case strings.HasPrefix(c.To, "http://"), strings.HasPrefix(c.To, "https://"):
		return p.setURL("--to", c.To)
	case c.To == "":
		prefix = schemas.ReplayPrefix
	case !subject:
		return fmt.Errorf("--to: %q is not a target; write subject:PREFIX, http://…, https://…, stdout or file:PATH", c.To)
	}
	p.prefix = strings.TrimSuffix(prefix, ".")
	p.target = p.prefix + ".>"
	for i, token := range strings.Split(p.prefix, ".") {
		if !schemas.ValidToken(token) {
			return fmt.Errorf("--to: %q is not a prefix of subjects; write it like subject:%s", prefix, schemas.ReplayPrefix)
		}
		if i == 0 && (token == c.SubjectPrefix || token == schemas.SubjectPrefix) {
			return fmt.Errorf("--to: %s.> is where the events themselves are; take another prefix, or --into-live if every consumer is to get the copies", p.prefix)
		}
		if i == 0 && token == schemas.QuarantinePrefix {
			return fmt.Errorf("--to: %s.> is reserved for the bridge; take another prefix", p.prefix)
		}
	}
	return nil
}

// parseLive allows copies among the events only when they are what the bridge
// has verified: not a file's, not redacted ones.
func (c *replayCmd) parseLive(p *replayPlan) error {
	if c.To != "" {
		return errors.New("--into-live is a target itself; leave out --to")
	}
	if c.Redact {
		return errors.New("--into-live takes only unchanged events; leave out --redact")
	}
	p.prefix = c.SubjectPrefix
	p.target = p.prefix + ".>, among the events themselves"
	return nil
}

// setURL takes the URL of a flag.
func (p *replayPlan) setURL(flag, text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%s is not a URL; write it like http://127.0.0.1:7071/api/callbacks", flag)
	case u.User != nil || u.Fragment != "":
		return fmt.Errorf("%s must not hold a login or a fragment", flag)
	}
	p.url, p.target = u, u.Scheme+"://"+u.Host+u.Path
	return nil
}
