package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/replay"
)

// connectWithin is how long a command waits for NATS before it gives up.
const connectWithin = 2 * time.Second

// readerGCPercent: a reading leaves a few KiB of garbage for each event, on a live
// heap of a few MiB, and at Go's 100 a quarter of its CPU went into collections.
const readerGCPercent = 400

// readerSettings are the settings of the commands that read the stream.
type readerSettings struct{ config.Reader }

// reader connects to NATS and returns a reader of the stream. What a reading
// goes on in spite of is written to std.err.
func (r *readerSettings) reader(ctx context.Context, std stdio) (*replay.Reader, *publish.Link, error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(readerGCPercent)
	}
	link, err := publish.Connect(r.NATS(), slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		return nil, nil, err
	}
	within, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	if _, err := link.JetStream(within); err != nil {
		_, problem := link.State()
		link.Close()
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		return nil, nil, r.away(problem)
	}
	return &replay.Reader{
		JetStream: link.JetStream, Stream: r.Stream, Prefix: r.SubjectPrefix,
		Notice: func(err error) { fmt.Fprintln(std.err, "acsbridge:", err) },
	}, link, nil
}

// away says that NATS is not reached, and where it was looked for.
func (r *readerSettings) away(problem error) error {
	where, hint := "at "+r.NatsURL, ""
	switch {
	case r.NatsContext != "":
		where = "by the context " + r.NatsContext
	case r.NatsURL == "":
		where, hint = "at "+config.DefaultNATSListen, "; is a bridge running here, with its embedded server? Another NATS is named with --nats-url or --nats-context"
	}
	if problem == nil {
		problem = context.DeadlineExceeded
	}
	return fmt.Errorf("no NATS %s within %v: %w%s", where, connectWithin, problem, hint)
}

// plural is [view.Plural].
func plural[N int | int64 | uint64](n N, noun string) string { return view.Plural(n, noun) }

// isTerminal is [view.IsTerminal].
func isTerminal(w io.Writer) bool { return view.IsTerminal(w) }
