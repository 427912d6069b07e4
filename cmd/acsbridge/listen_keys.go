package main

import (
	"bytes"
	"io"
	"os"
	"sync"

	"golang.org/x/term"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
)

// keys are the keys of a terminal that is read one by one. The zero value has
// none.
type keys struct {
	input *os.File
	state *term.State // before
	once  sync.Once
}

// Keys that mean something. In raw mode the terminal makes no signal of Ctrl-C.
const (
	keyAgain     = 'r'
	keyQuit      = 'q'
	keyInterrupt = 3 // Ctrl-C
	keyEnd       = 4 // Ctrl-D
)

// openKeys puts the terminal into raw mode when input and output are a terminal. It
// changes std so that lines still begin at the left.
func openKeys(std *stdio) (*keys, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) || !view.IsTerminal(std.out) {
		return &keys{}, nil
	}
	state, err := term.MakeRaw(int(os.Stdin.Fd()))
	if err != nil {
		return nil, err
	}
	std.out, std.err = rawLines{std.out}, rawLines{std.err}
	return &keys{input: os.Stdin, state: state}, nil
}

// close gives the terminal back as it was.
func (k *keys) close() {
	if k.input != nil {
		k.once.Do(func() { _ = term.Restore(int(k.input.Fd()), k.state) })
	}
}

func (k *keys) hint() string {
	if k.input == nil {
		return "Ctrl-C ends"
	}
	return "r posts the last one again, q ends"
}

// read calls again and end as the keys are pressed, until the input ends.
func (k *keys) read(end, again func()) {
	if k.input == nil {
		return
	}
	var key [1]byte
	for {
		if _, err := io.ReadFull(k.input, key[:]); err != nil {
			end()
			return
		}
		switch key[0] {
		case keyAgain:
			again()
		case keyQuit, keyInterrupt, keyEnd:
			end()
		}
	}
}

// rawLines writes to a terminal in raw mode, where a line feed alone does not
// go back to the left.
type rawLines struct{ io.Writer }

func (w rawLines) Write(text []byte) (int, error) {
	_, err := w.Writer.Write(bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")))
	if err != nil {
		return 0, err
	}
	return len(text), nil
}
