// Command acsbridge verifies the callbacks of Azure Communication Services
// Call Automation, makes them durable and publishes them to NATS JetStream.
//
// Each subcommand is one file. Standard output carries what a command was
// asked for, standard error its logs and errors. The exit status is 0 when
// the command did its job, 1 when it failed, and 2 when the command line or
// the configuration is wrong, so that no restart can help; deliver has one more.
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
	exitGone   = 3 // deliver: the application answered 410
)

// stdio is where a command writes.
type stdio struct{ out, err io.Writer }

// cli is the command line: one field a subcommand. kong binds
// [context.Context] and [stdio] to each command's Run.
type cli struct {
	VersionFlag versionFlag `name:"version" help:"Print the version."`

	Demo demoCmd `cmd:"" group:"See it work:" help:"A bridge, NATS and a simulated ACS on this machine."`

	Serve       serveCmd       `cmd:"" group:"Run it:" help:"Verify callbacks, journal them, publish them to NATS."`
	Check       checkCmd       `cmd:"" group:"Run it:" help:"Examine settings, keys, clock, NATS, streams: what is wrong, what to do."`
	Deliver     deliverCmd     `cmd:"" group:"Run it:" help:"Post events to an application's webhook, in order, retried, signed."`
	Console     consoleCmd     `cmd:"" group:"Run it:" help:"Show calls and events in a browser, without a bridge."`
	Drain       drainCmd       `cmd:"" group:"Run it:" help:"Bring the journal of a bridge that does not run to the stream, and end."`
	Health      healthCmd      `cmd:"" group:"Run it:" help:"Ask a running bridge whether it is ready; exit 0 when it is."`
	Consumers   consumersCmd   `cmd:"" group:"Run it:" help:"The services that consume: lag, parked calls, dead letters."`
	DeadLetters deadLettersCmd `cmd:"" name:"deadletters" group:"Run it:" help:"List, show, redrive or remove what a service has given up."`
	Quarantine  quarantineCmd  `cmd:"" group:"Run it:" help:"List, show, publish or remove malformed callbacks."`

	Rights rightsCmd `cmd:"" group:"Run it:" help:"Print what a service needs in NATS: commands and an account."`

	Tail   tailCmd   `cmd:"" group:"Look at events:" help:"Print events, past ones and those that come."`
	Calls  callsCmd  `cmd:"" group:"Look at events:" help:"List calls: state, duration, events."`
	Call   callCmd   `cmd:"" group:"Look at events:" help:"One call: legs, events in order, what failed, what is missing."`
	Events eventsCmd `cmd:"" group:"Look at events:" help:"The types of events: when they come, members, an example."`

	Listen listenCmd `cmd:"" group:"Send events again:" help:"Post events that come to a local URL, as ACS would."`
	Replay replayCmd `cmd:"" group:"Send events again:" help:"Stored events: as copies, to a URL, or to a file."`

	Trigger  triggerCmd  `cmd:"" group:"Test your application:" help:"Send one signed event of a type."`
	Simulate simulateCmd `cmd:"" group:"Test your application:" help:"Play ACS: calls, key server, load, chaos."`
	Probe    probeCmd    `cmd:"" group:"Test your application:" help:"Test how a webhook verifies tokens, without a bridge."`

	Help       helpCmd       `cmd:"" group:"acsbridge itself:" help:"Help of a command, or of the NATS flags."`
	Completion completionCmd `cmd:"" group:"acsbridge itself:" help:"Print the completion script of a shell."`
	Man        manCmd        `cmd:"" group:"acsbridge itself:" help:"Print or write manual pages."`
	Version    versionCmd    `cmd:"" group:"acsbridge itself:" help:"Print version, Go version and platform."`
	Complete   completeCmd   `cmd:"" name:"__complete" hidden:"" group:"acsbridge itself:" help:"Print what can be typed next, for completion."`
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
func newParser(grammar any, std stdio, options ...kong.Option) (*kong.Kong, error) {
	return kong.New(grammar, append([]kong.Option{
		kong.Name("acsbridge"),
		kong.Description("Verify the callbacks of Azure Communication Services Call Automation, " +
			"make them durable, and publish them to NATS JetStream."),
		config.Vars(),
		kong.Writers(std.out, std.err),
		helpOptions(),
		kong.ValueFormatter(flagHelp), // the one of helpOptions is not used for --help
		kong.Help(printHelp),
	}, options...)...)
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
	return usageError{parse, fmt.Sprintf("%s\nrun %q for the flags", plainUsage(parse), command+" --help")}
}

// exitStatus is the process's exit status for an error of [run].
func exitStatus(err error) int {
	if of, ok := errors.AsType[statusError](err); ok {
		return of.status
	}
	if _, ok := errors.AsType[*kong.ParseError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[goneError](err); ok {
		return exitGone
	}
	return exitFailed
}
