package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/webhook"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

// listenCmd forwards new events to an application on a developer's machine.
type listenCmd struct {
	selectionFlags
	connectionFlag
	Forward          string `help:"URL to post each event to, such as http://localhost:7071/api/callbacks." required:"" placeholder:"URL"`
	ForwardEventGrid string `name:"forward-eventgrid" help:"URL to post the events of Event Grid to, such as IncomingCall, in its form. They are left out without." placeholder:"URL"`
	personalFlag
	postFlags
	config.Reader

	forward, eventGrid *url.URL
}

// Validate reads the URLs; kong calls it.
func (c *listenCmd) Validate() (err error) {
	if c.forward, err = parsePostURL("--forward", c.Forward); err != nil {
		return err
	}
	if c.ForwardEventGrid != "" {
		if c.eventGrid, err = parsePostURL("--forward-eventgrid", c.ForwardEventGrid); err != nil {
			return err
		}
	}
	return c.checkPost(true)
}

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
	command *listenCmd
	std     stdio
	posts   *resend.Posts

	mu      sync.Mutex // guards the output and what follows
	printer view.Printer
	last    *replay.StoredMessage
	leftOut int
}

// Run forwards until Ctrl-C or q.
func (c *listenCmd) Run(ctx context.Context, std stdio) error {
	l := &listening{command: c, std: std, printer: view.Printer{Color: view.ColorFor(std.out), Personal: c.ShowPII, Now: time.Now()}}
	posts, stop, err := c.posts(std.err, c.forward, c.eventGrid, listenPosts)
	if err != nil {
		return err
	}
	defer stop()
	l.posts, posts.Attempts, posts.OnPost = posts, 1, l.posted

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
	selection := replay.Selection{Resource: c.Resource, Types: c.Type, Call: c.Call, Follow: true}
	if err := known(ctx, reader, selection, l.std.err); err != nil {
		return unlessEnded(err)
	}
	selection.Since = replay.Position{Time: time.Now()}
	if info, err := reader.Info(ctx); err == nil { // the clocks need not agree
		selection.Since = replay.Position{Sequence: info.State.LastSeq + 1}
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	messages := reader.Read(ctx, selection)
	fmt.Fprintf(l.std.err, "new events are posted to %s\n(%s)\n", withoutQuery(c.forward), c.how())
	if c.eventGrid != nil {
		fmt.Fprintf(l.std.err, "those of Event Grid are posted to %s\n", withoutQuery(c.eventGrid))
	} else {
		fmt.Fprintln(l.std.err, "those of Event Grid are left out; --forward-eventgrid URL posts them")
	}
	fmt.Fprintln(l.std.err, keys.hint())

	if c.eventGrid == nil {
		messages = withoutEventGrid(messages, l.leaveOut)
	}
	go keys.read(end, func() { l.again(ctx) })
	sender := resend.Sender{Target: l.posts, MaxInFlight: listenPosts, IgnoreRejections: true}
	done := make(chan error, 1)
	go func() { done <- sender.Send(ctx, messages) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		select {
		case err = <-done:
		case <-time.After(listenGrace):
		}
	}
	progress := sender.Progress()
	l.mu.Lock()
	leftOut := ""
	if l.leftOut > 0 {
		leftOut = fmt.Sprintf(", %d of Event Grid left out", l.leftOut)
	}
	l.mu.Unlock()
	fmt.Fprintf(l.std.err, "%s forwarded%s%s\n", view.Plural(progress.Accepted, "event"), leftOut, notAccepted(progress))
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// posted prints the outcome of a post, with the URL unless the event was accepted.
func (l *listening) posted(m *replay.StoredMessage, a webhook.Answer, err error) {
	outcome, color := fmt.Sprint(a.Status), view.Green
	switch {
	case err != nil:
		outcome, color = fmt.Sprintf("not posted: %v", err), view.Red
	case !a.OK():
		outcome, color = fmt.Sprintf("%v from %s", a, l.url(m)), view.Red
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = m
	l.print(m, color, fmt.Sprintf(" in %v", a.Latency.Round(100*time.Microsecond)), outcome)
}

// leaveOut prints an event of Event Grid that is not posted.
func (l *listening) leaveOut(m *replay.StoredMessage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leftOut++
	l.print(m, view.Red, "", "left out: --forward-eventgrid URL posts events of Event Grid")
}

// print prints an event and what was done with it. The caller holds the lock.
func (l *listening) print(m *replay.StoredMessage, color, after, outcome string) {
	line := l.printer.AppendMessage(nil, m)
	line = append(line[:len(line)-1], "  "...)
	line = append(line, l.printer.Color.Paint(color, outcome)...)
	_, _ = l.std.out.Write(append(line, after+"\n"...)) // the reader of the output may be gone
}

// url is where an event is posted to, with what the callback added masked.
func (l *listening) url(m *replay.StoredMessage) string {
	if m.EventGrid() {
		return withoutQuery(l.posts.EventGrid)
	}
	text := withoutQuery(l.posts.URL)
	path, query := m.Header.Get(schemas.HeaderPath), m.Header.Get(schemas.HeaderQuery)
	switch {
	case !l.posts.AppendPath:
		return text
	case l.command.ShowPII:
		base := *l.posts.URL
		base.RawQuery = ""
		if u, err := webhook.Below(&base, path, query); err == nil {
			return view.Printable(u.String())
		}
		return text
	}
	if path != "" {
		text = strings.TrimSuffix(text, "/") + "/***"
	}
	if query != "" {
		text += "?***"
	}
	return text
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
