package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// The types here take any text. kong gives up at the first value that it
// cannot decode; these keep what is wrong with it as a fault instead, so that
// [settings.problems] can name everything that is wrong in one go.

// faulty is a value that remembers what is wrong with its text; "" is nothing.
type faulty interface{ fault() string }

// duration is a time.Duration as [time.ParseDuration] reads it, never negative.
type duration struct {
	time.Duration
	text, bad string
}

// UnmarshalText never fails; see fault.
func (d *duration) UnmarshalText(text []byte) error {
	*d = duration{text: string(text)}
	parsed, err := time.ParseDuration(d.text)
	switch {
	case err != nil:
		d.bad = fmt.Sprintf("%q is no duration; write it like 250ms, 30s or 72h", d.text)
	case parsed < 0:
		d.bad = fmt.Sprintf("%s is negative", d.text)
	default:
		d.Duration = parsed
	}
	return nil
}

func (d duration) fault() string  { return d.bad }
func (d duration) String() string { return d.text }

// size is a number of bytes with an optional unit of [sizeUnits].
type size struct {
	Bytes     int64
	text, bad string
}

// sizeUnits are the units of a size. Binary ones only: a kB of 1000 bytes next
// to a KiB invites mistakes.
var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1},
}

// UnmarshalText never fails; see fault.
func (s *size) UnmarshalText(text []byte) error {
	*s = size{text: string(text)}
	for _, unit := range sizeUnits {
		digits, found := strings.CutSuffix(s.text, unit.suffix)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/unit.bytes {
			break
		}
		s.Bytes = n * unit.bytes
		return nil
	}
	s.bad = fmt.Sprintf("%q is no size; write a whole number with B, KiB, MiB, GiB or TiB, like 512MiB", s.text)
	return nil
}

func (s size) fault() string  { return s.bad }
func (s size) String() string { return s.text }

// count is a whole number.
type count struct {
	N         int
	text, bad string
}

// UnmarshalText never fails; see fault.
func (c *count) UnmarshalText(text []byte) error {
	*c = count{text: string(text)}
	n, err := strconv.Atoi(c.text)
	if err != nil {
		c.bad = fmt.Sprintf("%q is no whole number", c.text)
		return nil
	}
	c.N = n
	return nil
}

func (c count) fault() string  { return c.bad }
func (c count) String() string { return c.text }

// toggle is a flag that needs no value: --name or --name=false.
type toggle struct {
	On  bool
	bad string
}

// IsBool tells kong that the flag needs no value.
func (toggle) IsBool() bool { return true }

// Decode takes the value after "=", if there is one. It never fails; see fault.
func (t *toggle) Decode(ctx *kong.DecodeContext) error {
	*t = toggle{On: true}
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	text := ctx.Scan.Pop().String()
	on, err := strconv.ParseBool(text)
	t.On = on
	if err != nil {
		t.bad = fmt.Sprintf("%q is neither true nor false", text)
	}
	return nil
}

func (t toggle) fault() string  { return t.bad }
func (t toggle) String() string { return strconv.FormatBool(t.On) }

// secretMask stands for a secret wherever one would be printed.
const secretMask = "********"

// secret is text that no print shows.
type secret struct{ text string }

// Decode takes the next word. kong's own error for a word that starts with a
// dash repeats the word, which may be the secret.
func (s *secret) Decode(ctx *kong.DecodeContext) error {
	token := ctx.Scan.Pop()
	if !token.IsValue() {
		return errors.New("needs a value; put one that starts with a dash behind an equals sign")
	}
	s.text = token.String()
	return nil
}

// Format writes the mask for every verb of package fmt, and nothing for an
// absent secret. It thereby covers slog's text form; encoding/json does not
// see the field.
func (s secret) Format(f fmt.State, _ rune) {
	if s.text != "" {
		io.WriteString(f, secretMask)
	}
}
