package main

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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/net/netutil"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/ingest/edge"
	"github.com/acsbridge/acsbridge/internal/secretfile"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/publish/embedded"
	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// bridge is the worker: its rooms, wired from the last to the first.
type bridge struct {
	settings *settings
	logger   *slog.Logger

	callbacks, admin net.Listener
	nats             *embedded.Server // nil with an external NATS
	link             *publish.Link
	publisher        *publish.Publisher
	verifier         *verify.Verifier
	gridVerifier     *verify.Verifier // nil when Event Grid needs no token
	handler          *ingest.Handler
	certificate      *edge.Certificate // nil for plain HTTP
	registry         *prometheus.Registry
	watch            *watch
	changed          prometheus.Gauge // settings
	stopping         atomic.Bool
}

// newBridge binds the listeners and builds the rooms. Neither NATS nor the key
// server need be there. Whatever it opened is closed when it fails.
func newBridge(s *settings, logger *slog.Logger) (*bridge, error) {
	b := &bridge{settings: s, logger: logger, registry: prometheus.NewRegistry()}
	b.registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo())
	steps := []func() error{b.listen, b.startNATS, b.openPublisher, b.makeVerifier, b.makeHandler, b.openCertificate, b.makeWatch}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, errors.Join(secretfile.Explain(err), b.close())
		}
	}
	return b, nil
}

// listen binds first, so that a taken port is known before anything is opened.
func (b *bridge) listen() (err error) {
	if b.callbacks, err = net.Listen("tcp", b.settings.Listen); err != nil {
		return fmt.Errorf("listen for callbacks: %w; another --listen?", err)
	}
	if b.admin, err = net.Listen("tcp", b.settings.AdminListen); err != nil {
		return fmt.Errorf("listen for operators: %w; another --admin-listen?", err)
	}
	return nil
}

// startNATS starts the embedded server when no other is configured.
func (b *bridge) startNATS() (err error) {
	s := b.settings
	config := s.connection()
	if s.embeddedNATS() {
		b.nats, err = embedded.Start(embedded.Options{
			Dir: filepath.Join(s.DataDir, "nats"), Listen: s.NatsListen, Logger: b.logger,
		})
		if errors.Is(err, embedded.ErrAddressTaken) {
			return fmt.Errorf("%w; if that is your NATS server, name it with --nats-url, else choose another --nats-listen", err)
		}
		if err != nil {
			return err
		}
		config.InProcess = b.nats
	}
	b.link, err = publish.Connect(config, b.logger)
	return err
}

func (b *bridge) openPublisher() (err error) {
	s := b.settings
	opts := publish.Options{
		Link: b.link,
		Stream: publish.StreamConfig{
			Name: s.Stream, Prefix: s.SubjectPrefix, Replicas: s.StreamReplicas,
			MaxAge:   cmp.Or(s.StreamMaxAge, publish.NoMaxAge),
			MaxBytes: int64(s.StreamMaxBytes), Duplicates: s.StreamDuplicateWindow,
			Update: s.StreamUpdate,
		},
		Dir:     s.DataDir,
		Journal: journal.Options{MaxBytes: int64(s.JournalMaxBytes)},
		AckWait: cmp.Or(s.AckWait, publish.NoAckWait),
		Logger:  b.logger, Registerer: b.registry,
	}
	for _, resource := range s.resources() {
		opts.Resources = append(opts.Resources, resource.Name)
	}
	if s.gridSettings.on() { // what is of none of them is quarantined
		opts.Resources = append(opts.Resources, schemas.NoResource)
	}
	if s.Journal == "off" {
		opts.Dir = ""
	} else {
		restrictDataDir(s.DataDir)
	}
	if b.nats != nil {
		opts.KeepAcked = 2 * embedded.SyncInterval
		opts.Created = embedded.SyncFiles
	}
	b.publisher, err = publish.Open(opts)
	return err
}

func (b *bridge) makeVerifier() (err error) {
	s := b.settings
	config := verify.Config{
		Issuer: s.Issuer, MetadataURL: s.OIDCConfigURL,
		// A nanosecond for none: zero means a minute to verify.
		Leeway: cmp.Or(s.Leeway, 1), TokenReuse: verify.ReusePolicy(s.TokenReuse),
		Resources: s.resources(),
		Logger:    b.logger, Registerer: b.profile("callbacks"),
	}
	if b.verifier, err = verify.New(config); err != nil || s.grid.entra == nil {
		return err
	}
	b.gridVerifier, err = verify.New(verify.Config{
		Entra: s.grid.entra, MetadataURL: s.GridOIDC, Leeway: config.Leeway,
		Logger: b.logger.With("profile", "eventgrid"), Registerer: b.profile("eventgrid"),
	})
	return err
}

// profile takes the metrics of one of the verifiers.
func (b *bridge) profile(name string) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"profile": name}, b.registry)
}

// gridRoute is the route for Event Grid, nil when there is none.
func (b *bridge) gridRoute() *ingest.EventGrid {
	s := b.settings
	if !s.gridSettings.on() {
		return nil
	}
	route := &ingest.EventGrid{Path: s.GridPath, Keys: s.grid.keys, Sources: s.grid.sources}
	if b.gridVerifier != nil {
		route.Verifier = b.gridVerifier
	}
	return route
}

func (b *bridge) makeHandler() (err error) {
	b.handler, err = ingest.New(ingest.Config{
		Path: b.settings.CallbackPath, Verifier: b.verifier, Publisher: b.publisher,
		EventGrid:   b.gridRoute(),
		MaxInFlight: b.settings.MaxInFlight, MaxConnections: b.settings.MaxConnections,
		CallbackKeys: b.settings.callbackKeys,
		SourceRanges: b.settings.sourceRanges, TrustedProxies: b.settings.trustedProxies,
		Logger: b.logger, Registerer: b.registry,
	})
	return err
}

// openCertificate reads the certificate for callbacks over TLS.
func (b *bridge) openCertificate() (err error) {
	if b.settings.TLSCert == "" {
		return nil
	}
	b.certificate, err = edge.OpenCertificate(b.settings.TLSCert, b.settings.TLSKey, b.logger, b.registry)
	if err != nil {
		return fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	return nil
}

// run serves until ctx ends, then stops from the first room to the last.
func (b *bridge) run(ctx context.Context) (err error) {
	var tlsConfig *tls.Config
	if b.certificate != nil {
		tlsConfig = b.certificate.TLS()
	}
	server := b.handler.Server(tlsConfig)
	admin := b.adminServer()

	// The rooms outlive ctx: what has been accepted is still finished.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	var rooms sync.WaitGroup
	rooms.Go(func() { _ = b.verifier.Run(work) })
	if b.gridVerifier != nil {
		rooms.Go(func() { _ = b.gridVerifier.Run(work) })
	}
	b.watch.look(work)
	rooms.Go(func() { b.watch.run(work) })
	rooms.Go(func() { b.compareStream(work) })
	rooms.Go(func() { b.publisher.Run(work) })
	failed := make(chan error, 2)
	go func() { failed <- serve(server, b.handler.LimitListener(b.callbacks), tlsConfig != nil) }()
	go func() { failed <- serve(admin, netutil.LimitListener(b.admin, maxAdminConnections), false) }()
	b.logger.Info("acsbridge is running", "callbacks", b.callbackURL(), "admin", "http://"+b.admin.Addr().String(), "nats", b.natsURL(), "journal", b.settings.Journal, "data", b.settings.DataDir)
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

// notify tells the supervisor about a state, if it wants to know.
func (b *bridge) notify(state string) {
	if err := notify(state); err != nil {
		b.logger.Warn("systemd does not learn the state of the bridge: it ends the bridge when TimeoutStartSec is over, unless the unit has Type=exec",
			"state", state, "error", err)
	}
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

// shutDown lets the load balancer notice, finishes the requests under way and
// gives the forwarder the rest of the time. What is not in the stream then
// stays in the journal for the next start.
func (b *bridge) shutDown(server *http.Server) {
	s := b.settings
	b.logger.Info("stopping: a second signal ends at once", "delay", s.ShutdownDelay.String(), "timeout", s.ShutdownTimeout.String())
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
		cancel() // nobody takes records: waiting would not help
	}
	if left := b.publisher.Drain(ctx); left > 0 {
		b.logger.Warn("records stay in the journal for the next start", "records", left)
	}
}

// close closes what newBridge opened, from the first room to the last.
func (b *bridge) close() error {
	var errs []error
	for _, l := range []net.Listener{b.callbacks, b.admin} {
		if l != nil {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
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
	return errors.Join(errs...)
}

// callbackURL is where callbacks go, as seen from this machine.
func (b *bridge) callbackURL() string {
	scheme := "http"
	if b.settings.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + b.callbacks.Addr().String() + b.settings.CallbackPath
}

// gridURL is where deliveries of Event Grid go.
func (b *bridge) gridURL() string {
	return strings.TrimSuffix(b.callbackURL(), b.settings.CallbackPath) + b.settings.GridPath
}

// natsURL names the server without the credentials that a URL can hold.
func (b *bridge) natsURL() string {
	switch {
	case b.nats != nil:
		return "embedded, " + b.nats.ClientURL()
	case b.settings.NatsContext != "":
		return "context " + b.settings.NatsContext
	}
	return withoutCredentials(b.settings.NatsURL)
}
