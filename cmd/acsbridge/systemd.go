package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
)

// notify tells systemd, or another supervisor that speaks its protocol, about the
// state of this process (sd_notify(3)). Without one it does nothing.
func notify(state string) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	conn, err := net.Dial("unixgram", socket) // which reads a leading @ as an abstract name
	if err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	return nil
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

// complain writes the error that ends the process.
func complain(w io.Writer, err error) {
	text := fmt.Sprintf("acsbridge: %v", err)
	if toJournal(w) {
		prefix := fmt.Sprintf("<%d>", journalError)
		text = prefix + strings.ReplaceAll(text, "\n", "\n"+prefix)
	}
	fmt.Fprintln(w, text)
}
