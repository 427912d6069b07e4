package check

import (
	"context"
	"fmt"
	"strings"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/running"
)

// Options say what to examine.
type Options struct {
	// Settings are those of serve, with or without problems.
	Settings *config.Settings
	// URL is the callback URL as ACS has it. Empty means not to try it.
	URL string
	// Token is a bearer token. When it is set, only the keys and the token are examined.
	Token string
	// OnFinding gets each finding when it is found. Nil means nothing to do.
	OnFinding func(Finding)
}

// checker examines one area after the other.
type checker struct {
	Options
	s      *config.Settings
	report Report
	area   string
	// running is the state of a bridge that uses the data directory, when it is known;
	// locked says that there is one.
	running *running.State
	locked  bool
}

// Run examines everything until ctx ends.
func Run(ctx context.Context, opts Options) Report {
	c := &checker{Options: opts, s: opts.Settings}
	c.in("settings", func() { c.settings() })
	if c.report.Failures > 0 { // nothing else could be trusted
		return c.report
	}
	if c.Token != "" {
		c.keys(ctx)
		return c.report
	}
	c.findRunning()
	c.in("memory", c.memory)
	c.in("data", c.dataDir)
	c.keys(ctx)
	c.nats(ctx)
	c.in("tls", c.certificate)
	c.bridge(ctx)
	return c.report
}

// in examines an area, whose findings have its name.
func (c *checker) in(area string, examine func()) {
	before := c.area
	c.area = area
	examine()
	c.area = before
}

func (c *checker) add(level Level, found, remedy string) {
	f := Finding{c.area, level, strings.ReplaceAll(found, "\n", "; "), remedy}
	c.report.add(f)
	if c.OnFinding != nil {
		c.OnFinding(f)
	}
}

func (c *checker) ok(format string, args ...any) { c.add(OK, fmt.Sprintf(format, args...), "") }

func (c *checker) warn(remedy, format string, args ...any) {
	c.add(Warn, fmt.Sprintf(format, args...), remedy)
}

func (c *checker) fail(remedy, format string, args ...any) {
	c.add(Fail, fmt.Sprintf(format, args...), remedy)
}

// problem adds a text that has its remedy, or its consequence, after the first semicolon,
// or without one after the last colon, as those of a running bridge do.
func (c *checker) problem(level Level, text string) {
	found, remedy, ok := strings.Cut(text, "; ")
	if at := strings.LastIndex(text, ": "); !ok && at >= 0 {
		found, remedy = text[:at], text[at+2:]
	}
	c.add(level, found, remedy)
}
