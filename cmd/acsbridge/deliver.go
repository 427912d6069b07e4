package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/bridge"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/bom"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/secretfile"
	"github.com/acsbridge/acsbridge/internal/tracing"
	"github.com/acsbridge/acsbridge/internal/webhook"
	"github.com/acsbridge/acsbridge/replay/resend"
)

// deliverCmd posts events to an application, as a service on package consume.
type deliverCmd struct {
	To            string   `help:"URL of the application, such as https://app.example.net/hook." required:"" placeholder:"URL"`
	Name          string   `help:"Name of the service. Its position, parked calls and dead letters are kept under it; replicas have the same." required:"" placeholder:"NAME"`
	Type          []string `help:"Only events of this type, such as CallConnected. Repeatable. None means all." placeholder:"TYPE"`
	Since         string   `help:"Where the first start begins: a duration before now such as 10m, a time such as 2026-03-01T14:30, or all. Without it: new events." placeholder:"POSITION"`
	ToEventGrid   string   `name:"to-eventgrid" help:"URL for the events of Event Grid, such as IncomingCall, in its form. They are left out without." placeholder:"URL"`
	AppendPath    bool     `help:"Add to the URL the path and the query that the callback had below the bridge's own. Without it every event is posted to exactly the URL."`
	PostTruncated bool     `help:"With --append-path, post also events whose path or query was cut at its bound, to what is left of it. They become dead letters without."`
	Stale         bool     `help:"Also post what comes too late: events of calls that are over, after an outage, and incoming calls that do not ring any more."`
	Replays       bool     `help:"Also post copies that acsbridge replay has sent with --into-live."`

	deliverSecurity `group:"Security:"`
	deliverAttempts `group:"Attempts:"`
	deliverService

	target, eventGrid *url.URL
	startAt           time.Time
	roots             *x509.CertPool
	signer            *webhook.Signer
}

// deliverService has [config.Service] under a name of its own, as kong needs it.
type deliverService struct{ config.Service }

type deliverSecurity struct {
	SecretFile       []string `help:"File with a secret of Standard Webhooks, whsec_… Repeatable: each one signs, so that the application can change from one to the next. The variable ACSBRIDGE_WEBHOOK_SECRET has them instead, separated by spaces." placeholder:"FILE"`
	InsecureUnsigned bool     `help:"Sign nothing. The application cannot tell then who posts to it."`
	AllowPrivate     bool     `help:"Allow loopback and private addresses, http:// to these alone, and a proxy of the environment."`
	CA               string   `name:"ca" help:"Certificate authorities (PEM) that sign the application's certificate. None means those of the system." placeholder:"FILE"`
}

type deliverAttempts struct {
	Timeout     time.Duration `help:"How long an answer may take, 1s to 5m." default:"15s" placeholder:"DURATION"`
	Concurrency int           `help:"Posts at a time in this replica, each of another call." default:"64" placeholder:"N"`
	FirstRetry  time.Duration `help:"Pause before an event is posted again. It doubles with each attempt, with jitter." default:"1s" placeholder:"DURATION"`
	LastRetry   time.Duration `help:"The longest such pause." default:"1m" placeholder:"DURATION"`
	MaxAttempts int           `help:"After so many attempts an event becomes a dead letter." default:"100" placeholder:"N"`
	MaxAge      time.Duration `help:"So long after its first attempt, too." default:"1h" placeholder:"DURATION"`
	Lease       time.Duration `help:"How long the calls of a replica that has died wait for another one, at least 3s. The same in all replicas." default:"15s" placeholder:"DURATION"`
}

const (
	minPostTimeout = time.Second
	maxPostTimeout = 5 * time.Minute
	// answerGrace is for what a handler does besides its post, which has a timeout itself.
	answerGrace = 5 * time.Second
)

// Help is the text between the summary and the flags of deliver --help.
func (deliverCmd) Help() string {
	return `Posts each event in a request of its own, as ACS would: one event of a call at a time, in order, until the ` +
		`application answers 2xx. Other answers park the call; what fails for too long becomes a dead letter. ` +
		`An answer 410 Gone ends the command with status 3. Up to 16 replicas share the work. ` +
		`The nats-* settings are those of serve, also in its variables and its file.`
}

// Validate checks the flags and reads the files that they name; kong calls it.
func (c *deliverCmd) Validate() (err error) {
	if c.To == "" || c.Name == "" {
		return errors.New("--to and --name are needed, such as --to https://app.example.net/hook --name crm")
	}
	if c.target, err = c.parseTarget("--to", c.To); err != nil {
		return err
	}
	if c.ToEventGrid != "" {
		if c.eventGrid, err = c.parseTarget("--to-eventgrid", c.ToEventGrid); err != nil {
			return err
		}
		if c.eventGrid.Scheme != c.target.Scheme {
			return errors.New("--to-eventgrid must begin like --to, both with https:// or both with http://")
		}
	}
	if c.PostTruncated && !c.AppendPath {
		return errors.New("--post-truncated is for --append-path; add that")
	}
	if c.startAt, err = parseStart(c.Since); err != nil {
		return err
	}
	if c.Timeout < minPostTimeout || c.Timeout > maxPostTimeout {
		return fmt.Errorf("--timeout must be from %v to %v", minPostTimeout, maxPostTimeout)
	}
	if c.Concurrency < 1 || c.MaxAttempts < 1 || c.MaxAge <= 0 || c.FirstRetry <= 0 || c.LastRetry < c.FirstRetry {
		return errors.New("--concurrency, --max-attempts, --max-age and --first-retry must be more than 0, and --last-retry at least --first-retry")
	}
	if c.CA != "" {
		pem, err := bom.ReadFile(c.CA)
		if err != nil {
			return fmt.Errorf("--ca: %w", secretfile.Explain(err))
		}
		if c.roots = x509.NewCertPool(); !c.roots.AppendCertsFromPEM(pem) {
			return fmt.Errorf("--ca: %s has no certificate in PEM form", c.CA)
		}
	}
	service := c.service(new(delivery).handle)
	if err := service.Check(); err != nil {
		return err
	}
	if err := c.readSecrets(); err != nil {
		return err
	}
	return c.CheckAdmin()
}

// parseTarget reads the URL of a flag.
func (c *deliverCmd) parseTarget(flag, text string) (*url.URL, error) {
	u, err := parsePostURL(flag, text)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "http" && !c.AllowPrivate {
		return nil, fmt.Errorf("%s: http:// is for loopback and private addresses; write https://, or add --allow-private", flag)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		if err := (webhook.Restricted{Private: c.AllowPrivate, Plaintext: u.Scheme == "http"}).Check(ip); err != nil {
			return nil, fmt.Errorf("%s: %w", flag, allowHint(err))
		}
	}
	return u, nil
}

// service is the configuration of the service, but for its log and metrics.
func (c *deliverCmd) service(handle consume.Handler[struct{}]) consume.Service[struct{}] {
	return consume.Service[struct{}]{
		Name: c.Name, Types: c.Type, Stream: c.Stream, Prefix: c.SubjectPrefix, StartAt: c.startAt,
		HandleStale: c.Stale, HandleReplays: c.Replays, Handle: handle,
		Concurrency: c.Concurrency, HandleTimeout: c.Timeout + answerGrace, ShutdownTimeout: c.Timeout + answerGrace,
		FirstRetry: c.FirstRetry, LastRetry: c.LastRetry, MaxAttempts: c.MaxAttempts, MaxAge: c.MaxAge, Lease: c.Lease,
	}
}

// rule says to which addresses posts may go.
func (c *deliverCmd) rule() webhook.Restricted {
	return webhook.Restricted{Private: c.AllowPrivate, Plaintext: c.target.Scheme == "http", Roots: c.roots}
}

// allowHint names the flag that allows an address.
func allowHint(err error) error {
	switch {
	case errors.Is(err, webhook.ErrPrivateAddress):
		return fmt.Errorf("%w; add --allow-private if the application is there", err)
	case errors.Is(err, webhook.ErrPublicPlaintext):
		return fmt.Errorf("%w; write https://", err)
	}
	return err
}

// readSecrets makes the signer.
func (c *deliverCmd) readSecrets() (err error) {
	secrets, where := strings.Fields(os.Getenv(config.WebhookSecret)), config.WebhookSecret
	switch {
	case c.InsecureUnsigned && len(secrets)+len(c.SecretFile) > 0:
		return fmt.Errorf("--insecure-unsigned conflicts with --secret-file and %s; keep one", config.WebhookSecret)
	case c.InsecureUnsigned:
		return nil
	case len(secrets) > 0 && len(c.SecretFile) > 0:
		return fmt.Errorf("--secret-file conflicts with %s; keep one", config.WebhookSecret)
	case len(secrets)+len(c.SecretFile) == 0:
		return errors.New("--secret-file is missing: posts are signed, so that the application can tell who posts to it; " +
			"make a file with: (umask 077; echo whsec_$(openssl rand -base64 32) > FILE), or set --insecure-unsigned")
	}
	for _, name := range c.SecretFile {
		secret, err := secretfile.Read(name)
		if err != nil {
			return fmt.Errorf("--secret-file: %w", err)
		}
		secrets, where = append(secrets, secret), "--secret-file"
	}
	if c.signer, err = webhook.NewSigner(secrets...); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	return nil
}

// delivery is one run of the command.
type delivery struct {
	*deliverCmd
	logger   *slog.Logger
	link     *natsconn.Link
	client   webhook.Client
	posts    resend.Posts // makes the requests
	pauses   backoff.Doubling
	metrics  *deliverMetrics
	receiver receiver
	end      context.CancelCauseFunc
	stopping atomic.Bool
}

// Run posts until ctx ends, or the application says that it is gone.
func (c *deliverCmd) Run(ctx context.Context, std stdio) error {
	d := &delivery{
		deliverCmd: c, logger: view.NewLogger(std.err, c.LogFormat, c.LogLevel), metrics: newDeliverMetrics(),
		posts:  resend.Posts{URL: c.target, EventGrid: c.eventGrid, AppendPath: c.AppendPath, PostTruncated: c.PostTruncated},
		pauses: backoff.Doubling{First: c.FirstRetry, Last: c.LastRetry},
		client: webhook.Client{
			Transport: c.rule().Transport(c.Concurrency), Timeout: c.Timeout, MaxRetryAfter: maxReceiverPause,
		},
	}
	traces, err := tracing.New("acsbridge-deliver", thisBuild().Version, d.logger)
	if err != nil {
		return err
	}
	defer traces.Close()
	traces.Install()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), bridge.BuildInfo(thisBuild().Version))
	d.metrics.register(registry)

	listener, err := net.Listen("tcp", c.AdminListen)
	if err != nil {
		return fmt.Errorf("listen for operators: %w; another --admin-listen?", err)
	}
	admin := (&bridge.Admin{
		Listen: c.AdminListen, Hosts: c.AdminHost, Token: c.AdminToken(), Registry: registry, Ready: d.ready, Logger: d.logger,
	}).Server()
	ctx, d.end = context.WithCancelCause(ctx)
	defer d.end(nil)
	go func() {
		if err := admin.Serve(bridge.LimitAdmin(listener)); !errors.Is(err, http.ErrServerClosed) {
			d.end(fmt.Errorf("listen for operators: %w", err))
		}
	}()
	defer admin.Close()
	context.AfterFunc(ctx, func() { d.stopping.Store(true) })

	if d.link, err = c.Connect(std.err, d.logger); err != nil {
		return err
	}
	defer d.link.Close()
	d.logger.Info("deliver is running", "name", c.Name, "to", c.target.Scheme+"://"+c.target.Host, "admin", "http://"+listener.Addr().String(), "signed", c.signer != nil)
	if err := d.consume(ctx, registry); err != nil {
		return err
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// consume runs the service, again whenever NATS has closed the connection for good.
func (d *delivery) consume(ctx context.Context, registry *prometheus.Registry) error {
	service := d.service(d.handle)
	service.Logger, service.Registerer = d.logger, registry
	for {
		js, err := d.link.JetStream(ctx)
		if err != nil {
			return nil // ctx has ended
		}
		if service.Domain, err = domainOf(js); err != nil {
			return err
		}
		if err := consume.Run(ctx, js.Conn(), service); !errors.Is(err, nats.ErrConnectionClosed) || ctx.Err() != nil {
			return err
		}
	}
}

// domainOf returns the JetStream domain of --nats-domain, or of a context.
func domainOf(js jetstream.JetStream) (string, error) {
	prefix := js.Options().APIPrefix
	if prefix == "" {
		return "", nil
	}
	domain, isDomain := strings.CutPrefix(prefix, "$JS.")
	if domain, isAPI := strings.CutSuffix(domain, ".API"); isDomain && isAPI && !strings.Contains(domain, ".") {
		return domain, nil
	}
	return "", fmt.Errorf("deliver cannot use the API prefix %s of the context: take a context with a JetStream domain, or --nats-domain", prefix)
}
