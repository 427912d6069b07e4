// Package check examines what a bridge with given settings needs: data directory, keys,
// clock, NATS, streams, certificate, and the way from outside. It makes, changes and
// stores nothing but a small file in the data directory, which it removes again.
package check

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
)

// Level is how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "ok"
	Warn Level = "warn" // events are taken, but something will fail, or is not as meant
	Fail Level = "fail" // events are refused, lost or not sent
)

// Finding is one thing that was examined.
type Finding struct {
	Area   string `json:"area"` // such as settings, keys, stream
	Level  Level  `json:"level"`
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"` // what to do; empty when the level is ok
}

// Report is all findings, in the order in which they were found.
type Report struct {
	Findings []Finding `json:"findings"`
	OK       int       `json:"ok"`
	Warnings int       `json:"warnings"`
	Failures int       `json:"failures"`
}

// add adds a finding. One that is ok has no remedy.
func (r *Report) add(f Finding) {
	switch f.Level {
	case Warn:
		r.Warnings++
	case Fail:
		r.Failures++
	default:
		r.OK++
	}
	r.Findings = append(r.Findings, f)
}

// Width of a line on the terminal, and where the text of a finding begins.
const (
	lineWidth = 80
	textFrom  = 8
)

// levelColors are those of the levels.
var levelColors = map[Level]string{OK: view.Green, Warn: view.Yellow, Fail: view.Red}

// Print writes a finding, below the name of its area unless the one before has the same.
func (f Finding) Print(w io.Writer, color view.Color, before string) {
	if f.Area != before {
		fmt.Fprintln(w, color.Paint(view.Bold, f.Area))
	}
	mark := color.Paint(levelColors[f.Level], fmt.Sprintf("%-4s", f.Level))
	for i, line := range wrap(view.PrintableText(f.Found), lineWidth-textFrom) {
		if i > 0 {
			mark = "    "
		}
		fmt.Fprintf(w, "  %s  %s\n", mark, line)
	}
	for i, line := range wrap(view.PrintableText(f.Remedy), lineWidth-textFrom-2) {
		arrow := "→ "
		if i > 0 {
			arrow = "  "
		}
		fmt.Fprintf(w, "        %s%s\n", color.Paint(view.Bold, arrow), line)
	}
}

// Summary is one line about all findings.
func (r *Report) Summary() string {
	return fmt.Sprintf("%d ok, %s, %s", r.OK, view.Plural(r.Warnings, "warning"), view.Plural(r.Failures, "failure"))
}

// wrap cuts a text into lines of at most so many runes. A word that is longer is cut.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		for utf8.RuneCountInString(word) > width {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			runes := []rune(word)
			lines, word = append(lines, string(runes[:width])), string(runes[width:])
		}
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
