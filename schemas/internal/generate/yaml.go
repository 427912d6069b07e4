package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// writeYAML writes objects, lists, texts and literals as YAML in block style.
// Texts that YAML could take for something else are quoted as in JSON, which is
// a part of YAML 1.2.
func writeYAML(b *bytes.Buffer, value any, indent string) error {
	switch v := value.(type) {
	case object:
		for _, m := range v {
			fmt.Fprintf(b, "%s%s:", indent, scalar(m.name))
			if err := writeInner(b, m.value, indent+"  "); err != nil {
				return err
			}
		}
		return nil
	case []any:
		for _, element := range v {
			var inner bytes.Buffer
			if err := writeInner(&inner, element, indent+"  "); err != nil {
				return err
			}
			// The first member of an object stands beside the dash.
			text := strings.TrimPrefix(inner.String(), "\n"+indent+"  ")
			fmt.Fprintf(b, "%s- %s", indent, strings.TrimPrefix(text, " "))
		}
		return nil
	}
	return fmt.Errorf("%T is neither an object nor a list", value)
}

// writeInner writes what stands behind a colon or a dash, with its end of line.
func writeInner(b *bytes.Buffer, value any, indent string) error {
	switch v := value.(type) {
	case object:
		if len(v) == 0 {
			b.WriteString(" {}\n")
			return nil
		}
		b.WriteByte('\n')
		return writeYAML(b, v, indent)
	case []any:
		if len(v) == 0 {
			b.WriteString(" []\n")
			return nil
		}
		b.WriteByte('\n')
		return writeYAML(b, v, indent)
	case string:
		b.WriteString(" " + scalar(v) + "\n")
		return nil
	case bool, nil, json.Number:
		text, err := json.Marshal(v)
		b.WriteString(" " + string(text) + "\n")
		return err
	}
	return fmt.Errorf("%T has no form in YAML", value)
}

// plainText matches what is a text in YAML without quotes.
var plainText = regexp.MustCompile(`^[A-Za-z/$][A-Za-z0-9 ,.()/$_-]*$`)

func scalar(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
	default:
		if plainText.MatchString(s) && !strings.HasSuffix(s, " ") {
			return s
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // a text always encodes
	}
	return strings.TrimSuffix(b.String(), "\n")
}
