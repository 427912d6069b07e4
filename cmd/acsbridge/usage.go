package main

import (
	"regexp"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
)

// What kong says of a command line, for which it has no types.
var (
	missingValue    = regexp.MustCompile(`^(--[\w-]+): (expected \w+ value but got "EOL" \(<EOL>\)|missing value, expecting .*)$`)
	flagAsValue     = regexp.MustCompile(`^(--[\w-]+): expected \w+ value but got "(-[^"]*)" \(.*$`)
	enumValue       = regexp.MustCompile(`^(--[\w-]+|<[\w-]+>) must be one of (.*) but got (".*")$`)
	missingArgument = regexp.MustCompile(`^expected "((?:<[\w-]+> ?)+)"$`)
	missingCommand  = regexp.MustCompile(`^expected one of (".*)$`)
	shortWithValue  = regexp.MustCompile(`^unknown flag -=.*$`)
	argumentName    = regexp.MustCompile(`<([\w-]+)>`)
)

// usageError is an error of kong with a text of ours.
type usageError struct {
	error
	text string
}

func (e usageError) Error() string { return e.text }

func (e usageError) Unwrap() error { return e.error }

// plainUsage returns an error about the command line in words that need no knowledge of
// parsers.
func plainUsage(err *kong.ParseError) string {
	text := err.Error()
	command := "acsbridge"
	if node := err.Context.Selected(); node != nil {
		command = node.FullPath()
	}
	upper := func(name string) string { return strings.ToUpper(strings.Trim(name, "<>")) }
	switch {
	case missingValue.MatchString(text):
		flag := missingValue.FindStringSubmatch(text)[1]
		text = flag + " needs a value: " + flag + "=" + placeHolder(err.Context, flag)
	case flagAsValue.MatchString(text):
		found := flagAsValue.FindStringSubmatch(text)
		text = found[1] + " needs a value before " + found[2] + ": " + found[1] + "=" + placeHolder(err.Context, found[1])
	case enumValue.MatchString(text):
		found := enumValue.FindStringSubmatch(text)
		text = found[1] + ": " + found[3] + " is not one of " + strings.ReplaceAll(strings.ReplaceAll(found[2], `"`, ""), ",", ", ")
	case missingArgument.MatchString(text):
		names := argumentName.ReplaceAllStringFunc(missingArgument.FindStringSubmatch(text)[1], upper)
		text = names + " is missing: " + command + " " + names
	case missingCommand.MatchString(text):
		text = "name a command: " + command + " " + strings.ReplaceAll(strings.ReplaceAll(missingCommand.FindStringSubmatch(text)[1], `"`, ""), ", ", ", or ")
	case shortWithValue.MatchString(text):
		text = "a short flag has no =; leave it out, or write the long flag"
	}
	return argumentName.ReplaceAllStringFunc(config.PlainError(text), upper)
}

// placeHolder returns the word for the value of a flag in the help text.
func placeHolder(c *kong.Context, flag string) string {
	for _, f := range c.Flags() {
		if "--"+f.Name == flag && f.PlaceHolder != "" {
			return f.PlaceHolder
		}
	}
	return "VALUE"
}
