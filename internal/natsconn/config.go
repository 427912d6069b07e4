package natsconn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/acsbridge/acsbridge/internal/bom"
)

// Config says how to reach the server. The zero value connects to
// nats://127.0.0.1:4222 without credentials.
type Config struct {
	// URL is one server or several, separated by commas. Context names a
	// context of the nats command line instead.
	URL     string
	Context string

	// One way to log in, or none.
	Creds          string // credentials file
	NKey           string // file with an nkey seed
	User, Password string
	Token          string

	CA, Cert, Key string // PEM files for TLS

	// SettingPrefix begins the settings of the login, which a remedy names. Empty means
	// "nats-".
	SettingPrefix string

	Domain      string // JetStream domain
	InboxPrefix string // private inbox prefix; see docs/deployment.md

	// InProcess connects to a server in this process instead of URL.
	InProcess nats.InProcessConnProvider
}

// options returns the options of the client. Without each of the fixed ones an
// event could be lost, or the client could give up for good.
func (c *Config) options() ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name("acsbridge"),
		// A publish during an outage fails at once. With a buffer it would
		// report a timeout and be sent on reconnect all the same.
		nats.ReconnectBufSize(-1),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(func(attempt int) time.Duration { return BetweenAttempts.After(attempt) }),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
		// A server that stops reading would hold every caller for a minute.
		nats.FlusherTimeout(RequestTimeout),
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

// The two options below are those of nats.go for files, which may begin with a
// byte order mark: nats.go does not find the seed, or the first certificate,
// behind it. Files are read again for each connection.

// nkeyOption logs in with the seed in a file.
func nkeyOption(file string) (nats.Option, error) {
	read := func() (nkeys.KeyPair, error) {
		text, err := bom.ReadFile(file)
		if err != nil {
			return nil, err
		}
		return nkeys.ParseDecoratedUserNKey(text)
	}
	pair, err := read()
	if err != nil {
		return nil, err
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return nil, err
	}
	return nats.Nkey(public, func(nonce []byte) ([]byte, error) {
		pair, err := read()
		if err != nil {
			return nil, err
		}
		defer pair.Wipe()
		return pair.Sign(nonce)
	}), nil
}

// tlsOption trusts the authorities in a file, and shows the certificate in
// another. Either may be empty, not both.
func tlsOption(authorities, certFile, keyFile string) nats.Option {
	var certificate nats.TLSCertHandler
	if certFile != "" {
		certificate = func() (tls.Certificate, error) {
			pair, err := bom.KeyPair(certFile, keyFile)
			if err != nil {
				return pair, fmt.Errorf("load client certificate: %w", err)
			}
			return pair, nil
		}
	}
	var roots nats.RootCAsHandler
	if authorities != "" {
		roots = func() (*x509.CertPool, error) {
			text, err := bom.ReadFile(authorities)
			if err != nil {
				return nil, fmt.Errorf("load certificate authorities: %w", err)
			}
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(text) {
				return nil, errors.New(authorities + " holds no certificate in PEM form")
			}
			return pool, nil
		}
	}
	return nats.ClientTLSConfig(certificate, roots)
}

// ClientCertificate returns the chain that the link shows to NATS, in DER, as
// its files are now; nothing when there is none.
func (l *Link) ClientCertificate() ([][]byte, error) {
	nc := l.conn()
	if nc == nil || nc.Opts.TLSCertCB == nil {
		return nil, nil
	}
	certificate, err := nc.Opts.TLSCertCB()
	return certificate.Certificate, err
}

// UserJWT returns the JWT with which the link logs in, as its file is now; empty
// when it uses none.
func (l *Link) UserJWT() (string, error) {
	nc := l.conn()
	if nc == nil || nc.Opts.UserJWT == nil {
		return "", nil
	}
	return nc.Opts.UserJWT()
}
