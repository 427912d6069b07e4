package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

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

	eventGrid *url.URL // nil without one

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
	p.selection = replay.Selection{Resource: c.Resource, Types: c.Type, Call: c.Leg, Limit: c.Limit}
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
	if err := c.checkPost(p.url != nil); err != nil {
		return p, err
	}
	if c.ToEventGrid != "" {
		if p.url == nil {
			return p, errors.New("--to-eventgrid is for a URL; set --to http://…")
		}
		if p.eventGrid, err = parsePostURL("--to-eventgrid", c.ToEventGrid); err != nil {
			return p, err
		}
	}
	if len(c.Keep) > 0 && !c.Redact {
		return p, errors.New("--keep is for --redact; add that")
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
func (c *replayCmd) parseTarget(p *replayPlan) (err error) {
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
		if p.url, err = parsePostURL("--to", c.To); err == nil {
			p.target = withoutQuery(p.url)
		}
		return err
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

// named is what the flags name that the source must have events of. Another search finds
// the call of --call.
func (c *replayCmd) named() replay.Selection {
	s := replay.Selection{Resource: c.Resource, Types: c.Type}
	if c.Call == "" {
		s.Call = c.Leg
	}
	return s
}
