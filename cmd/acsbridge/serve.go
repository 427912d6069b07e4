package main

import (
	"context"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// Run serves until ctx ends.
func (c *serveCmd) Run(ctx context.Context, std stdio) error {
	logger := newLogger(&c.settings, std.err)
	tuneGC()
	b, err := newBridge(&c.settings, logger)
	if err != nil {
		return err
	}
	return b.run(ctx)
}

// newLogger returns the process's log: lines for a person on a terminal, JSON
// for a machine behind a pipe, unless the settings say which. The journal of
// systemd gets the level of each line as well.
func newLogger(s *settings, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel)) // checked with the settings
	handler := func(w io.Writer) slog.Handler {
		opts := &slog.HandlerOptions{Level: level}
		if s.LogFormat == "text" || (s.LogFormat == "auto" && isTerminal(w)) {
			return slog.NewTextHandler(w, opts)
		}
		return slog.NewJSONHandler(w, opts)
	}
	if toJournal(w) {
		return slog.New(newJournalHandler(w, handler))
	}
	return slog.New(handler(w))
}

// isTerminal reports whether a person reads what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
