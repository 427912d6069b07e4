// Package bridge wires the rooms of serve together, and watches for slow failures such as expiry.
package bridge

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/console"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/ingest/edge"
	"github.com/acsbridge/acsbridge/internal/datadir"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/secretfile"
	"github.com/acsbridge/acsbridge/internal/tracing"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/publish/embedded"
	"github.com/acsbridge/acsbridge/verify"
)

// Bridge is the worker: its rooms, wired from the last to the first.
type Bridge struct {
	settings *config.Settings
	logger   *slog.Logger

	callbacks, admin net.Listener
	nats             *embedded.Server // nil with an external NATS
	link             *natsconn.Link
	publisher        *publish.Publisher
	verifier         *verify.Verifier
	gridVerifier     *verify.Verifier // nil when Event Grid needs no token
	handler          *ingest.Handler
	certificate      *edge.Certificate // nil for plain HTTP
	registry         *prometheus.Registry
	watch            *watch
	console          *console.Console  // nil when it may not be served
	consoleLink      *natsconn.Link    // nil without a login of the console
	changed          prometheus.Gauge  // settings
	traces           *tracing.Provider // nil without traces
	stopping         atomic.Bool
}

// New binds the listeners and builds the rooms. Neither NATS nor the key
// server need be there. Whatever it opened is closed when it fails.
func New(s *config.Settings, version string, logger *slog.Logger) (*Bridge, error) {
	b := &Bridge{settings: s, logger: logger, registry: prometheus.NewRegistry()}
	b.registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), BuildInfo(version))
	var err error
	if b.traces, err = tracing.New("acsbridge", version, logger); err != nil {
		return nil, err
	}
	steps := []func() error{b.listen, b.startNATS, b.openPublisher, b.makeVerifiers, b.makeHandler, b.openCertificate, b.makeWatch, b.makeConsole}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, errors.Join(secretfile.Explain(err), b.close())
		}
	}
	return b, nil
}

// listen binds first, so that a taken port is known before anything is opened.
func (b *Bridge) listen() (err error) {
	if b.callbacks, err = net.Listen("tcp", b.settings.Listen); err != nil {
		return fmt.Errorf("listen for callbacks: %w; another --listen?", err)
	}
	if b.admin, err = net.Listen("tcp", b.settings.AdminListen); err != nil {
		return fmt.Errorf("listen for operators: %w; another --admin-listen?", err)
	}
	return nil
}

// startNATS starts the embedded server when no other is configured.
func (b *Bridge) startNATS() (err error) {
	s := b.settings
	config := s.NATS()
	if s.EmbeddedNATS() {
		b.nats, err = embedded.Start(embedded.Options{
			Dir: filepath.Join(s.DataDir, "nats"), Listen: s.NatsListen, Logger: b.logger,
		})
		if errors.Is(err, embedded.ErrAddressTaken) {
			return fmt.Errorf("%w; if that is your NATS server, name it with --nats-url, else choose another --nats-listen", err)
		}
		if err != nil {
			return err
		}
		b.registry.MustRegister(b.nats.Collector())
		config.InProcess = b.nats
	}
	b.link, err = natsconn.Connect(config, b.logger)
	return err
}

func (b *Bridge) openPublisher() (err error) {
	opts := b.settings.Publish()
	opts.Link, opts.Logger, opts.Registerer = b.link, b.logger, b.registry
	opts.Tracer = b.traces.Tracer("github.com/acsbridge/acsbridge/publish")
	if opts.Dir != "" {
		datadir.Restrict(opts.Dir)
	}
	if b.nats != nil {
		opts.KeepAcked = 2 * embedded.SyncInterval
		opts.Created = embedded.SyncFiles
	}
	b.publisher, err = publish.Open(opts)
	return err
}

// makeVerifiers makes one for callbacks, and one for Event Grid if its tokens are asked for.
func (b *Bridge) makeVerifiers() (err error) {
	profile := func(name string) prometheus.Registerer {
		return prometheus.WrapRegistererWith(prometheus.Labels{"profile": name}, b.registry)
	}
	callbacks := b.settings.Callbacks()
	callbacks.Logger, callbacks.Registerer = b.logger, profile("callbacks")
	if b.verifier, err = verify.New(callbacks); err != nil {
		return err
	}
	grid := b.settings.EventGrid()
	if grid.Entra == nil {
		return nil
	}
	grid.Logger, grid.Registerer = b.logger.With("profile", "eventgrid"), profile("eventgrid")
	b.gridVerifier, err = verify.New(grid)
	return err
}

func (b *Bridge) makeHandler() (err error) {
	config := b.settings.Ingest()
	config.Verifier, config.Publisher = b.verifier, b.publisher
	config.Logger, config.Registerer = b.logger, b.registry
	config.Tracer = b.traces.Tracer("github.com/acsbridge/acsbridge/ingest")
	if b.gridVerifier != nil {
		config.EventGrid.Verifier = b.gridVerifier
	}
	b.handler, err = ingest.New(config)
	return err
}

// openCertificate reads the certificate for callbacks over TLS.
func (b *Bridge) openCertificate() (err error) {
	if b.settings.TLSCert == "" {
		return nil
	}
	b.certificate, err = edge.OpenCertificate(b.settings.TLSCert, b.settings.TLSKey, b.logger, b.registry)
	if err != nil {
		return fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	return nil
}

// Run serves until ctx ends, then stops from the first room to the last.
func (b *Bridge) Run(ctx context.Context) (err error) {
	var tlsConfig *tls.Config
	if b.certificate != nil {
		tlsConfig = b.certificate.TLS()
	}
	server := b.handler.Server(tlsConfig)
	admin := b.operators().Server()

	// The rooms outlive ctx: what has been accepted is still finished.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	var rooms sync.WaitGroup
	rooms.Go(func() { _ = b.verifier.Run(work) })
	if b.gridVerifier != nil {
		rooms.Go(func() { _ = b.gridVerifier.Run(work) })
	}
	b.watch.check(work)
	rooms.Go(func() { b.watch.run(work) })
	rooms.Go(func() { b.compareStream(work) })
	rooms.Go(func() { b.publisher.Run(work) })
	if b.console != nil {
		rooms.Go(func() { b.console.Run(work) })
	}
	failed := make(chan error, 2)
	go func() { failed <- serve(server, b.handler.LimitListener(b.callbacks), tlsConfig != nil) }()
	go func() { failed <- serve(admin, LimitAdmin(b.admin), false) }()
	b.logger.Info("acsbridge is running", "callbacks", b.CallbackURL(), "admin", b.AdminURL(), "nats", b.natsURL(), "journal", b.settings.Journal, "data", b.settings.DataDir)
	b.notify("READY=1")

	select {
	case <-ctx.Done():
		b.notify("STOPPING=1")
		b.shutDown(server)
	case err = <-failed:
	}
	stopWork()
	rooms.Wait()
	_ = admin.Close()
	_ = server.Close()
	return errors.Join(err, b.close())
}

func serve(s *http.Server, l net.Listener, tls bool) (err error) {
	if tls {
		err = s.ServeTLS(l, "", "")
	} else {
		err = s.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// shutDown gives the load balancer time to notice, finishes the requests in work and
// gives the forwarder the rest of the time. What is not in the stream then
// stays in the journal for the next start.
func (b *Bridge) shutDown(server *http.Server) {
	s := b.settings
	b.logger.Info("stopping: a second signal ends at once", "delay_seconds", s.ShutdownDelay.Seconds(), "timeout_seconds", s.ShutdownTimeout.Seconds())
	b.stopping.Store(true)
	b.handler.Stopping()
	time.Sleep(s.ShutdownDelay)
	ctx, cancel := context.WithTimeout(context.Background(), s.ShutdownTimeout)
	defer cancel()
	b.handler.Drain()
	if err := server.Shutdown(ctx); err != nil {
		b.logger.Warn("requests were cut off", "error", err)
	}
	if !b.publisher.Status().Sending {
		cancel() // the stream takes no records: waiting would not help
	}
	if left := b.publisher.Drain(ctx); left > 0 {
		b.logger.Warn("records stay in the journal for the next start", "records", left)
	}
}

// close closes what newBridge opened, from the first room to the last.
func (b *Bridge) close() error {
	var errs []error
	for _, l := range []net.Listener{b.callbacks, b.admin} {
		if l != nil {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if b.consoleLink != nil {
		b.consoleLink.Close()
	}
	if b.publisher != nil {
		errs = append(errs, b.publisher.Close())
	}
	if b.link != nil {
		b.link.Close()
	}
	if b.nats != nil {
		errs = append(errs, b.nats.Close())
	}
	b.traces.Close()
	return errors.Join(errs...)
}

// CallbackURL is where callbacks go, as seen from this machine.
func (b *Bridge) CallbackURL() string { return b.url(b.settings.CallbackPath) }

// EventGridURL is where deliveries of Event Grid go.
func (b *Bridge) EventGridURL() string { return b.url(b.settings.GridPath) }

func (b *Bridge) url(path string) string {
	scheme := "http"
	if b.settings.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + b.callbacks.Addr().String() + path
}

// AdminURL is where the admin listener is.
func (b *Bridge) AdminURL() string { return "http://" + b.admin.Addr().String() }

// EmbeddedURL is where clients reach the embedded NATS server.
func (b *Bridge) EmbeddedURL() string { return b.nats.ClientURL() }

// Pending is nil when the keys are there and records go into the stream, and says
// what is missing otherwise.
func (b *Bridge) Pending() error {
	if keys := b.verifier.Keys(); keys.Held == 0 {
		return fmt.Errorf("no keys yet: %w", cmp.Or(keys.LastError, errNotYet))
	}
	if b.gridVerifier != nil && b.gridVerifier.Keys().Held == 0 {
		return fmt.Errorf("no keys for Event Grid yet: %w", cmp.Or(b.gridVerifier.Keys().LastError, errNotYet))
	}
	if s := b.publisher.Status(); !s.Sending {
		return fmt.Errorf("no stream yet: %w", cmp.Or(s.Cause(), errNotYet))
	}
	return nil
}

var errNotYet = errors.New("not asked for yet")

// Drain waits until all records are in the stream, or ctx ends, and returns how many
// are not.
func (b *Bridge) Drain(ctx context.Context) uint64 { return b.publisher.Drain(ctx) }

// natsURL names the server without the credentials that a URL can hold.
func (b *Bridge) natsURL() string {
	switch {
	case b.nats != nil:
		return "embedded, " + b.nats.ClientURL()
	case b.settings.NatsLogin.Context != "":
		return "context " + b.settings.NatsLogin.Context
	}
	return withoutCredentials(b.settings.NatsURL)
}
