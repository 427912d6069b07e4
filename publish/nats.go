package publish

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// NATS says how to reach the server. The zero value connects to
// nats://127.0.0.1:4222 without credentials.
type NATS struct {
	// URL is one server or several, separated by commas. Context names a
	// context of the nats command line instead; "" together with UseContext
	// means the selected one.
	URL     string
	Context string

	// One way to log in, or none.
	Creds          string // credentials file
	NKey           string // file with an nkey seed
	User, Password string
	Token          string

	CA, Cert, Key string // PEM files for TLS

	Domain      string // JetStream domain
	InboxPrefix string // private inbox prefix; see docs/deployment.md

	// InProcess connects to a server in this process instead of URL.
	InProcess nats.InProcessConnProvider
}

// options turns the configuration into client options. Each of the fixed ones
// closes a way to lose an event or to stop for good.
func (c *NATS) options() ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name("acsbridge"),
		// A publish during an outage fails at once. With a buffer it would
		// report a timeout and be sent on reconnect all the same.
		nats.ReconnectBufSize(-1),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(func(attempt int) time.Duration { return betweenAttempts.After(attempt) }),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
		// A server that stops reading would hold every caller for a minute.
		nats.FlusherTimeout(ackTimeout),
		// Otherwise the first request subscribes to the answers of all, and
		// those to a batched direct get, which natsext.RequestMany subscribes to
		// itself, come twice: the whole stream, when it is read.
		nats.UseOldRequestStyle(),
	}
	if c.InProcess != nil {
		return append(opts, nats.InProcessServer(c.InProcess)), nil
	}
	switch {
	case c.Creds != "":
		opts = append(opts, nats.UserCredentials(c.Creds))
	case c.NKey != "":
		nkey, err := nkeyOption(c.NKey)
		if err != nil {
			return nil, fmt.Errorf("read nkey seed: %w", err)
		}
		opts = append(opts, nkey)
	case c.User != "":
		opts = append(opts, nats.UserInfo(c.User, c.Password))
	case c.Token != "":
		opts = append(opts, nats.Token(c.Token))
	}
	if c.CA != "" || c.Cert != "" {
		opts = append(opts, tlsOption(c.CA, c.Cert, c.Key))
	}
	if c.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(c.InboxPrefix))
	}
	return opts, nil
}
