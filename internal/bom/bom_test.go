package bom_test

import (
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/internal/bom"
)

func TestTrim(t *testing.T) {
	for text, want := range map[string]string{ // the text, or the encoding that the error names
		"":                         "",
		"plain":                    "plain",
		"\xef\xbb\xbfplain":        "plain",
		"\xef\xbb\xbf\xef\xbb\xbf": "\xef\xbb\xbf", // the second one is text
		"\xef\xbb":                 "\xef\xbb",
		"a\xef\xbb\xbf":            "a\xef\xbb\xbf",
		"\xff\xfe{\x00}\x00":       "UTF-16",
		"\xfe\xff\x00{\x00}":       "UTF-16",
		"\xff\xfe\x00\x00{\x00":    "UTF-32",
		"\x00\x00\xfe\xff\x00":     "UTF-32",
	} {
		got, err := bom.Trim([]byte(text))
		if err != nil {
			if !strings.HasPrefix(want, "UTF-") || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v", text, err)
			}
		} else if string(got) != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
