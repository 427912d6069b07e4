package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/bridge"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/datadir"
)

const (
	// demoStoredWithin bounds the wait for the last events of --calls to be stored
	// and printed.
	demoStoredWithin = 20 * time.Second
	// demoReady bounds the start: keys, stream, listeners.
	demoReady = 30 * time.Second
	// demoHostileEvery puts one hostile call among so many ordinary ones.
	demoHostileEvery = 3
)

// demoCmd is serve with an embedded NATS and a simulated ACS, on loopback.
type demoCmd struct {
	Calls           int     `help:"End after so many calls, with a summary. 0 means at Ctrl-C." placeholder:"N"`
	Rate            float64 `help:"Calls that start in a second." default:"2" placeholder:"N"`
	Speed           float64 `help:"Divide the pauses between the events of a call." default:"4" placeholder:"FACTOR"`
	Listen          string  `help:"Address for callbacks. A taken port is replaced by a free one, here as below." default:"127.0.0.1:8080" placeholder:"ADDR"`
	AdminListen     string  `help:"Address for /livez, /readyz and /metrics." default:"${admin}" placeholder:"ADDR"`
	NatsListen      string  `help:"Address of the embedded NATS server." default:"${natsListen}" placeholder:"ADDR"`
	IssuerAddr      string  `name:"issuer-listen" help:"Address of the simulated key server." default:"127.0.0.1:8081" placeholder:"ADDR"`
	CallbackKeyFile string  `help:"File with a callback key that the bridge asks for and the simulated ACS knows." placeholder:"FILE"`
	DataDir         string  `help:"Directory to keep. None means a temporary one that is removed at the end." placeholder:"DIR"`
	Quiet           bool    `help:"Print only the summary, not every event."`
}

// Help is the text between the summary and the flags of demo --help.
func (demoCmd) Help() string {
	return `Everything is real but the sender: callbacks are signed and come over HTTP, as do incoming calls by ` +
		`a simulated Event Grid, keys are fetched ` +
		`from a key server, events are journaled and stored in JetStream. Some calls are hostile: their ` +
		`expired, forged and misdirected callbacks are refused, and repeated ones are stored once. ` +
		`The exit status is 0 only when every number is what it must be. ` +
		`The environment and configuration files of serve have no influence.`
}

// Run plays until the calls are done or ctx ends.
func (c *demoCmd) Run(ctx context.Context, std stdio) (err error) {
	if c.Calls < 0 || c.Rate <= 0 || c.Speed <= 0 {
		return errors.New("demo: --calls must not be negative, --rate and --speed must be positive")
	}
	d := &demo{demoCmd: c, std: std}
	removeDir, err := d.makeDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeDir()) }()
	if err := d.startIssuer(); err != nil {
		return err
	}
	defer d.issuer.Close()
	if err := d.build(); err != nil {
		return err
	}

	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- d.bridge.Run(work) }()
	defer func() {
		stop()
		err = errors.Join(err, <-served)
	}()
	return d.play(ctx)
}

// demo is a demonstration that runs.
type demo struct {
	*demoCmd
	std    stdio
	dir    string
	key    string // file of the signing key
	issuer *acstest.Issuer
	bridge *bridge.Bridge

	mu sync.Mutex // guards std.out against mixed lines
}

// makeDir makes the data directory and returns what removes it again.
func (d *demo) makeDir() (remove func() error, err error) {
	if d.dir = d.DataDir; d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "acsbridge-demo-"); err != nil {
			return nil, err
		}
		return func() error { return os.RemoveAll(d.dir) }, nil
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	unlock, err := datadir.Lock(d.dir)
	return unlock, err
}

// startIssuer starts the key server. Its key is a file, so that trigger can
// sign with it too.
func (d *demo) startIssuer() error {
	d.key = filepath.Join(d.dir, "demo-key.pem")
	key, err := acstest.LoadOrCreateKey(d.key)
	if err != nil {
		return err
	}
	d.issuer, err = acstest.NewIssuer(acstest.IssuerOptions{Addr: d.free("key server", d.IssuerAddr), Key: key})
	if err != nil {
		return err
	}
	return d.issuer.Start()
}

// build makes the bridge, with the settings of serve.
func (d *demo) build() error {
	args := []string{
		"--listen=" + d.free("callbacks", d.Listen),
		"--admin-listen=" + d.free("admin", d.AdminListen),
		"--nats-listen=" + d.free("NATS", d.NatsListen),
		"--resource=" + acstest.DemoResource + "=" + acstest.DemoAudience,
		"--issuer=" + d.issuer.Name(), "--oidc-config-url=" + d.issuer.MetadataURL(),
		// The demo prints the refusals of its hostile callbacks, so the log need not.
		"--data-dir=" + d.dir, "--log-level=error",
		// One key server plays both: what keeps the routes apart is in the tokens.
		"--eventgrid-issuer=" + d.issuer.Name(), "--eventgrid-oidc-config-url=" + d.issuer.MetadataURL(),
		"--eventgrid-tenant=" + acstest.DemoTenant, "--eventgrid-audience=" + acstest.DemoApplication,
		"--eventgrid-source=" + acstest.DemoResource + "=" + acstest.DemoTopic,
	}
	if d.CallbackKeyFile != "" {
		args = append(args, "--callback-key=demo="+d.CallbackKeyFile)
	}
	settings, err := config.Parse(args, nil, d.std.err)
	if err != nil {
		return err
	}
	logger := view.NewLogger(d.std.err, settings.LogFormat, settings.LogLevel)
	d.bridge, err = bridge.New(settings, thisBuild().Version, logger)
	return err
}

// free returns the address, or one with a free port when its port is taken.
func (d *demo) free(what, address string) string {
	l, err := net.Listen("tcp", address)
	if err == nil {
		_ = l.Close()
		return address
	}
	host, _, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		return address // serve's own check says what is wrong with it
	}
	if l, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
		return address
	}
	defer l.Close()
	fmt.Fprintf(d.std.err, "%s: %s is taken, using %s\n", what, address, l.Addr())
	return l.Addr().String()
}

// play runs the calls and a reader of the stream, then prints the summary.
func (d *demo) play(ctx context.Context) error {
	if err := d.awaitReady(ctx); err != nil {
		return err
	}
	d.announce()
	reader, err := newDemoReader(ctx, d)
	if err != nil {
		return err
	}
	defer reader.stop()
	target, err := withCallbackKey(d.bridge.CallbackURL(), d.CallbackKeyFile)
	if err != nil {
		return err
	}
	caller, err := acstest.NewCaller(acstest.CallerOptions{
		Target: target, Signer: d.issuer, KeepIDs: d.Calls > 0,
		EventGrid: &acstest.EventGridOptions{Target: d.bridge.EventGridURL()},
		Observe:   d.observe,
	})
	if err != nil {
		return err
	}
	defer caller.Close()
	if err := caller.Subscribe(ctx); err != nil {
		return err
	}
	load, err := d.load()
	if err != nil {
		return err
	}
	if err := caller.Run(ctx, load); err != nil {
		return err
	}
	report := caller.Report()
	return d.sumUp(load, &report, reader)
}

// load mixes every kind of call, hostile ones among them.
func (d *demo) load() (acstest.Load, error) {
	ordinary, err := acstest.NamedFlows()
	if err != nil {
		return acstest.Load{}, err
	}
	hostile, err := acstest.NamedFlows("hostile")
	if err != nil {
		return acstest.Load{}, err
	}
	var flows []*acstest.Flow
	for i, f := range ordinary {
		flows = append(flows, f)
		if (i+1)%demoHostileEvery == 2 { // the second call already is one
			flows = append(flows, hostile...)
		}
	}
	return acstest.Load{Flows: flows, Calls: d.Calls, Rate: d.Rate, Speed: d.Speed, EventGrid: true}, nil
}

// awaitReady waits for keys and stream, as a load balancer would.
func (d *demo) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoReady)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		missing := d.bridge.Pending()
		if missing == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("demo: not ready: %w", errors.Join(ctx.Err(), missing))
		}
	}
}

// announce says what runs where and what to try next.
func (d *demo) announce() {
	nats, callbacks, admin := d.bridge.EmbeddedURL(), d.bridge.CallbackURL(), d.bridge.AdminURL()
	signed := fmt.Sprintf("--issuer %s --key %s", d.issuer.Name(), d.key)
	fmt.Fprintf(d.std.out, `acsbridge demo: a simulated ACS calls %s
keys at %s, NATS at %s, metrics at %s/metrics

Try in another terminal:
  nats --server %s stream view ACS
`, callbacks, d.issuer.Name(), nats, admin, nats)
	fmt.Fprintf(d.std.out, `  %s trigger CallConnected --target %s %s%s
  %s trigger IncomingCall --eventgrid-target %s %s
  curl -s %s/readyz

`, thisCommand(), callbacks, signed, callbackKeyFlag(d.CallbackKeyFile), thisCommand(), d.bridge.EventGridURL(), signed, admin)
}

// thisCommand returns the command line with which the user runs acsbridge.
func thisCommand() string {
	// go run builds into a temporary directory that is gone afterwards.
	if path := cmp.Or(os.Args[0], "acsbridge"); filepath.Base(filepath.Dir(path)) != "exe" {
		return path
	}
	return "go run ./cmd/acsbridge"
}

// hostile says in words what is wrong with the demo's bad callbacks.
var hostile = map[string]string{
	"expired":        "its token has expired",
	"forged":         "its token is signed with another key",
	"wrong-audience": "its token is for another resource",
	"day-long":       "its token lives a day, as a WebSocket's does",
}

// observe prints the answers to hostile and repeated callbacks; good ones show
// up as events.
func (d *demo) observe(a acstest.Attempt) {
	if d.Quiet || a.Kind == "good" {
		return
	}
	what := fmt.Sprintf("%d, refused: %s", a.Status, cmp.Or(hostile[a.Kind], a.Kind))
	switch {
	case a.Kind == "duplicate" && a.Status == http.StatusOK:
		what = "200, duplicate: delivered twice, stored once"
	case a.Status == http.StatusOK:
		what = "200, although " + cmp.Or(hostile[a.Kind], a.Kind)
	}
	d.printf("%s  %-24s %s\n", time.Now().Format(view.Clock), a.Type, what)
}

func (d *demo) printf(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.std.out, format, args...)
}
