// Package config is the configuration of serve: its settings, where they come from,
// and what is wrong with them. A setting is a flag, an environment variable and a key
// of the YAML file.
package config

import (
	"cmp"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// DefaultNATSListen is where the nats command looks for a server.
const DefaultNATSListen = "127.0.0.1:4222"

// CheckGroup is the group of the flags of check that are not settings of serve.
const CheckGroup = "Check:"

// DefaultAdminListen is where serve has its admin listener.
const DefaultAdminListen = "127.0.0.1:9090"

// Settings is the configuration of serve. kong fills the exported fields from
// the command line; what is not there comes from the environment or the YAML
// file (see [sources]). AfterApply then checks them all at once, so that a command
// only runs with a configuration without problems.
type Settings struct {
	Config      string `help:"YAML file with settings; also ACSBRIDGE_CONFIG." placeholder:"FILE"`
	PrintConfig bool   `help:"Print the effective configuration as YAML, without secrets, and exit."`

	callbackSettings `group:"Callbacks (HTTP):"`
	adminSettings    `group:"Operators (HTTP):"`
	consoleSettings  `group:"Console (HTTP):"`
	tokenSettings    `group:"Tokens (JWT):"`
	gridSettings     `group:"Event Grid (HTTP):"`
	natsSettings     `group:"NATS connection:" set:"withoutURL=an embedded server."`
	embeddedSettings `group:"NATS connection:"`
	streamSettings   `group:"Stream (JetStream):"`
	journalSettings  `group:"Journal and answers:"`
	processSettings  `group:"Process:"`

	environ  func() []string // nil means os.Environ
	sources  *sources
	flags    []*kong.Flag // the settings, in order of declaration
	found    []problem
	examined bool // problems are for Problems, not an error

	// What the texts become when they are checked.
	resources      []verify.Resource
	callbackKeys   []verify.SharedKey
	sourceRanges   []netip.Prefix
	trustedProxies []netip.Prefix
	adminToken     string
	consoleToken   string
	grid           grid
}

// callbackSettings are about the listener for callbacks.
type callbackSettings struct {
	Listen       string `help:"Address for callbacks." default:"127.0.0.1:8080" placeholder:"ADDR"`
	CallbackPath string `help:"Path of the callback URL; paths below it too." default:"/callbacks" placeholder:"PATH"`
	TLSCert      string `help:"Certificate chain (PEM) for --listen. Without it: plain HTTP, for a TLS proxy in front." placeholder:"FILE"`
	TLSKey       string `help:"Private key (PEM) of --tls-cert." placeholder:"FILE"`

	MaxConnections int      `help:"Open connections for callbacks; more wait until one closes." default:"2048" placeholder:"N"`
	CallbackKey    []string `help:"Secret in the query of the callback URL, acsbridge-key=…: a name for it and its file. Repeatable; any one is enough." placeholder:"NAME=FILE"`
	SourceRange    []string `help:"Network that callbacks may come from, such as 203.0.113.0/24. Repeatable. None means all." placeholder:"RANGE"`
	TrustedProxy   []string `help:"Network of proxies whose X-Forwarded-For is trusted. Repeatable." placeholder:"RANGE"`
}

// adminSettings are about the admin listener.
type adminSettings struct {
	AdminListen string `help:"Address for /livez, /readyz and /metrics." default:"${admin}" placeholder:"ADDR"`
	adminAccess
}

// adminAccess says who may use the admin listener.
type adminAccess struct {
	AdminTokenFile string   `help:"File with a bearer token for the admin listener. Without one, --admin-listen must be a loopback address." placeholder:"FILE"`
	AdminInsecure  bool     `help:"Let --admin-listen be reached from other hosts without a token."`
	AdminHost      []string `help:"Host name of the admin listener, besides localhost and addresses. Repeatable." placeholder:"NAME"`
}

// consoleSettings are about the console of serve, which is at the admin listener.
type consoleSettings struct {
	ConsoleTokenFile string    `help:"File with the token of the console. Without one the console is there only while --admin-listen is a loopback address and has no token." placeholder:"FILE"`
	ConsoleLogin     natsLogin `kong:"embed,prefix='console-nats-',set='name=console-nats',set='variable=ACSBRIDGE_CONSOLE_NATS',set='who= of the NATS login of the console',set='context=Context of the nats command with a login of the console, which reads the stream with it. A context has servers, TLS and domain too; with another login the console uses those of the bridge. Without any login it shows calls only of an embedded server.'"`
	ConsoleWrite     bool      `help:"Let the console send quarantined callbacks and dead letters again, and remove them, after a confirmation. Needs --console-token-file, and a login that may."`
	ConsoleShowPII   bool      `name:"console-show-pii" help:"Let the console show personal data of a call or an event, after a click that is logged. Needs --console-token-file."`
}

// tokenSettings say which tokens of callbacks are accepted.
type tokenSettings struct {
	Resource      []string      `help:"ACS resource: a name for NATS subjects and the immutable resource id. Repeatable, at least one." placeholder:"NAME=GUID"`
	Issuer        string        `help:"Issuer that tokens must name." default:"${issuer}" placeholder:"URL"`
	OIDCConfigURL string        `name:"oidc-config-url" help:"OpenID metadata document that names the signing keys." default:"${oidc}" placeholder:"URL"`
	Leeway        time.Duration `help:"Clock skew that is allowed, up to 5m." default:"60s" placeholder:"DURATION"`
	TokenReuse    string        `help:"A token that comes again with another body: report, refuse or off." default:"report" placeholder:"report|refuse|off"`
}

// natsSettings are about the connection to NATS.
type natsSettings struct {
	NatsURL    string    `help:"NATS servers, separated by commas. Neither this nor --nats-context: ${withoutURL}" placeholder:"URL"`
	NatsLogin  natsLogin `kong:"embed,prefix='nats-',set='name=nats',set='variable=NATS',set='who=',set='context=Context of the nats command: its name, or the path of its file.'"`
	NatsCA     string    `help:"Certificate authorities (PEM) that sign the servers' certificates." placeholder:"FILE"`
	NatsCert   string    `help:"Client certificate (PEM)." placeholder:"FILE"`
	NatsKey    string    `help:"Private key (PEM) of --nats-cert." placeholder:"FILE"`
	NatsDomain string    `help:"JetStream domain." placeholder:"NAME"`
}

// natsLogin is one login to NATS: of the bridge, or of its console. The tags of its
// field give the variables of the help, and the prefix of the settings.
type natsLogin struct {
	Context      string `help:"${context}" placeholder:"NAME"`
	Creds        string `help:"Credentials file (JWT and seed)${who}." placeholder:"FILE"`
	Nkey         string `help:"NKey seed file${who}." placeholder:"FILE"`
	User         string `help:"User name${who}. The password comes from a file, or from ${variable}_PASSWORD." placeholder:"NAME"`
	PasswordFile string `help:"File that holds the password of ${name}-user." placeholder:"FILE"`
	TokenFile    string `help:"File that holds an authentication token${who}, which can also be in ${variable}_TOKEN." placeholder:"FILE"`
	InboxPrefix  string `help:"Prefix of reply subjects${who}, where NATS permits only a private one." placeholder:"SUBJECT"`

	method          string // the setting that says how to log in; empty means no login
	password, token string // see Secrets
}

// embeddedSettings are about the NATS server that the bridge runs without an external one.
type embeddedSettings struct {
	NatsListen string `help:"Loopback address of the embedded server." default:"${natsListen}" placeholder:"ADDR"`
}

// streamSettings describe the stream that the bridge creates when it is absent.
type streamSettings struct {
	Stream                string        `help:"Stream that holds the events." default:"${stream}" placeholder:"NAME"`
	SubjectPrefix         string        `help:"First token of every subject." default:"${prefix}" placeholder:"TOKEN"`
	StreamReplicas        int           `help:"Copies of the stream in the cluster, 1 to 5." default:"1" placeholder:"N"`
	StreamMaxAge          time.Duration `help:"How long events are kept; 0s means no limit." default:"72h" placeholder:"DURATION"`
	StreamMaxBytes        size          `help:"Size at which the oldest events are removed; 0 means no limit." default:"0" placeholder:"SIZE"`
	StreamDuplicateWindow time.Duration `help:"How long the stream recognizes a repeated event, 1m to 24h. Each takes about 180 bytes of the server's memory." default:"10m" placeholder:"DURATION"`
	StreamUpdate          bool          `help:"Change a stream that differs from these settings. Without it the difference is only reported."`
}

// journalSettings are about what happens between a callback and its answer.
type journalSettings struct {
	DataDir         string        `help:"Directory of the journal, the dead letters and the embedded server." default:"acsbridge-data" placeholder:"DIR"`
	Journal         string        `help:"on: 200 means synced to disk here. off: 200 means stored by NATS; needs an external NATS." default:"on" placeholder:"on|off"`
	JournalMaxBytes size          `help:"Size at which the journal is full and callbacks are answered 503." default:"1GiB" placeholder:"SIZE"`
	AckWait         time.Duration `help:"How long an answer waits for NATS once the journal has the event, up to 4s." default:"5ms" placeholder:"DURATION"`
	MaxInFlight     int           `help:"Callbacks in work at a time; more are answered 503." default:"512" placeholder:"N"`
}

// processSettings are about stopping and logging.
type processSettings struct {
	ShutdownDelay   time.Duration `help:"After SIGTERM: how long to go on serving while /readyz answers 503, up to 5m." default:"0s" placeholder:"DURATION"`
	ShutdownTimeout time.Duration `help:"After that: how long requests and forwarding may take to finish, 1s to 10m." default:"20s" placeholder:"DURATION"`
	LogFormat       string        `help:"text, json, or auto: text on a terminal, else JSON." default:"auto" placeholder:"auto|text|json"`
	LogLevel        string        `help:"debug, info, warn or error." default:"info" placeholder:"debug|info|warn|error"`
}

// Vars are the default values that the tags of [Settings] and of the commands refer to.
func Vars() kong.Vars {
	return kong.Vars{
		"admin":      DefaultAdminListen,
		"issuer":     verify.DefaultIssuer,
		"oidc":       verify.DefaultMetadataURL,
		"natsListen": DefaultNATSListen,
		"stream":     schemas.Stream,
		"prefix":     schemas.SubjectPrefix,

		"eventgrid":    ingest.DefaultGridPath,
		"eventgridApp": verify.EventGridApplication,
	}
}

// Parse reads the arguments of serve, and the environment. What --print-config
// writes goes to out.
func Parse(args, environ []string, out io.Writer) (*Settings, error) {
	s := &Settings{environ: func() []string { return environ }}
	parser, err := kong.New(s, Vars(), kong.Writers(out, out), kong.Exit(func(int) {}))
	if err != nil {
		return nil, err
	}
	_, err = parser.Parse(args)
	return s, err
}

// Flags returns all settings but the secrets, which are not flags.
func Flags() []*kong.Flag {
	parser, err := kong.New(&Settings{}, Vars())
	if err != nil {
		panic(err) // a tag of Settings is wrong
	}
	return slices.DeleteFunc(parser.Model.Flags, func(f *kong.Flag) bool { return !isSetting(f.Name) })
}

// Resources are the ACS resources to take callbacks for.
func (s *Settings) Resources() []verify.Resource { return s.resources }

// AdminToken is the token of the admin listener, empty when none is asked for.
func (s *Settings) AdminToken() string { return s.adminToken }

// ConsoleToken is the token of the console, empty when none is asked for.
func (s *Settings) ConsoleToken() string { return s.consoleToken }

// ServesConsole reports whether the console may be there: only behind its own token,
// or where no token is needed for the rest either.
func (s *Settings) ServesConsole() bool {
	host, _, _ := net.SplitHostPort(s.AdminListen)
	return s.consoleToken != "" || IsLoopback(host) && s.adminToken == ""
}

// EventGridSources are the names of the resources whose events Event Grid delivers,
// by their topics.
func (s *Settings) EventGridSources() map[string]string { return s.grid.sources }

// EmbeddedNATS reports whether the bridge runs a NATS server of its own.
func (s *Settings) EmbeddedNATS() bool { return s.NatsURL == "" && s.NatsLogin.Context == "" }

// NATS is how NATS is reached.
func (s *natsSettings) NATS() natsconn.Config {
	return s.with(&s.NatsLogin)
}

// ConsoleNATS is how the console reaches an external NATS with its own login: where the
// bridge does, unless the login is a context. Setting is the one that says how to log
// in; it is empty when the console has no login.
func (s *Settings) ConsoleNATS() (config natsconn.Config, setting string) {
	login := &s.ConsoleLogin
	if login.Context != "" {
		config = (&natsSettings{}).with(login)
	} else {
		config = s.with(login)
	}
	config.SettingPrefix = consoleNATS
	return config, login.method
}

// with is how NATS is reached with a login.
func (s *natsSettings) with(l *natsLogin) natsconn.Config {
	return natsconn.Config{
		URL: s.NatsURL, Context: l.Context,
		Creds: l.Creds, NKey: l.Nkey,
		User: l.User, Password: l.password, Token: l.token,
		CA: s.NatsCA, Cert: s.NatsCert, Key: s.NatsKey,
		Domain: s.NatsDomain, InboxPrefix: l.InboxPrefix,
	}
}

// Callbacks is the configuration of the verifier of callbacks.
func (s *Settings) Callbacks() verify.Config {
	return verify.Config{
		Issuer: s.Issuer, MetadataURL: s.OIDCConfigURL,
		// A nanosecond for none: zero means a minute to verify.
		Leeway: cmp.Or(s.Leeway, 1), TokenReuse: verify.ReusePolicy(s.TokenReuse),
		Resources: s.resources,
	}
}

// EventGrid is the configuration of the verifier of deliveries of Event Grid. Without
// an Entra it needs none.
func (s *Settings) EventGrid() verify.Config {
	return verify.Config{Entra: s.grid.entra, MetadataURL: s.GridOIDC, Leeway: cmp.Or(s.Leeway, 1)}
}

// Ingest is the configuration of the handler.
func (s *Settings) Ingest() ingest.Config {
	c := ingest.Config{
		Path: s.CallbackPath, MaxInFlight: s.MaxInFlight, MaxConnections: s.MaxConnections,
		CallbackKeys: s.callbackKeys, SourceRanges: s.sourceRanges, TrustedProxies: s.trustedProxies,
	}
	if s.gridSettings.on() {
		c.EventGrid = &ingest.EventGrid{Path: s.GridPath, Keys: s.grid.keys, Sources: s.grid.sources}
	}
	return c
}

// config describes the stream.
func (s *streamSettings) config() publish.StreamConfig {
	return publish.StreamConfig{
		Name: s.Stream, Prefix: s.SubjectPrefix, Replicas: s.StreamReplicas,
		MaxAge:   cmp.Or(s.StreamMaxAge, publish.NoMaxAge),
		MaxBytes: int64(s.StreamMaxBytes), Duplicates: s.StreamDuplicateWindow, Update: s.StreamUpdate,
	}
}

// Publish is the configuration of the publisher.
func (s *Settings) Publish() publish.Options {
	opts := publish.Options{
		Stream:  s.streamSettings.config(),
		Dir:     s.DataDir,
		Journal: journal.Options{MaxBytes: int64(s.JournalMaxBytes)},
		AckWait: cmp.Or(s.AckWait, publish.NoAckWait),
	}
	for _, resource := range s.resources {
		opts.Resources = append(opts.Resources, resource.Name)
	}
	if s.gridSettings.on() { // what is of none of them is quarantined
		opts.Resources = append(opts.Resources, schemas.NoResource)
	}
	if s.Journal == "off" {
		opts.Dir = ""
	}
	return opts
}

// BeforeResolve makes kong ask the environment and the file for what is not on
// the command line. kong calls it; its own env tags cannot do this job, since
// it lets a resolver win over them: the file would win over the environment.
func (s *Settings) BeforeResolve(ctx *kong.Context) error {
	for _, flag := range ctx.Flags() {
		if isSetting(flag.Name) && !ofCheck(flag) {
			s.flags = append(s.flags, flag)
		}
	}
	s.Config = configFile(ctx)
	if s.environ == nil {
		s.environ = os.Environ
	}
	s.sources = newSources(s.environ(), s.flags, s.Config)
	ctx.AddResolver(s.sources)
	return nil
}

// AfterApply rejects a configuration with problems, naming all of them, and
// answers --print-config. kong calls it when all values are in place.
func (s *Settings) AfterApply(app *kong.Kong) error {
	if s.check(); len(s.found) > 0 && !s.examined {
		return Error(s.found)
	}
	if s.PrintConfig {
		if err := s.print(app.Stdout); err != nil {
			return err
		}
		app.Exit(0)
	}
	return nil
}

// ofCheck reports whether check has a flag that serve does not have.
func ofCheck(flag *kong.Flag) bool { return flag.Group != nil && flag.Group.Key == CheckGroup }

// isSetting reports whether a flag is also a variable and a key of the file.
func isSetting(flag string) bool {
	switch flag {
	case "help", "version", "config", "print-config":
		return false
	}
	return true
}
