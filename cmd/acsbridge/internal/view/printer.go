package view

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

// Color is whether text has colors. The zero value is without.
type Color bool

// ColorFor returns colors for a terminal, unless NO_COLOR is set
// (https://no-color.org).
func ColorFor(out io.Writer) Color {
	return Color(IsTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

// Codes of colors that are readable on any background.
const (
	Faint  = "2"
	Bold   = "1"
	Red    = "31"
	Green  = "32"
	Yellow = "33"
	Cyan   = "36"
)

// Paint returns a text in the color of a code; an empty code leaves it as it is.
func (c Color) Paint(code, text string) string {
	if !bool(c) || text == "" || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Printer formats messages and calls, one a line. Its columns grow with the texts.
type Printer struct {
	Color    Color
	Personal bool      // show personal data
	Now      time.Time // times of another day have their date

	clocks, types, briefs, resources, events column
}

// Clock is the format of a time of day.
const Clock = "15:04:05.000"

// column is the width of a column, in runes: that of the longest text so far.
type column int

// Widths that columns have at least, for usual texts, and at most: a longer type or
// name is cut.
const (
	leastClock    = len(Clock)
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

// AppendMessage appends one line: time of storing, type, brief, resource, call, and
// participants.
func (p *Printer) AppendMessage(dst []byte, m *replay.StoredMessage) []byte {
	at := p.Color.Paint(Faint, p.clocks.fit(-leastClock, p.Clock(m.Time)))
	e, err := m.Event()
	if err != nil {
		what := Plural(len(m.Data), "byte") + ", not an event"
		return fmt.Appendf(dst, "%s  %s  %s\n", at, Printable(m.Subject), p.Color.Paint(Red, what))
	}
	line := fmt.Appendf(dst, "%s  %s %s %s %s", at, p.kind(e), p.briefs.fit(leastBrief, Printable(e.Brief())),
		p.resources.fit(leastResource, Printable(e.Resource)), p.Color.Paint(Cyan, Printable(e.Call)))
	for _, more := range []string{p.people(e), p.cut(m)} {
		if more != "" {
			line = fmt.Appendf(line, "  %s", more)
		}
	}
	return append(line, '\n')
}

// cut names the headers of a message that were cut at their bound, such as the
// query of the callback URL.
func (p *Printer) cut(m *replay.StoredMessage) string {
	names := m.Header.Get(schemas.HeaderTruncated)
	if names == "" {
		return ""
	}
	return p.Color.Paint(Yellow, "[cut: "+Printable(names)+"]")
}

// Clock is a time of day in this zone, with the date when it is not today's.
func (p *Printer) Clock(t time.Time) string {
	t = t.Local()
	if t.Format(time.DateOnly) != p.Now.Local().Format(time.DateOnly) {
		return t.Format(time.DateOnly + " " + Clock)
	}
	return t.Format(Clock)
}

// kind is the type of an event in the color of its outcome.
func (p *Printer) kind(e *replay.StoredEvent) string {
	code := Green
	switch {
	case e.Failed():
		code = Red
	case e.Type == "CallConnected" || e.Type == "CallDisconnected":
		code = Bold
	case strings.HasSuffix(e.Type, "Canceled") || strings.HasSuffix(e.Type, "Stopped"):
		code = Yellow
	}
	return p.Color.Paint(code, p.types.fit(leastType, Printable(e.Type)))
}

// people are the participants that an event names, and with personal data its texts.
func (p *Printer) people(e *replay.StoredEvent) string {
	var words []string
	for _, id := range e.People {
		if !p.Personal {
			id = replay.MaskID(id)
		}
		words = append(words, Printable(id))
	}
	if context := e.OperationContext(); p.Personal && context != "" {
		words = append(words, "context="+Printable(context))
	}
	if r := e.Result(); p.Personal && r != nil && r.Message != "" {
		words = append(words, `"`+Printable(r.Message)+`"`)
	}
	return strings.Join(words, " ")
}

// maxPrinted bounds what is printed of a text from outside, in runes.
const maxPrinted = 120

// Printable makes a text from outside safe for a terminal: control characters become
// question marks.
func Printable(text string) string {
	return printable(text, maxPrinted)
}

// PrintableText is [Printable] for a text of any length.
func PrintableText(text string) string { return printable(text, len(text)) }

// PrintableLines is [PrintableText] for a text of several lines.
func PrintableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = PrintableText(lines[i])
	}
	return strings.Join(lines, "\n")
}

func printable(text string, most int) string {
	if len(text) <= most && strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) < 0 {
		return text
	}
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > most {
			return b.String() + "…"
		}
		if !unicode.IsGraphic(r) || r == unicode.ReplacementChar {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Quarantined is a quarantined callback or a dead letter: its number, time, reason,
// resource, size, and type. One with a call has that and the type on a line of their own,
// so that a GUID and any known type fit into 80 columns.
func (p *Printer) Quarantined(number uint64, reason, kind, call string, size int, m *replay.StoredMessage) string {
	line := fmt.Sprintf("%6d  %s  %s %s %13s", number, p.clocks.fit(-leastClock, p.Clock(m.Time)),
		p.Color.Paint(Yellow, p.types.fit(leastReason, Printable(reason))), p.resources.fit(leastResource, Printable(m.Header.Get(schemas.HeaderResource))),
		Plural(size, "byte"))
	if call == "" {
		return strings.TrimRight(line+"  "+Printable(kind), " ")
	}
	return fmt.Sprintf("%s\n      %s %s", line, p.Color.Paint(Cyan, Printable(call)), Printable(kind))
}
