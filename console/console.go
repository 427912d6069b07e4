package console

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// Bounds of what the console does at a time, for all browsers together.
const (
	// maxPages is how many pages are made at a time; more are answered 503.
	maxPages = 32
	// maxReadings is how many of them read the stream, or dead letters; more wait, within pageTimeout.
	maxReadings = 2
	pageTimeout = 15 * time.Second
	// connectTimeout is how long a page waits for NATS while that is disconnected.
	connectTimeout = 3 * time.Second
	// maxForm bounds the body of a request.
	maxForm = 8 << 10
)

// Options are what a console shows, and to whom.
type Options struct {
	// Bridge is the bridge in this process; nil without one.
	Bridge Bridge
	// Reader reads the stream of events with the console's login. It is nil when the
	// process has none: then it has no pages about calls.
	Reader *replay.Reader
	// Token is the bearer token, and the word for the login form. Empty asks for none:
	// that is for loopback alone.
	Token string
	// ShowPII lets an operator see personal data of an event or a call, after a click.
	ShowPII bool
	// Write lets an operator send quarantined callbacks and dead letters again, and remove
	// them. Each time is in the log.
	Write bool
	// Decode reads the body of a callback, or of a delivery of Event Grid, as the bridge
	// does it; see [resend.Redrive].
	Decode func(grid bool, contentType string, body []byte) ([]schemas.Inbound, error)
	// Logger gets logins, and who looks at personal data. It must not be nil.
	Logger *slog.Logger
}

// Console serves the pages. It is safe for concurrent use.
type Console struct {
	Options
	access    access
	mux       *http.ServeMux
	history   history
	live      hub
	refreshes *rate.Limiter // of live pages
	pages     chan struct{} // semaphore of the pages that are made
	readings  chan struct{} // semaphore of their readings
	making    sync.Mutex    // held while the text of a page is made, so that pages use one processor
	lists     cache
	services  servicesCache

	letterChanges sync.Mutex // held while a dead-letter file is changed
}

// New returns a console. Its live parts need [Console.Run].
func New(o Options) *Console {
	c := &Console{
		Options: o, access: newAccess(o.Token, o.Logger), mux: http.NewServeMux(), live: newHub(o.Reader),
		refreshes: rate.NewLimiter(rate.Every(refreshInterval), 1), pages: make(chan struct{}, maxPages), readings: make(chan struct{}, maxReadings),
	}
	c.mux.HandleFunc("GET /assets/{name}", c.asset)
	c.mux.HandleFunc("GET /login", c.loginPage)
	c.mux.HandleFunc("POST /login", c.logIn)
	c.mux.HandleFunc("POST /logout", c.logOut)
	c.mux.HandleFunc("GET /live", c.liveEvents)
	for pattern, view := range map[string]view{
		"GET /{$}":                               c.nowPage,
		"GET /refusals":                          c.refusalsPage,
		"GET /calls":                             c.callsPage,
		"GET /calls/{id}":                        c.callPage,
		"POST /calls/{id}":                       c.callPage,
		"GET /events/{sequence}":                 c.eventPage,
		"POST /events/{sequence}":                c.eventPage,
		"GET /quarantine":                        c.itemsPage,
		"GET /quarantine/{number}":               c.itemPage,
		"POST /quarantine/{number}":              c.itemPage,
		"GET /deadletters":                       c.itemsPage,
		"GET /deadletters/{file}":                c.itemsPage,
		"GET /deadletters/{file}/{number}":       c.itemPage,
		"POST /deadletters/{file}/{number}":      c.itemPage,
		"GET /services":                          c.servicesPage,
		"GET /services/{service}/dead":           c.itemsPage,
		"GET /services/{service}/dead/{number}":  c.itemPage,
		"POST /services/{service}/dead/{number}": c.itemPage,
		"/":                                      func(*http.Request) (*page, error) { return nil, errNotFound },
	} {
		c.mux.HandleFunc(pattern, c.show(view))
	}
	return c
}

// Run keeps the history of the bridge and follows the stream for live pages, until ctx
// ends.
func (c *Console) Run(ctx context.Context) {
	if c.Bridge != nil {
		go c.history.run(ctx, c.Bridge)
	}
	c.live.run(ctx, c.Logger)
}

// view makes a page.
type view func(*http.Request) (*page, error)

// page is what a template shows.
type page struct {
	Title    string
	Template string   // of the content
	Content  any      // for it
	Commands []string // that show the same in a terminal
	Live     string   // address of the page's live events; empty when nothing changes
	Status   int      // of the answer; zero is 200

	Nav             []link
	LogOut, Private bool // whether there is a session to end; whether personal data is shown
}

type link struct {
	Href, Text string
	Current    bool
}

// Errors of views that have a status of their own.
var (
	errNotFound = errors.New("no such page")
	errNoReader = errors.New("this console has no login to NATS: give it one with --console-nats-creds, --console-nats-user, or another (docs/console.md)")
	errNoToken  = errors.New("a dead letter is shown to a login alone: set --console-token-file; any user of this host could read it here")
	errBusy     = errors.New("too many pages are asked for at a time; this one can be asked for again")
)

// show answers with a page.
func (c *Console) show(view view) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
		defer cancel()
		select {
		case c.pages <- struct{}{}:
			defer func() { <-c.pages }()
		default:
			w.Header().Set("Retry-After", "2")
			c.write(w, r, c.problem(errBusy))
			return
		}
		p, err := view(r.WithContext(ctx))
		if to, ok := errors.AsType[redirectError](err); ok {
			http.Redirect(w, r, string(to), http.StatusSeeOther)
			return
		}
		if err != nil {
			p = c.problem(err)
		}
		c.write(w, r, p)
	}
}

// read runs a reading of the stream within the limit.
func (c *Console) read(ctx context.Context, reading func(*replay.Reader) error) error {
	if err := c.connected(ctx); err != nil {
		return err
	}
	return c.limited(ctx, func() error {
		reader := *c.Reader
		reader.Index = c.live.currentIndex()
		return reading(&reader)
	})
}

// connected fails while there is no connection to NATS.
func (c *Console) connected(ctx context.Context) error {
	if c.Reader == nil {
		return errNoReader
	}
	within, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	_, err := c.Reader.JetStream(within)
	return err
}

// limited runs a reading of the stream or of files, when fewer than [maxReadings] run.
func (c *Console) limited(ctx context.Context, reading func() error) error {
	select {
	case c.readings <- struct{}{}:
		defer func() { <-c.readings }()
	case <-ctx.Done():
		return errBusy
	}
	return reading()
}

// problem is the page about an error. It does not repeat what the client sent.
func (c *Console) problem(err error) *page {
	p := &page{Title: "Error", Template: "problem", Status: http.StatusInternalServerError}
	text := err.Error()
	problem, disconnected := errors.AsType[*natsconn.DisconnectedError](err)
	switch {
	case errors.Is(err, errNotFound):
		p.Title, p.Status = "Not found", http.StatusNotFound
	case errors.Is(err, errNoReader):
		p.Title, p.Status = "No login to NATS", http.StatusNotFound
	case errors.Is(err, errNoToken):
		p.Title, p.Status = "No token", http.StatusForbidden
	case disconnected:
		p.Title, p.Status = "NATS is disconnected", http.StatusServiceUnavailable
		text = fmt.Sprintf("NATS is not connected: %v", cmp.Or(problem.Cause, problem.Ended))
	case errors.Is(err, errBusy):
		p.Title, p.Status = "Busy", http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded):
		p.Title, p.Status = "Busy", http.StatusServiceUnavailable
		text = "NATS did not answer in time, or there is too much to read: narrow the search, or use the command"
	case errors.Is(err, jetstream.ErrStreamNotFound):
		p.Title, p.Status = "No stream", http.StatusNotFound
	case isUsage(err):
		p.Title, p.Status = "Not understood", http.StatusBadRequest
	case errors.Is(err, context.Canceled): // the browser has left, and reads no answer
		p.Status = http.StatusServiceUnavailable
	default:
		c.Logger.Warn("the console cannot show a page", "error", err)
	}
	p.Content = text
	return p
}

// redirectError names the path of the view to see instead.
type redirectError string

func (e redirectError) Error() string { return "see " + string(e) }

// usageError is about what the client asked for.
type usageError struct{ error }

func isUsage(err error) bool {
	_, ok := errors.AsType[usageError](err)
	return ok
}

// write answers with a page, made whole before its first byte is sent.
func (c *Console) write(w http.ResponseWriter, r *http.Request, p *page) {
	p.Nav = c.nav(r)
	p.LogOut = c.Token != "" && p.Template != "login"
	text, err := c.text(p)
	if err != nil {
		c.Logger.Error("the console cannot make a page", "template", p.Template, "error", err)
		http.Error(w, "the page cannot be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if p.Status != 0 {
		w.WriteHeader(p.Status)
	}
	_, _ = w.Write(text)
}

// text makes the text of a page.
func (c *Console) text(p *page) ([]byte, error) {
	c.making.Lock()
	defer c.making.Unlock() // also after a panic, which ends its request only
	var text bytes.Buffer
	err := templates.ExecuteTemplate(&text, "layout", p)
	return text.Bytes(), err
}

// nav are the views that this console has.
func (c *Console) nav(r *http.Request) (list []link) {
	if r.URL.Path == "/login" {
		return nil
	}
	add := func(href, text string, current bool) { list = append(list, link{href, text, current}) }
	if c.Bridge != nil {
		add("/", "Now", r.URL.Path == "/")
		add("/refusals", "Refusals", r.URL.Path == "/refusals")
	}
	if c.Reader != nil {
		add("/calls", "Calls", r.URL.Path == "/calls" || strings.HasPrefix(r.URL.Path, "/calls/") || strings.HasPrefix(r.URL.Path, "/events/"))
		add("/quarantine", "Quarantine", strings.HasPrefix(r.URL.Path, "/quarantine"))
	}
	if c.Bridge != nil {
		add(lettersPath, "Dead letters", strings.HasPrefix(r.URL.Path, lettersPath))
	}
	if c.Reader != nil {
		add("/services", "Services", strings.HasPrefix(r.URL.Path, "/services"))
	}
	return list
}
