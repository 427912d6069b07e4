package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/webhook"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
)

// listenCmd forwards new events to an application on a developer's machine.
type listenCmd struct {
	selectionFlags
	connectionFlag
	truncatedFlag
	Forward string `help:"URL to post each event to, such as http://localhost:7071/api/callbacks." required:"" placeholder:"URL"`

	signFlags `group:"Tokens of a simulator, for a URL that asks for one:"`
	config.Reader

	target replayPlan
}

// Validate reads the URL; kong calls it.
func (c *listenCmd) Validate() error { return c.target.setURL("--forward", c.Forward) }

const (
	// listenPosts is how many events are forwarded at a time; those of one call
	// come one after another.
	listenPosts = 16
	// listenGrace is how long posts in flight may take when listening ends.
	listenGrace = 2 * time.Second
)

// Help is the text between the summary and the flags of listen --help.
func (listenCmd) Help() string {
	return `Posts each new event once: a post that fails is shown and not repeated. ` +
		`On a terminal, r posts the last event again and q ends. Reads without a consumer; no service that consumes the ` +
		`stream notices. The nats-* settings are those of serve, also in its variables and its file.`
}

// listening is one run of the command.
type listening struct {
	std   stdio
	posts *resend.Posts

	mu      sync.Mutex // guards the output and what follows
	printer view.Printer
	last    *replay.StoredMessage
}

// Run forwards until Ctrl-C or q.
func (c *listenCmd) Run(ctx context.Context, std stdio) error {
	l := &listening{std: std, printer: view.Printer{Color: view.ColorFor(std.out), Now: time.Now()}}
	token, stop, err := c.signer(std.err)
	if err != nil {
		return err
	}
	defer stop()
	l.posts = &resend.Posts{URL: c.target.url, Attempts: 1, Token: token, PostTruncated: c.PostTruncated, OnPost: l.posted, Client: webhook.Client{Transport: webhook.NewTransport(listenPosts)}}

	keys, err := openKeys(&l.std)
	if err != nil {
		return err
	}
	defer keys.close()
	reader, link, err := c.Open(ctx, l.std.err)
	if err != nil {
		return unlessEnded(err)
	}
	defer link.Close()
	selection := replay.Selection{Resource: c.Resource, Type: c.Type, Call: c.Call, Follow: true}
	selection.Since = replay.Position{Time: time.Now()}
	if info, err := reader.Info(ctx); err == nil { // the clocks need not agree
		selection.Since = replay.Position{Sequence: info.State.LastSeq + 1}
	}
	fmt.Fprintf(l.std.err, "new events are posted to %s; %s\n", c.target.target, keys.hint())

	ctx, end := context.WithCancel(ctx)
	defer end()
	go keys.read(end, func() { l.again(ctx) })
	sender := resend.Sender{Target: l.posts, MaxInFlight: listenPosts, IgnoreRejections: true}
	done := make(chan error, 1)
	go func() { done <- sender.Send(ctx, reader.Read(ctx, selection)) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		select {
		case err = <-done:
		case <-time.After(listenGrace):
		}
	}
	progress := sender.Progress()
	fmt.Fprintf(l.std.err, "%s forwarded%s\n", view.Plural(progress.Accepted, "event"), notAccepted(progress))
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// posted prints the outcome of a post.
func (l *listening) posted(m *replay.StoredMessage, a webhook.Answer, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = m
	line := l.printer.AppendMessage(nil, m)
	line = append(line[:len(line)-1], "  "...)
	switch {
	case err != nil:
		line = append(line, l.printer.Color.Paint(view.Red, fmt.Sprintf("not posted: %v", err))...)
	case !a.OK():
		line = append(line, l.printer.Color.Paint(view.Red, a.String())...)
	default:
		line = append(line, l.printer.Color.Paint(view.Green, fmt.Sprint(a.Status))...)
	}
	line = fmt.Appendf(line, " in %v\n", a.Latency.Round(100*time.Microsecond))
	_, _ = l.std.out.Write(line) // the reader of the output may be gone
}

// again posts the last event once more.
func (l *listening) again(ctx context.Context) {
	l.mu.Lock()
	m := l.last
	l.mu.Unlock()
	if m == nil {
		fmt.Fprintln(l.std.err, "no event has come yet")
		return
	}
	fmt.Fprintln(l.std.err, "again:")
	go l.posts.Post(ctx, m)
}

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
