package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/replay"
)

// connectWithin is how long a command waits for NATS before it gives up.
const connectWithin = 2 * time.Second

// readerGCPercent: a reading leaves a few KiB of garbage for each event, on a live
// heap of a few MiB, and at Go's 100 a quarter of its CPU went into collections.
const readerGCPercent = 400

// readerSettings are the settings of the commands that read the stream.
type readerSettings struct{ config.Reader }

// reader connects to NATS and returns a reader of the stream. Warnings
// that do not end a reading are written to std.err.
func (r *readerSettings) reader(ctx context.Context, std stdio) (*replay.Reader, *natsconn.Link, error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(readerGCPercent)
	}
	link, err := natsconn.Connect(r.NATS(), slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelError})))
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
		return nil, nil, r.unreachable(problem)
	}
	return &replay.Reader{
		JetStream: link.JetStream, Stream: r.Stream, Prefix: r.SubjectPrefix,
		OnWarning: func(err error) { fmt.Fprintln(std.err, "acsbridge:", err) },
	}, link, nil
}

// unreachable returns the error that NATS does not answer, with its address and its
// setting.
func (r *readerSettings) unreachable(problem error) error {
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

// confirm asks on the terminal. Without one it fails.
func confirm(ctx context.Context, std stdio, what string) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("there is no terminal to ask on; add --yes")
	}
	fmt.Fprintf(std.err, "%s\nGo on? [yes/no] ", what)
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
