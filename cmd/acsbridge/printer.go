package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// color is whether text has colors. The zero value is without.
type color bool

// colorFor returns color for a terminal, unless NO_COLOR is set
// (https://no-color.org).
func colorFor(out io.Writer) color {
	return color(isTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

// Codes of colors that are readable on any background.
const (
	faint  = "2"
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (c color) paint(code, text string) string {
	if !bool(c) || text == "" || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// printer formats messages, one a line.
type printer struct {
	color    color
	personal bool      // show personal data
	now      time.Time // times of another day have their date

	clocks, types, briefs, resources, events column
}

// column is the width of a column, in runes: that of the longest text so far.
type column int

// Widths that columns have at least, for usual texts, and at most: a longer type or
// name is cut.
const (
	leastClock    = len(clock)
	leastType     = 24
	leastBrief    = 22
	leastResource = 10
	leastEvents   = 11
	leastReason   = 16
	mostColumn    = 40 // the longest known type has 37
)

// fit returns a text in the width of the column, which is least at the beginning;
// on the right when least is negative.
func (c *column) fit(least int, text string) string {
	if n := utf8.RuneCountInString(text); n > mostColumn {
		text = string([]rune(text)[:mostColumn-1]) + "…"
	}
	*c = max(*c, column(max(least, -least)), column(utf8.RuneCountInString(text)))
	if least < 0 {
		return fmt.Sprintf("%*s", int(*c), text)
	}
	return fmt.Sprintf("%-*s", int(*c), text)
}

// appendMessage appends one line: time of storing, type, brief, resource, call, and
// participants.
func (p *printer) appendMessage(dst []byte, m *replay.StoredMessage) []byte {
	at := p.color.paint(faint, p.clocks.fit(-leastClock, p.clock(m.Time)))
	e, err := m.Event()
	if err != nil {
		what := plural(len(m.Data), "byte") + ", not an event"
		return fmt.Appendf(dst, "%s  %s  %s\n", at, printable(m.Subject), p.color.paint(red, what))
	}
	line := fmt.Appendf(dst, "%s  %s %s %s %s", at, p.kind(e), p.briefs.fit(leastBrief, printable(e.Brief())),
		p.resources.fit(leastResource, printable(e.Resource)), p.color.paint(cyan, printable(e.Call)))
	for _, more := range []string{p.people(e), p.cut(m)} {
		if more != "" {
			line = fmt.Appendf(line, "  %s", more)
		}
	}
	return append(line, '\n')
}

// cut names the headers of a message that were cut at their bound, such as the
// query of the callback URL.
func (p *printer) cut(m *replay.StoredMessage) string {
	names := m.Header.Get(schemas.HeaderTruncated)
	if names == "" {
		return ""
	}
	return p.color.paint(yellow, "[cut: "+printable(names)+"]")
}

// clock is a time of day in this zone, with the date when it is not today's.
func (p *printer) clock(t time.Time) string {
	t = t.Local()
	if t.Format(time.DateOnly) != p.now.Local().Format(time.DateOnly) {
		return t.Format(time.DateOnly + " " + clock)
	}
	return t.Format(clock)
}

// kind is the type of an event in the color of its outcome.
func (p *printer) kind(e *replay.StoredEvent) string {
	code := green
	switch {
	case e.Failed():
		code = red
	case e.Type == "CallConnected" || e.Type == "CallDisconnected":
		code = bold
	case strings.HasSuffix(e.Type, "Canceled") || strings.HasSuffix(e.Type, "Stopped"):
		code = yellow
	}
	return p.color.paint(code, p.types.fit(leastType, printable(e.Type)))
}

// people are the participants that an event names, and with personal data its texts.
func (p *printer) people(e *replay.StoredEvent) string {
	var words []string
	for _, id := range e.People {
		if !p.personal {
			id = replay.MaskID(id)
		}
		words = append(words, printable(id))
	}
	if context := e.OperationContext(); p.personal && context != "" {
		words = append(words, "context="+printable(context))
	}
	if r := e.Result(); p.personal && r != nil && r.Message != "" {
		words = append(words, `"`+printable(r.Message)+`"`)
	}
	return strings.Join(words, " ")
}

// maxPrinted bounds what is printed of a text from outside, in runes.
const maxPrinted = 120

// printable makes a text from outside safe for a terminal: control characters become
// question marks.
func printable(text string) string {
	if len(text) <= maxPrinted && strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) < 0 {
		return text
	}
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > maxPrinted {
			return b.String() + "…"
		}
		if !unicode.IsGraphic(r) || r == unicode.ReplacementChar {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
