package config

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/running"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// Reader is how a command that reads the stream reaches it: what it
// shares with serve, under the same names, variables and keys of the file. So
// it finds the stream where a bridge of the same configuration has it. Without
// nats-url and nats-context that is an embedded server: of the newest demo or bridge that
// runs for this user, or at its default address.
type Reader struct {
	Config string `help:"YAML file of serve, for its NATS settings and its stream; also ACSBRIDGE_CONFIG." placeholder:"FILE"`

	natsSettings `group:"NATS flags:" set:"withoutURL=the demo or bridge that runs here, else 127.0.0.1:4222."`

	Stream        string `group:"NATS flags:" help:"Stream to read." default:"${stream}" placeholder:"NAME"`
	SubjectPrefix string `group:"NATS flags:" help:"First token of its subjects." default:"${prefix}" placeholder:"TOKEN"`

	environ func() []string // nil means os.Environ
	sources *sources
}

// ReaderGroup is the group of the flags of [Reader], but for --config.
const ReaderGroup = "NATS flags:"

// shared reports whether a command that reads has a setting in common with
// serve. Other flags may have the same name and another meaning.
func shared(setting string) bool {
	return strings.HasPrefix(setting, "nats-") || setting == "stream" || setting == "subject-prefix"
}

// sharedSources are the sources of serve, for the settings that a command that
// reads shares with it.
type sharedSources struct{ *sources }

// Resolve returns the value of a shared setting that is not on the command line.
func (s sharedSources) Resolve(ctx *kong.Context, path *kong.Path, flag *kong.Flag) (any, error) {
	if !shared(flag.Name) {
		return nil, nil
	}
	return s.sources.Resolve(ctx, path, flag)
}

// BeforeResolve makes kong ask the environment and the file of serve.
func (r *Reader) BeforeResolve(ctx *kong.Context) error {
	r.Config = configFile(ctx)
	if r.environ == nil {
		r.environ = os.Environ
	}
	r.sources = newSources(r.environ(), Flags(), r.Config)
	ctx.AddResolver(sharedSources{r.sources})
	return nil
}

// AfterApply rejects settings with problems, naming all of them.
func (r *Reader) AfterApply() error {
	s := &Settings{natsSettings: r.natsSettings, sources: r.sources, found: r.sources.problems}
	s.checkServers()
	s.checkLogin(&s.NatsLogin, bridgeNATS)
	s.checkName("stream", r.Stream)
	s.checkName("subject-prefix", r.SubjectPrefix)
	if len(s.found) > 0 {
		return Error(s.found)
	}
	r.natsSettings = s.natsSettings // with the secrets that were read
	return nil
}

// connectWithin is how long a command waits for NATS before it gives up.
const connectWithin = 2 * time.Second

// readerGCPercent: a reading leaves a few KiB of garbage for each event, on a live
// heap of a few MiB, and at Go's 100 a quarter of its CPU went into collections.
const readerGCPercent = 400

// Open connects to NATS and returns a reader of the stream. Warnings that do not end a
// reading are written to w, and whose stream it is when no setting says so.
func (r *Reader) Open(ctx context.Context, w io.Writer) (*replay.Reader, *natsconn.Link, error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(readerGCPercent)
	}
	r.findRunning(w)
	link, err := natsconn.Connect(r.NATS(), slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelError})))
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
		OnWarning: func(err error) { fmt.Fprintln(w, "acsbridge:", err) },
	}, link, nil
}

// Connect starts connecting to NATS, for a command that runs for long; see
// [natsconn.Connect]. Whose stream it reads when no setting says so is written to w.
func (r *Reader) Connect(w io.Writer, logger *slog.Logger) (*natsconn.Link, error) {
	r.findRunning(w)
	return natsconn.Connect(r.NATS(), logger)
}

// findRunning takes the embedded server of the newest demo or bridge of this user, and
// its stream, unless settings say otherwise. When the search fails, the default address
// is left.
func (r *Reader) findRunning(w io.Writer) {
	if r.natsSettings != (natsSettings{}) {
		return
	}
	states, err := running.Find()
	if err != nil || len(states) == 0 {
		return
	}
	r.NatsURL = states[0].NatsURL
	if r.sources.origin["stream"] == originDefault {
		r.Stream = states[0].Stream
	}
	if r.sources.origin["subject-prefix"] == originDefault {
		r.SubjectPrefix = states[0].SubjectPrefix
	}
	fmt.Fprintf(w, "acsbridge: stream %s at %s, of %s; --nats-url names another server\n", r.Stream, r.NatsURL, running.Name(&states[0], len(states)))
}

// unreachable returns the error that NATS does not answer, with its address and its
// setting.
func (r *Reader) unreachable(problem error) error {
	where, hint := "at "+r.NatsURL, ""
	switch {
	case r.NatsLogin.Context != "":
		where = "by the context " + r.NatsLogin.Context
	case r.NatsURL == "":
		where, hint = "at "+DefaultNATSListen, "; no demo of this user runs here, and no bridge with an embedded server"
	}
	if problem == nil {
		problem = context.DeadlineExceeded
	}
	return fmt.Errorf("no NATS %s within %v: %w%s", where, connectWithin, problem, hint)
}

// checkName checks a name of one subject token.
func (s *Settings) checkName(setting, name string) {
	if !schemas.ValidToken(name) {
		s.reject(setting, "%q is not a usable name; take 1 to 64 letters, digits, _ or -", name)
	}
}
