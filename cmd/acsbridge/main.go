// Command acsbridge verifies the callbacks of Azure Communication Services
// Call Automation, makes them durable and publishes them to NATS JetStream.
//
// Each subcommand is one file. Standard output carries what a command was
// asked for, standard error its logs and errors. The exit status is 0 when
// the command did its job, 1 when it failed, and 2 when the command line or
// the configuration is wrong, so that no restart can help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
)

// Exit statuses besides 0.
const (
	exitFailed = 1
	exitUsage  = 2
)

// helpWidth is the most columns that help text uses; a narrower terminal uses fewer.
const helpWidth = 100

// stdio is where a command writes.
type stdio struct{ out, err io.Writer }

// cli is the command line: one field a subcommand. kong binds
// [context.Context] and [stdio] to each command's Run.
type cli struct {
	Demo       demoCmd       `cmd:"" help:"Show it at work: the bridge, an embedded NATS and a simulated ACS on loopback."`
	Serve      serveCmd      `cmd:"" help:"Run the bridge: verify callbacks, journal them, publish them to NATS."`
	Simulate   simulateCmd   `cmd:"" help:"Play Azure Communication Services against a bridge: calls, key server, chaos."`
	Trigger    triggerCmd    `cmd:"" help:"Send one signed event of a type to a bridge."`
	Probe      probeCmd      `cmd:"" help:"Test a webhook of your own: good callbacks, and forged, expired and foreign ones."`
	Tail       tailCmd       `cmd:"" help:"Print the events of the stream, past ones and those that come."`
	Call       callCmd       `cmd:"" help:"Show one call: its legs, its events in order, what failed, what is missing."`
	Calls      callsCmd      `cmd:"" help:"List the calls of the stream: state, duration, events."`
	Replay     replayCmd     `cmd:"" help:"Send events of the stream again: as copies, to a URL, or to a file."`
	Listen     listenCmd     `cmd:"" help:"Forward the events that come to a local URL, as ACS would post them."`
	Quarantine quarantineCmd `cmd:"" help:"List, show, publish or remove quarantined callbacks and dead letters."`
	Events     eventsCmd     `cmd:"" help:"Show the types of events: when they come, what is in them, an example."`
	Health     healthCmd     `cmd:"" help:"Ask a running bridge whether it is ready; exit 0 when it is."`
	Version    versionCmd    `cmd:"" help:"Print version, Go version and platform."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C kills at once
	if err := run(ctx, os.Args[1:], stdio{out: os.Stdout, err: os.Stderr}); err != nil {
		view.PrintError(os.Stderr, err)
		os.Exit(exitStatus(err))
	}
}

// run parses args and runs the command they name. Help goes to std.out and
// ends the process with status 0, as kong does it.
func run(ctx context.Context, args []string, std stdio) error {
	parser, err := newParser(&cli{}, std)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if err != nil {
		return explainUsage(err)
	}
	command.BindTo(ctx, (*context.Context)(nil))
	return command.Run(std)
}

// newParser builds the kong parser of a grammar, which is [cli] or one command.
func newParser(grammar any, std stdio) (*kong.Kong, error) {
	return kong.New(grammar,
		kong.Name("acsbridge"),
		kong.Description("Verify the callbacks of Azure Communication Services Call Automation, "+
			"make them durable, and publish them to NATS JetStream."),
		config.Vars(),
		kong.Writers(std.out, std.err),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: helpWidth}),
		kong.ValueFormatter(flagHelp),
	)
}

// flagHelp is the help text of one flag. The default follows it, since
// the place holder names the kind of value.
func flagHelp(value *kong.Value) string {
	if !value.HasDefault || value.Default == "" {
		return value.Help
	}
	return fmt.Sprintf("%s Default: %s", value.Help, value.Default)
}

// explainUsage adds the way to the help text to an error about the command
// line. A bad configuration explains itself.
func explainUsage(err error) error {
	parse, ok := errors.AsType[*kong.ParseError](err)
	if _, explained := errors.AsType[config.Error](err); explained || !ok {
		return err
	}
	command := "acsbridge"
	if node := parse.Context.Selected(); node != nil {
		command = node.FullPath()
	}
	return fmt.Errorf("%w\nrun %q for the flags", err, command+" --help")
}

// exitStatus is the process's exit status for an error of [run].
func exitStatus(err error) int {
	if _, ok := errors.AsType[*kong.ParseError](err); ok {
		return exitUsage
	}
	return exitFailed
}
