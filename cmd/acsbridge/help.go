package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/internal/suggest"
)

// helpWidth is the most columns that help text uses; a narrower terminal uses fewer.
const helpWidth = 80

// maxShownDefault is the longest default, in bytes, that fits beside the flags.
const maxShownDefault = 50

// natsTopic is the topic of help that is not a command.
const natsTopic = "nats"

// helpCmd prints the help of a command or a topic.
type helpCmd struct {
	Topic []string `arg:"" optional:"" help:"Command, or nats for the flags of the connection to NATS." placeholder:"TOPIC"`
}

// Run prints the help of the topic, without one the overview.
func (c *helpCmd) Run(app *kong.Kong, std stdio) error {
	if len(c.Topic) == 1 && c.Topic[0] == natsTopic {
		return printNATSHelp(std)
	}
	node, err := commandNode(app, c.Topic)
	if err != nil {
		return err
	}
	command, err := kong.Trace(app, c.Topic)
	if err != nil {
		return err
	}
	for command.Selected() != nil && command.Selected() != node { // a default command, which was not named
		command.Path = command.Path[:len(command.Path)-1]
	}
	return printHelp(helpOptions(), command)
}

// commandNode returns the node of a command by the words of its name.
func commandNode(app *kong.Kong, words []string) (*kong.Node, error) {
	node := app.Model.Node
	for _, word := range words {
		child := childOf(node, word)
		if child == nil {
			return nil, unknownTopic(node, word)
		}
		node = child
	}
	return node, nil
}

// childOf returns the command of a node by its name, nil without one.
func childOf(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}

func unknownTopic(node *kong.Node, word string) error {
	names := []string{natsTopic}
	for _, child := range node.Children {
		if !child.Hidden {
			names = append(names, child.Name)
		}
	}
	hint := ""
	if nearest, distance := suggest.Nearest(word, names); distance <= len(word)/2 {
		hint = fmt.Sprintf("did you mean %q? ", nearest)
	}
	return fmt.Errorf("no help for %q; %sacsbridge help lists the commands", word, hint)
}

// natsHelp has the flags that the commands that read the stream have in common.
type natsHelp struct{ config.Reader }

// Help is the text above the flags.
func (natsHelp) Help() string {
	return `Each is also a variable, ACSBRIDGE_NATS_URL for --nats-url, where the variables of the nats command ` +
		`are known too, such as NATS_URL; and a key of the YAML file of serve that --config names. A flag wins over ` +
		`a variable, a variable over the file. A password or a token is not a flag: it is in a file, or in ` +
		`NATS_PASSWORD or NATS_TOKEN.`
}

// printNATSHelp prints the flags that are left out of the commands' help.
func printNATSHelp(std stdio) error {
	parser, err := newParser(&natsHelp{}, std, kong.Description("Flags of the commands that read the stream, for its connection to NATS."))
	if err != nil {
		return err
	}
	command, err := kong.Trace(parser, nil)
	if err != nil {
		return err
	}
	options := helpOptions()
	options.NoAppSummary = true
	if err := kong.DefaultHelpPrinter(options, command); err != nil {
		return err
	}
	return printExamples(std.out, natsTopic)
}

func helpOptions() kong.HelpOptions {
	return kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: helpWidth, ValueFormatter: flagHelp}
}

// printHelp prints the help of the application or of a command. What is the same in
// many commands is named and left out.
func printHelp(options kong.HelpOptions, command *kong.Context) error {
	selected := command.Selected()
	out := command.Stdout
	if selected == nil {
		options.FlagsLast = true
		if err := kong.DefaultHelpPrinter(options, command); err != nil {
			return err
		}
		_, err := fmt.Fprintln(out, `Run "acsbridge help nats" for the flags of the connection to NATS.`)
		return err
	}
	reads, checks := false, selected.Name == "check"
	for _, flags := range selected.AllFlags(false) {
		for _, flag := range flags {
			ofReader := flag.Group != nil && flag.Group.Key == config.ReaderGroup
			ofServe := checks && flag.Group != nil && flag.Group.Key != config.CheckGroup
			flag.Hidden = flag.Hidden || ofReader || ofServe || flag.Name == "version"
			reads = reads || ofReader
		}
	}
	if err := kong.DefaultHelpPrinter(options, command); err != nil {
		return err
	}
	if reads {
		fmt.Fprintf(out, "\n%s see acsbridge help nats\n", config.ReaderGroup)
	}
	if checks {
		fmt.Fprint(out, "\nSettings of serve: see acsbridge help serve\n")
	}
	return printExamples(out, selected.Path())
}

// printExamples prints the examples of a command or a topic.
func printExamples(out io.Writer, of string) error {
	if _, err := fmt.Fprintln(out, "\nExamples:"); err != nil {
		return err
	}
	for _, example := range examples[of] {
		if _, err := fmt.Fprintf(out, "  # %s\n  %s\n", example.what, example.command); err != nil {
			return err
		}
	}
	return nil
}

// flagHelp is the help text of one flag. The default follows it, since
// the place holder names the kind of value.
func flagHelp(value *kong.Value) string {
	switch {
	case !value.HasDefault || value.Default == "":
		return value.Help
	case len(value.Default) > maxShownDefault:
		return value.Help + " Its default is long: serve --print-config shows it."
	}
	return strings.TrimSpace(fmt.Sprintf("%s Default: %s", value.Help, value.Default))
}
