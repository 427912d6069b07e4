package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/secretfile"
)

// How often simulate says how far it is: a terminal's line is written over, a
// log keeps each of them.
const (
	progressOnTerminal = time.Second
	progressInLog      = 10 * time.Second
)

// simulateCmd plays Azure Communication Services: a key server, and calls
// whose callbacks it posts to a bridge.
type simulateCmd struct {
	Target          string `help:"Callback URL of the bridge." default:"http://127.0.0.1:8080/callbacks" placeholder:"URL"`
	CallbackKeyFile string `help:"File with the callback key that the bridge asks for." placeholder:"FILE"`
	EventGridTarget string `name:"eventgrid-target" help:"URL of the bridge's route for Event Grid, with its key if it asks for one. None means that calls begin without Event Grid." placeholder:"URL"`
	Audience        string `help:"Audience of the tokens: the immutable resource ID of the resource to play. None means the demo resource's." placeholder:"GUID"`

	IssuerListen string `help:"Address of the simulated key server." default:"127.0.0.1:8081" placeholder:"ADDR"`
	IssuerName   string `help:"Issuer of the tokens. None means the key server's URL." placeholder:"URL"`
	Key          string `help:"File of the signing key, made when absent. None means a new key for this process alone." placeholder:"FILE"`

	Calls       int           `help:"Stop after so many calls. 0 means at Ctrl-C." placeholder:"N"`
	Duration    time.Duration `help:"Start no call after this time. 0 means no end." placeholder:"TIME"`
	Rate        float64       `help:"Calls that start in a second. 0 means as many as --concurrency allows." default:"2" placeholder:"N"`
	Concurrency int           `help:"Calls in progress at a time." default:"64" placeholder:"N"`
	Speed       float64       `help:"Divide the pauses between the events of a call." default:"1" placeholder:"FACTOR"`
	Flow        []string      `help:"Kind of call to play, in turn; can be repeated. None means all but hostile. An unknown name lists them." placeholder:"NAME"`

	Chaos      float64 `help:"Share of callbacks, 0 to 1, that meet each kind of fault: duplicates, reordering, delay, batching, forgeries." placeholder:"SHARE"`
	Duplicates float64 `help:"Share of callbacks that come twice. 0 means --chaos." placeholder:"SHARE"`
	Reorder    float64 `help:"Share of callbacks that change places with the next. 0 means --chaos." placeholder:"SHARE"`
	Hostile    float64 `help:"Share of callbacks that are followed by one with a bad token. 0 means --chaos." placeholder:"SHARE"`
	Seed       uint64  `help:"Seed of the chaos, to have the same again. 0 means a random one." placeholder:"N"`

	// By default twice what a bridge may take for its start: simulate can be started
	// first, and its supervisor still sees when the bridge never starts.
	GiveUp time.Duration `help:"End with status 1 when no callback was answered for so long. 0 means never." default:"2m" placeholder:"TIME"`

	JSON bool `name:"json" help:"Print the report as one JSON object."`
}

// Run plays calls until their end or Ctrl-C, prints the report, and fails when
// a callback was not answered as it must be.
func (c *simulateCmd) Run(ctx context.Context, std stdio) error {
	load, err := c.load()
	if err != nil {
		return err
	}
	target, err := withCallbackKey(c.Target, c.CallbackKeyFile)
	if err != nil {
		return err
	}
	issuer, err := c.issuer(std.err)
	if err != nil {
		return err
	}
	defer issuer.Close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	timeout := answerTimeout{limit: c.GiveUp, target: c.Target, stop: stop}
	options := acstest.CallerOptions{Target: target, Signer: issuer, Audience: c.audience(), Observe: timeout.observe}
	if c.EventGridTarget != "" {
		options.EventGrid = &acstest.EventGridOptions{Target: c.EventGridTarget}
	}
	caller, err := acstest.NewCaller(options)
	if err != nil {
		return err
	}
	defer caller.Close()

	c.announce(std.err, issuer, load.Seed)
	stopProgress := showProgress(std.err, caller)
	err = caller.Run(ctx, load)
	stopProgress()
	if err != nil {
		return err
	}
	report := caller.Report()
	if err := c.print(std.out, &report); err != nil {
		return err
	}
	return cmp.Or(timeout.err(), report.Err())
}

// answerTimeout ends a simulation when nothing answers for the limit: the bridge may
// not come back, as for a container in the network of one that was started again.
type answerTimeout struct {
	limit  time.Duration // zero: none
	target string
	stop   context.CancelFunc

	mu    sync.Mutex
	since time.Time // of the first attempt after the last answer; zero after an answer
	fault error
}

// observe takes each attempt, from several goroutines at a time. Any answer is
// one, a refusal too.
func (s *answerTimeout) observe(a acstest.Attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case a.Status != 0:
		s.since = time.Time{}
		return
	case s.since.IsZero():
		s.since = a.Sent
	}
	if s.limit > 0 && s.fault == nil && time.Since(s.since) >= s.limit {
		s.fault = fmt.Errorf("nothing has answered at %s for %v: %w; start the bridge there, or name where it is with --target (--give-up says how long to try)",
			s.target, s.limit, a.Err)
		s.stop()
	}
}

// err returns why the simulation was ended, nil when it was not.
func (s *answerTimeout) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

func (c *simulateCmd) audience() string { return cmp.Or(c.Audience, acstest.DemoAudience) }

// load is what the flags ask for.
func (c *simulateCmd) load() (acstest.Load, error) {
	flows, err := acstest.NamedFlows(c.Flow...)
	if err != nil {
		return acstest.Load{}, err
	}
	chaos := acstest.EvenChaos(c.Chaos)
	chaos.Duplicate = cmp.Or(c.Duplicates, c.Chaos)
	chaos.Reorder = cmp.Or(c.Reorder, c.Chaos)
	chaos.Hostile = cmp.Or(c.Hostile, c.Chaos)
	return acstest.Load{
		Flows:       flows,
		Calls:       c.Calls,
		Duration:    c.Duration,
		Rate:        c.Rate,
		Concurrency: c.Concurrency,
		Speed:       c.Speed,
		EventGrid:   c.EventGridTarget != "",
		Chaos:       chaos,
		Seed:        cmp.Or(c.Seed, rand.Uint64()),
	}, nil
}

// issuer starts the key server.
func (c *simulateCmd) issuer(log io.Writer) (*acstest.Issuer, error) {
	options := acstest.IssuerOptions{
		Addr:   c.IssuerListen,
		Issuer: c.IssuerName,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	}
	if c.Key != "" {
		key, err := acstest.LoadOrCreateKey(c.Key)
		if err != nil {
			return nil, err
		}
		options.Key = key
	}
	issuer, err := acstest.NewIssuer(options)
	if err != nil {
		return nil, err
	}
	if err := issuer.Start(); err != nil {
		return nil, fmt.Errorf("%w (another one is chosen with --issuer-listen)", err)
	}
	return issuer, nil
}

// announce prints the settings with which a bridge trusts the simulation, and how to send
// single events beside it.
func (c *simulateCmd) announce(w io.Writer, issuer *acstest.Issuer, seed uint64) {
	fmt.Fprintf(w, "playing Azure Communication Services towards %s, seed %d\n", c.Target, seed)
	fmt.Fprintf(w, "a bridge trusts it when started with\n  --resource %s=%s --issuer %s --oidc-config-url %s\n",
		acstest.DemoResource, c.audience(), issuer.Name(), issuer.MetadataURL())
	if c.EventGridTarget != "" {
		fmt.Fprintf(w, "  --eventgrid-tenant %s --eventgrid-audience %s --eventgrid-source %s=%s\n  --eventgrid-issuer %s --eventgrid-oidc-config-url %s\n",
			acstest.DemoTenant, acstest.DemoApplication, acstest.DemoResource, acstest.DemoTopic, issuer.Name(), issuer.MetadataURL())
	}
	if c.Key != "" {
		fmt.Fprintf(w, "one event more is sent with\n  acsbridge trigger CallConnected --target %s --key %s --issuer %s --audience %s%s\n",
			c.Target, c.Key, issuer.Name(), c.audience(), callbackKeyFlag(c.CallbackKeyFile))
	}
}

func (c *simulateCmd) print(w io.Writer, report *acstest.Report) error {
	if c.JSON {
		return json.NewEncoder(w).Encode(report)
	}
	_, err := report.WriteTo(w)
	return err
}

// showProgress writes a line about the caller now and then, until the returned
// function is called.
func showProgress(w io.Writer, caller *acstest.Caller) (stop func()) {
	interval, before, after := progressInLog, "", "\n"
	if view.IsTerminal(w) {
		interval, before, after = progressOnTerminal, "\r\x1b[K", "" // carriage return, erase the line
	}
	ticker := time.NewTicker(interval)
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-ticker.C:
				r := caller.Report()
				fmt.Fprintf(w, "%s%s, %s, %s, p99 %v%s",
					before, view.Plural(r.Calls, "call"), view.Plural(r.Callbacks, "callback"), view.Plural(r.Unexpected, "wrong answer"), r.Latency.P99.Round(100*time.Microsecond), after)
			case <-done:
				fmt.Fprint(w, before)
				return
			}
		}
	})
	return func() {
		ticker.Stop()
		close(done)
		watching.Wait()
	}
}

// withCallbackKey returns a callback URL with the key in the file added to its
// query, as an application gives it to ACS. No file means no key.
func withCallbackKey(target, file string) (string, error) {
	if file == "" {
		return target, nil
	}
	secret, err := secretfile.Read(file)
	if err == nil {
		err = ingest.CallbackKey{Name: "file", Secret: secret}.Check()
	}
	if err != nil {
		return "", fmt.Errorf("--callback-key-file: %w", err)
	}
	u, err := url.Parse(target)
	if err != nil {
		return "", fmt.Errorf("target %q is not an http URL, such as %s", target, defaultCallbackURL)
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += ingest.KeyParameter + "=" + secret
	return u.String(), nil
}

// callbackKeyFlag is the flag for a command that is suggested, with
// a space before it.
func callbackKeyFlag(file string) string {
	if file == "" {
		return ""
	}
	return " --callback-key-file " + file
}
