package main

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/internal/secretfile"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

// plan is what the flags of replay ask for.
type plan struct {
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

// examine reads the flags, and refuses what cannot go together.
func (c *replayCmd) examine(now time.Time) (p plan, err error) {
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
	if err := c.examineSource(&p); err != nil {
		return p, err
	}
	if err := c.examineTarget(&p); err != nil {
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
		return p, errors.New("--checkpoint with --redact needs --redact-key: whoever goes on has to use the same pseudonyms")
	}
	if c.Checkpoint != "" && p.stdout {
		return p, errors.New("--checkpoint cannot tell what has become of the standard output; set --to file:PATH")
	}
	return p, nil
}

func (c *replayCmd) examineSource(p *plan) error {
	if c.From == "" {
		return nil
	}
	path, ok := strings.CutPrefix(c.From, "file:")
	if !ok || path == "" {
		return fmt.Errorf("--from: %q is no source; write file:PATH", c.From)
	}
	if c.IntoLive {
		return errors.New("--into-live takes the events of the stream alone: nobody knows who has written a file")
	}
	p.fromPath = path
	return nil
}

// examineTarget reads --to.
func (c *replayCmd) examineTarget(p *plan) error {
	path, file := strings.CutPrefix(c.To, "file:")
	if c.Append && !file {
		return errors.New("--append is for --to file:PATH")
	}
	if c.IntoLive {
		return c.examineLive(p)
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
		return fmt.Errorf("--to: %q is no target; write subject:PREFIX, http://…, https://…, stdout or file:PATH", c.To)
	}
	p.prefix = strings.TrimSuffix(prefix, ".")
	p.target = p.prefix + ".>"
	for i, token := range strings.Split(p.prefix, ".") {
		if !schemas.ValidToken(token) {
			return fmt.Errorf("--to: %q is no prefix of subjects; write it like subject:%s", prefix, schemas.ReplayPrefix)
		}
		if i == 0 && (token == c.SubjectPrefix || token == schemas.SubjectPrefix) {
			return fmt.Errorf("--to: %s.> is where the events themselves are; take another prefix, or --into-live if every consumer is to get the copies", p.prefix)
		}
		if i == 0 && token == schemas.QuarantinePrefix {
			return fmt.Errorf("--to: %s.> is the bridge's own; take another prefix", p.prefix)
		}
	}
	return nil
}

// examineLive allows copies among the events only when they are what the bridge
// has verified: not a file's, not redacted ones.
func (c *replayCmd) examineLive(p *plan) error {
	if c.To != "" {
		return errors.New("--into-live is a target of its own; leave out --to")
	}
	if c.Redact {
		return errors.New("--into-live takes events as they are; leave out --redact")
	}
	p.prefix = c.SubjectPrefix
	p.target = p.prefix + ".>, among the events themselves"
	return nil
}

// setURL takes the URL of a flag.
func (p *plan) setURL(flag, text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%s is no URL; write it like http://127.0.0.1:7071/api/callbacks", flag)
	case u.User != nil || u.Fragment != "":
		return fmt.Errorf("%s must not hold a login or a fragment", flag)
	}
	p.url, p.target = u, u.Scheme+"://"+u.Host+u.Path
	return nil
}

// redactionKeySize is that of the hash that pseudonyms are made with.
const redactionKeySize = 32

// redactionKey reads the key of pseudonyms, makes the file when it is absent, or
// makes a key that nobody keeps.
func redactionKey(path string) ([]byte, error) {
	fresh := make([]byte, redactionKeySize)
	_, _ = rand.Read(fresh) // never fails
	if path == "" {
		return fresh, nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = file.Write(fresh)
		return fresh, errors.Join(err, file.Close())
	}
	if !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("--redact-key: %w", err)
	}
	if err := secretfile.Check(path); err != nil {
		return nil, fmt.Errorf("--redact-key: %w", err)
	}
	key, err := os.ReadFile(path)
	if err == nil && len(key) < redactionKeySize {
		err = fmt.Errorf("%s holds %s, at least %d are needed", path, plural(len(key), "byte"), redactionKeySize)
	}
	if err != nil {
		return nil, fmt.Errorf("--redact-key: %w", err)
	}
	return key, nil
}
