package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// connectWithin is how long a command waits for NATS before it gives up.
const connectWithin = 2 * time.Second

// readerGCPercent: a reading leaves a few KiB of garbage for each event, on a live
// heap of a few MiB, and at Go's 100 a quarter of its CPU went into collections.
const readerGCPercent = 400

// readerSettings is how a command that reads the stream reaches it: what it
// shares with serve, under the same names, variables and keys of the file. So
// it finds the stream where a bridge of the same configuration has it. Without
// nats-url and nats-context that is the embedded server, at its default address.
type readerSettings struct {
	Config string `help:"YAML file of serve, for its NATS settings and its stream; also ACSBRIDGE_CONFIG." placeholder:"FILE"`

	natsSettings `group:"NATS connection:"`

	Stream        string `group:"Stream (JetStream):" help:"Stream to read." default:"${stream}" placeholder:"NAME"`
	SubjectPrefix string `group:"Stream (JetStream):" help:"First token of its subjects." default:"${prefix}" placeholder:"TOKEN"`

	environ func() []string // nil means os.Environ
	sources *sources
}

// shared reports whether a command that reads has a setting in common with
// serve. The others may have the same name and mean something else.
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
func (r *readerSettings) BeforeResolve(ctx *kong.Context) error {
	for _, flag := range ctx.Flags() {
		if flag.Name == "config" {
			r.Config, _ = ctx.FlagValue(flag).(string)
		}
	}
	if r.environ == nil {
		r.environ = os.Environ
	}
	var settings []*kong.Flag // of serve, whose file this is
	for _, command := range ctx.Model.Children {
		for _, flag := range command.Flags {
			if command.Name == "serve" && isSetting(flag.Name) {
				settings = append(settings, flag)
			}
		}
	}
	r.sources = newSources(ctx.Model, r.environ(), settings, r.Config)
	ctx.AddResolver(sharedSources{r.sources})
	return nil
}

// AfterApply refuses settings with problems, naming all of them.
func (r *readerSettings) AfterApply() error {
	x := &examination{settings: &settings{natsSettings: r.natsSettings, sources: r.sources}, found: r.sources.problems}
	x.natsServers()
	x.natsLogin()
	x.nameOf("stream", r.Stream)
	x.nameOf("subject-prefix", r.SubjectPrefix)
	if len(x.found) > 0 {
		return configError(x.found)
	}
	r.natsSettings = x.natsSettings // with the secrets that were read
	return nil
}

// reader connects to NATS and returns a reader of the stream. What a reading
// goes on in spite of is written to std.err.
func (r *readerSettings) reader(ctx context.Context, std stdio) (*replay.Reader, *natsconn.Link, error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(readerGCPercent)
	}
	link, err := natsconn.Connect(r.connection(), slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelError})))
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

// nameOf examines a name of one subject token.
func (x *examination) nameOf(setting, name string) {
	if !schemas.ValidToken(name) {
		x.reject(setting, "%q is no usable name; take 1 to 64 letters, digits, _ or -", name)
	}
}

// away says that NATS is not reached, and where it was looked for.
func (r *readerSettings) away(problem error) error {
	where, hint := "at "+r.NatsURL, ""
	switch {
	case r.NatsContext != "":
		where = "by the context " + r.NatsContext
	case r.NatsURL == "":
		where, hint = "at "+defaultNatsListen, "; is a bridge running here, with its embedded server? Another NATS is named with --nats-url or --nats-context"
	}
	if problem == nil {
		problem = context.DeadlineExceeded
	}
	return fmt.Errorf("no NATS %s within %v: %w%s", where, connectWithin, problem, hint)
}
