package config

import "regexp"

// plainTexts are what kong says of a value that it cannot read, and what is said
// instead. kong has no types for these errors.
var plainTexts = []struct {
	kong *regexp.Regexp
	text string
}{
	{regexp.MustCompile(`expected a valid \d+ bit int but got ("[^"]*")|expected an int but got ("[^"]*") \(\w+\)`), `$1$2 is not a whole number`},
	{regexp.MustCompile(`expected a valid \d+ bit uint but got ("[^"]*")`), `$1 is not a whole number of at least 0`},
	{regexp.MustCompile(`expected a float but got ("[^"]*") \(\w+\)`), `$1 is not a number`},
	{regexp.MustCompile(`expected duration but got ("[^"]*")(: time: .*)?`), `$1 is not a duration; write it like 500ms, 10s or 5m`},
	{regexp.MustCompile(`bool value must be true, 1, yes, false, 0 or no but got ("[^"]*")`), `$1 is neither true nor false`},
}

// PlainError returns an error of kong about a value in words that need no knowledge of
// parsers. Any other text comes back as it is.
func PlainError(text string) string {
	for _, plain := range plainTexts {
		text = plain.kong.ReplaceAllString(text, plain.text)
	}
	return text
}
