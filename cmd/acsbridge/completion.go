package main

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/acsbridge/acsbridge/schemas"
)

// completionScripts hand each shell what [completeCmd] prints.
//
//go:embed completion
var completionScripts embed.FS

// completionCmd prints a shell's script.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish,powershell" help:"bash, zsh, fish or powershell."`
}

// Help is the text between the summary and the examples of completion --help.
func (completionCmd) Help() string {
	return `The script asks this command for what can be typed, so it stays right when acsbridge is ` +
		`upgraded. The packages install it. In PowerShell: acsbridge completion powershell | Out-String | Invoke-Expression`
}

// Run prints the script.
func (c *completionCmd) Run(std stdio) error {
	script, err := completionScripts.ReadFile("completion/acsbridge." + c.Shell)
	if err != nil {
		return err
	}
	_, err = std.out.Write(script)
	return err
}

// completeCmd prints what can be typed for the current word: a line each, a tab before
// its description. The scripts of [completionCmd] call it. Where it prints nothing, they
// offer files.
type completeCmd struct {
	Current string   `help:"The word to complete, as far as it is typed."`
	Words   []string `arg:"" optional:"" help:"The words before it, without acsbridge."`
}

// Run prints the candidates.
func (c *completeCmd) Run(app *kong.Kong, std stdio) error {
	for _, candidate := range complete(app.Model.Node, c.Words, c.Current) {
		if _, err := fmt.Fprintf(std.out, "%s\t%s\n", candidate.word, candidate.what); err != nil {
			return err
		}
	}
	return nil
}

// candidate is a word that can be typed.
type candidate struct{ word, what string }

// complete returns what can follow words, as far as current is typed.
func complete(root *kong.Node, words []string, current string) (candidates []candidate) {
	typed := readWords(root, words)
	name, value, hasValue := strings.Cut(current, "=")
	switch {
	case typed.flag != nil:
		candidates = valuesOf(typed.flag.Value, "")
	case strings.HasPrefix(current, "--") && hasValue:
		if flag := flagOf(typed.node, name); flag != nil {
			candidates = valuesOf(flag.Value, strings.TrimSuffix(current, value))
		}
	case strings.HasPrefix(current, "-"):
		candidates = typed.flags()
	case len(typed.node.Children) > 0:
		candidates = commandsOf(typed.node)
	case typed.positional != nil:
		candidates = valuesOf(typed.positional, "")
		if typed.node.Name == "help" {
			candidates = append(commandsOf(root), candidate{natsTopic, "flags of the connection to NATS"})
		}
	case current == "":
		candidates = typed.flags()
	}
	return slices.DeleteFunc(candidates, func(c candidate) bool { return !strings.HasPrefix(c.word, current) })
}

// typedWords is what words on a command line mean.
type typedWords struct {
	node       *kong.Node
	flag       *kong.Flag // whose value comes next; nil without one
	positional *kong.Value
	given      map[string]bool // names of flags
}

func readWords(root *kong.Node, words []string) typedWords {
	t := typedWords{node: root, given: map[string]bool{}}
	position := 0
	for _, word := range words {
		name, _, hasValue := strings.Cut(word, "=")
		flag := flagOf(t.node, name)
		switch {
		case t.flag != nil:
			t.flag = nil // word is its value
		case flag != nil:
			t.given[flag.Name] = true
			if !hasValue && !flag.IsBool() {
				t.flag = flag
			}
		case strings.HasPrefix(word, "-"):
		case childOf(t.node, word) != nil:
			t.node, position = childOf(t.node, word), 0
		case position < len(t.node.Positional) && !t.node.Positional[position].IsCumulative():
			position++
		}
	}
	if position < len(t.node.Positional) {
		t.positional = t.node.Positional[position]
	}
	return t
}

// flags returns the flags that can be given, at all or once more.
func (t *typedWords) flags() (candidates []candidate) {
	for _, level := range t.node.AllFlags(true) {
		for _, flag := range level {
			if !t.given[flag.Name] || flag.IsCumulative() {
				candidates = append(candidates, candidate{"--" + flag.Name, firstSentence(flag.Help)})
			}
		}
	}
	return candidates
}

// flagOf returns the flag of a node that is written --name or -n, nil without one.
func flagOf(node *kong.Node, written string) *kong.Flag {
	for _, level := range node.AllFlags(true) {
		for _, flag := range level {
			if written == "--"+flag.Name || flag.Short != 0 && written == "-"+string(flag.Short) {
				return flag
			}
		}
	}
	return nil
}

func commandsOf(node *kong.Node) (candidates []candidate) {
	for _, child := range node.Children {
		if !child.Hidden {
			candidates = append(candidates, candidate{child.Name, child.Help})
		}
	}
	return candidates
}

// valuesOf returns the values that are known for a flag or an argument, each behind
// prefix. Its place holder names them, or their kind.
func valuesOf(value *kong.Value, prefix string) (candidates []candidate) {
	placeHolder := value.Tag.PlaceHolder
	switch {
	case value.Enum != "":
		for _, word := range value.EnumSlice() {
			candidates = append(candidates, candidate{word: prefix + word})
		}
	case placeHolder == "TYPE":
		for _, event := range schemas.Types() {
			candidates = append(candidates, candidate{prefix + event.Name, event.Describe().When})
		}
	case strings.Contains(placeHolder, "|"):
		for word := range strings.SplitSeq(placeHolder, "|") {
			candidates = append(candidates, candidate{word: prefix + word})
		}
	}
	return candidates
}

// firstSentence returns the beginning of a text, for one line beside a word.
func firstSentence(text string) string {
	first, _, _ := strings.Cut(strings.ReplaceAll(text, "\n", " "), ". ")
	return strings.TrimSuffix(first, ".")
}
