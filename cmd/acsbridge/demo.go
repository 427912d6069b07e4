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
	"strings"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/bridge"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/running"
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
	Keep            bool    `help:"With --calls: go on running after the summary, so that the calls can be looked at, until Ctrl-C."`
	Rate            float64 `help:"Calls that start in a second." default:"2" placeholder:"N"`
	Speed           float64 `help:"Divide the pauses between the events of a call." default:"4" placeholder:"FACTOR"`
	Listen          string  `help:"Address for callbacks. A taken port is replaced by a free one, here as below." default:"127.0.0.1:8080" placeholder:"ADDR"`
	AdminListen     string  `help:"Address of the console, /livez, /readyz and /metrics." default:"${admin}" placeholder:"ADDR"`
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
		`Other commands without connection flags, such as trigger, tail, calls and listen, find the demo. ` +
		`The exit status is 0 only when every number is what it must be; events that you send are counted apart. ` +
		`The environment and configuration files of serve have no influence.`
}

// Run plays until the calls are done or ctx ends.
func (c *demoCmd) Run(ctx context.Context, std stdio) (err error) {
	if c.Calls < 0 || c.Rate <= 0 || c.Speed <= 0 {
		return errors.New("demo: --calls must not be negative, --rate and --speed must be positive")
	}
	if c.Keep && c.Calls == 0 {
		return errors.New("demo: --keep is for --calls; without that the demo runs until Ctrl-C")
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
	std      stdio
	dir      string
	key      string // file of the signing key
	issuer   *acstest.Issuer
	settings *config.Settings
	bridge   *bridge.Bridge
	found    bool // commands without flags find this demo

	mu sync.Mutex // guards std.out against mixed lines
}

// makeDir makes the data directory and returns what removes it again.
func (d *demo) makeDir() (remove func() error, err error) {
	if d.DataDir != "" {
		// The state file and the commands that it suggests are for any directory.
		if d.dir, err = filepath.Abs(d.DataDir); err != nil {
			return nil, err
		}
	} else {
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
	if err := d.issuer.Start(); err != nil {
		return fmt.Errorf("%w (another address is chosen with --issuer-listen)", err)
	}
	return nil
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
	var err error
	if d.settings, err = config.Parse(args, nil, d.std.err); err != nil {
		return err
	}
	logger := view.NewLogger(d.std.err, d.settings.LogFormat, d.settings.LogLevel)
	d.bridge, err = bridge.New(d.settings, thisBuild().Version, logger)
	return err
}

// free returns the address, or one with a free port when its port is taken.
func (d *demo) free(what, address string) string {
	l, err := net.Listen("tcp", address)
	if err == nil {
		_ = l.Close()
		return address
	}
	if _, invalid := net.ResolveTCPAddr("tcp", address); invalid != nil {
		return address // what uses it says what is wrong with it
	}
	host, _, _ := net.SplitHostPort(address)
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
	defer d.publishState()()
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
		Target: target, Signer: d.issuer, KeepIDs: true,
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
	if err := d.sumUp(load, &report, reader); err != nil {
		return err
	}
	if d.Keep && ctx.Err() == nil {
		d.printf("\nThe demo goes on until Ctrl-C.\n%s", d.suggestions())
		<-ctx.Done()
	}
	d.printf("\n%s", d.whereItIs())
	return nil
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

// publishState lets commands without flags find this demo, and returns what ends that.
func (d *demo) publishState() (remove func()) {
	state := stateOf(d.bridge, d.settings, "demo")
	state.Issuer, state.Key = d.issuer.Name(), d.key
	if d.CallbackKeyFile != "" {
		state.CallbackKeyFile, _ = filepath.Abs(d.CallbackKeyFile) // which fails with the directory of the process alone
	}
	remove, err := running.Publish(state)
	if err != nil {
		fmt.Fprintf(d.std.err, "other commands do not find this demo and need flags: %v\n", err)
		return func() {}
	}
	d.found = true
	return remove
}

// announce says what runs where and, when there is time for it, what to try next.
func (d *demo) announce() {
	d.printf(`acsbridge demo: a simulated ACS calls %s
keys     %s
NATS     %s
metrics  %s/metrics
console  %s
data     %s

`, d.bridge.CallbackURL(), d.issuer.Name(), d.bridge.EmbeddedURL(), d.bridge.AdminURL(), d.bridge.ConsoleURL(), d.dir)
	if d.Calls == 0 {
		d.printf("%s\n", d.suggestions())
	}
	if !d.Quiet {
		d.printf("%s\n", demoLine("TIME", "SEQ", "CALL", "EVENT", "DETAILS"))
	}
}

// suggestions are commands to try while the demo runs.
func (d *demo) suggestions() string {
	command, read, send, grid := thisCommand(), "", "", ""
	if !d.found {
		signed := fmt.Sprintf(" --issuer %s --key %s", d.issuer.Name(), d.key)
		read = " --nats-url " + d.bridge.EmbeddedURL()
		send = " --target " + d.bridge.CallbackURL() + signed + callbackKeyFlag(d.CallbackKeyFile)
		grid = " --eventgrid-target " + d.bridge.EventGridURL() + signed
	}
	return fmt.Sprintf(`Try in another terminal:
  %[1]s calls%[2]s
  %[1]s tail --follow%[2]s
  %[1]s trigger CallConnected%[3]s
  %[1]s trigger IncomingCall%[4]s
  nats --server %[5]s stream view ACS
  %[1]s health --admin %[6]s
And in a browser:
  %[6]s/calls
`, command, read, send, grid, d.bridge.EmbeddedURL(), d.bridge.AdminURL())
}

// whereItIs says at the end what is left, and how to have more.
func (d *demo) whereItIs() string {
	again := fmt.Sprintf("  %s demo --data-dir ", thisCommand())
	switch {
	case d.DataDir != "":
		return fmt.Sprintf("The events stay in\n  %s\nA demo goes on with them:\n%s%s\n", d.dir, again, d.dir)
	case d.Calls > 0 && !d.Keep:
		return fmt.Sprintf("The events are removed. To look at them, keep the demo running:\n  %s demo --calls %d --keep\n", thisCommand(), d.Calls)
	}
	return fmt.Sprintf("The events are removed, with\n  %s\nTo keep them:\n%sDIR\n", d.dir, again)
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
	"expired":        "expired token",
	"forged":         "forged signature",
	"wrong-audience": "wrong audience",
	"day-long":       "24-hour token",
}

// observe prints the answers to hostile and repeated callbacks; good ones show
// up as events.
func (d *demo) observe(a acstest.Attempt) {
	if d.Quiet || a.Kind == "good" {
		return
	}
	what := fmt.Sprintf("answered %d: %s", a.Status, cmp.Or(hostile[a.Kind], a.Kind))
	switch {
	case a.Kind == "duplicate" && a.Status == http.StatusOK:
		what = "duplicate, stored once"
	case a.Status == http.StatusUnauthorized:
		what = "refused: " + cmp.Or(hostile[a.Kind], a.Kind)
	}
	call := idsOf(a.First).CallConnectionID
	d.printf("%s\n", demoLine(time.Now().Format(time.TimeOnly), "-", call[:min(len(call), shortID)], a.Type, what))
}

// Widths of what the demo prints.
const (
	demoColumns = 80 // of a terminal
	shortID     = 8  // characters of an id, as people cut commit ids
)

// demoLine is a line of the demo's table, within its columns.
func demoLine(at, sequence, call, event, details string) string {
	line := []rune(fmt.Sprintf("%-8s  %5s  %-*s  %-26s  %s", at, sequence, shortID, call, event, details))
	if len(line) > demoColumns {
		line = append(line[:demoColumns-1], '…')
	}
	return strings.TrimRight(string(line), " ")
}

func (d *demo) printf(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.std.out, format, args...)
}
