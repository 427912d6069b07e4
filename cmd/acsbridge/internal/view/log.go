// Package view is what people see of the commands: lines of a log, text on a
// terminal.
package view

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/term"
)

// NewLogger returns a log that is written to w: text for a terminal and JSON
// otherwise, unless the format is text or json. The journal of systemd gets the level
// of each line as well.
func NewLogger(w io.Writer, format, level string) *slog.Logger {
	var least slog.Level
	_ = least.UnmarshalText([]byte(level)) // checked with the settings
	handler := func(w io.Writer) slog.Handler {
		opts := &slog.HandlerOptions{Level: least}
		if format == "text" || (format == "auto" && IsTerminal(w)) {
			return slog.NewTextHandler(w, opts)
		}
		return slog.NewJSONHandler(w, opts)
	}
	if toJournal(w) {
		return slog.New(newJournalHandler(w, handler))
	}
	return slog.New(handler(w))
}

// IsTerminal reports whether what is written to w is shown on a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// toJournal reports whether w is the journal of systemd, which names the stream
// that it connected (systemd.exec(5), JOURNAL_STREAM).
func toJournal(w io.Writer) bool {
	_, inode, found := strings.Cut(os.Getenv("JOURNAL_STREAM"), ":")
	file, ok := w.(*os.File)
	if !found || !ok {
		return false
	}
	link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	return err == nil && link == "socket:["+inode+"]"
}

// Levels of the journal, which are those of syslog.
const (
	journalError   = 3
	journalWarning = 4
	journalInfo    = 6
	journalDebug   = 7
)

// journalHandler puts the level in front of each line, where the journal looks for
// it (sd-daemon(3)): one handler for each level.
type journalHandler map[int]slog.Handler

// newJournalHandler returns a handler that writes to w what handlers made by
// make write. They must write one line a record.
func newJournalHandler(w io.Writer, make func(io.Writer) slog.Handler) journalHandler {
	h := journalHandler{}
	for _, level := range []int{journalError, journalWarning, journalInfo, journalDebug} {
		h[level] = make(&prefixed{w, fmt.Sprintf("<%d>", level)})
	}
	return h
}

func (h journalHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h[journalLevel(level)].Enabled(ctx, level)
}

func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	return h[journalLevel(r.Level)].Handle(ctx, r)
}

func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.each(func(inner slog.Handler) slog.Handler { return inner.WithAttrs(attrs) })
}

func (h journalHandler) WithGroup(name string) slog.Handler {
	return h.each(func(inner slog.Handler) slog.Handler { return inner.WithGroup(name) })
}

func (h journalHandler) each(f func(slog.Handler) slog.Handler) journalHandler {
	changed := journalHandler{}
	for level, inner := range h {
		changed[level] = f(inner)
	}
	return changed
}

func journalLevel(level slog.Level) int {
	switch {
	case level >= slog.LevelError:
		return journalError
	case level >= slog.LevelWarn:
		return journalWarning
	case level >= slog.LevelInfo:
		return journalInfo
	}
	return journalDebug
}

// prefixed writes each line with a prefix.
type prefixed struct {
	io.Writer
	prefix string
}

func (p *prefixed) Write(line []byte) (int, error) {
	_, err := p.Writer.Write(append([]byte(p.prefix), line...))
	return len(line), err
}

// PrintError writes the error that ends the process. It can have texts of servers in it.
func PrintError(w io.Writer, err error) {
	text := PrintableLines(fmt.Sprintf("acsbridge: %v", err))
	if toJournal(w) {
		prefix := fmt.Sprintf("<%d>", journalError)
		text = prefix + strings.ReplaceAll(text, "\n", "\n"+prefix)
	}
	fmt.Fprintln(w, text)
}

// Plural is a number of things.
func Plural[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Confirm asks on the terminal. Without one it fails.
func Confirm(ctx context.Context, w io.Writer, what string) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("there is no terminal to ask on; add --yes")
	}
	fmt.Fprintf(w, "%s\nGo on? [yes/no] ", what)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n') // an error is not a yes
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case word := <-answer:
		if word != "yes" {
			return errors.New("nothing was done")
		}
	}
	return nil
}
