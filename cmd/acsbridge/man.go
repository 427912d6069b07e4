package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"
)

// manCmd writes manual pages.
type manCmd struct {
	Command []string `arg:"" optional:"" help:"Command whose page is printed. None means acsbridge(1)." placeholder:"COMMAND"`
	Dir     string   `help:"Write all pages into this directory instead, which is made when absent." placeholder:"DIR"`
}

// Run prints a page, or writes all of them.
func (c *manCmd) Run(app *kong.Kong, std stdio) error {
	if c.Dir != "" {
		if err := os.MkdirAll(c.Dir, 0o755); err != nil {
			return err
		}
		return writePages(c.Dir, app.Model.Node)
	}
	node, err := commandNode(app, c.Command)
	if err != nil {
		return err
	}
	_, err = std.out.Write(manPage(node))
	return err
}

// writePages writes the pages of a node and of the commands below it.
func writePages(dir string, node *kong.Node) error {
	if node.Hidden {
		return nil
	}
	name := filepath.Join(dir, manName(node)+".1")
	if err := os.WriteFile(name, manPage(node), 0o644); err != nil {
		return err
	}
	for _, child := range node.Children {
		if err := writePages(dir, child); err != nil {
			return err
		}
	}
	return nil
}

// manName is the name of a node's page.
func manName(node *kong.Node) string { return strings.ReplaceAll(node.FullPath(), " ", "-") }

// manPage returns the page of a node in the macros of man(7).
func manPage(node *kong.Node) []byte {
	var page roff
	page.macro("TH", strings.ToUpper(manName(node)), "1", "", "acsbridge "+thisBuild().Version, "acsbridge")
	page.macro("nh") // no hyphens in names of flags
	page.macro("ad", "l")
	page.macro("SH", "NAME")
	name, summary := manName(node), strings.TrimSuffix(node.Help, ".")
	page.text(name + " - " + strings.ToLower(summary[:1]) + summary[1:])
	page.macro("SH", "SYNOPSIS")
	if node.Parent == nil {
		page.text(node.Name + " <command> [flags]")
	} else {
		page.text("acsbridge " + node.Summary())
	}
	if node.Detail != "" {
		page.macro("SH", "DESCRIPTION")
		page.text(node.Detail)
	}
	page.commands(node)
	if len(node.Positional) > 0 {
		page.macro("SH", "ARGUMENTS")
	}
	for _, argument := range node.Positional {
		page.tagged(argument.Summary(), flagHelp(argument))
	}
	page.flags(node)
	if list := examples[node.Path()]; len(list) > 0 {
		page.macro("SH", "EXAMPLES")
		for _, example := range list {
			page.tagged(example.what, "")
			page.literal(example.command)
		}
	}
	page.macro("SH", "EXIT STATUS")
	page.text("0 when the command did its job, 1 when it failed, 2 when the command line or the configuration is wrong, 3 when deliver got 410 Gone.")
	return page.Bytes()
}

// roff is a page that is being written.
type roff struct{ bytes.Buffer }

// commands lists the commands below a node, by their groups.
func (r *roff) commands(node *kong.Node) {
	if node.Leaf() {
		return
	}
	r.macro("SH", "COMMANDS")
	group := ""
	for _, child := range node.Children {
		if child.Hidden {
			continue
		}
		if child.Group != nil && child.Group.Title != group {
			group = child.Group.Title
			r.macro("SS", strings.TrimSuffix(group, ":"))
		}
		r.tagged(manName(child)+"(1)", child.Help)
	}
}

// flags lists the flags of a node, by their groups.
func (r *roff) flags(node *kong.Node) {
	r.macro("SH", "OPTIONS")
	group := ""
	for _, level := range node.AllFlags(true) {
		for _, flag := range level {
			if flag.Group != nil && flag.Group.Title != group {
				group = flag.Group.Title
				r.macro("SS", strings.TrimSuffix(group, ":"))
			}
			if flag.Name != "version" || node.Parent == nil {
				r.tagged(flag.String(), flagHelp(flag.Value))
			}
		}
	}
}

// macro writes a request with its arguments.
func (r *roff) macro(name string, args ...string) {
	r.WriteString("." + name)
	for _, arg := range args {
		fmt.Fprintf(r, ` "%s"`, strings.ReplaceAll(roffEscape.Replace(arg), `"`, `\(dq`))
	}
	r.WriteByte('\n')
}

// text writes a paragraph.
func (r *roff) text(text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			r.WriteString(`\&`) // not a request
		}
		r.WriteString(roffEscape.Replace(line) + "\n")
	}
}

// tagged writes a paragraph with a term before it.
func (r *roff) tagged(term, text string) {
	r.macro("TP")
	fmt.Fprintf(r, "\\fB%s\\fR\n", roffEscape.Replace(term))
	r.text(text)
}

// literal writes lines as they are.
func (r *roff) literal(text string) {
	r.macro("EX")
	r.text(text)
	r.macro("EE")
}

// roffEscape keeps what is typed as it is: a plain - becomes a hyphen in the output.
var roffEscape = strings.NewReplacer(`\`, `\e`, `-`, `\-`, "…", `\[u2026]`, "→", `\(->`)
