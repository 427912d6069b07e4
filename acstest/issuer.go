package acstest

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
)

// Paths of the key server, like those of ACS.
const (
	metadataPath = "/calling/.well-known/acsopenidconfiguration"
	keysPath     = "/calling/keys"
)

// defaultBase is the issuer's base URL until it listens: of a loopback host, so that a
// verifier allows plain http.
const defaultBase = "http://127.0.0.1"

// keyBits is the size of the keys that the issuer makes (RFC 7518, section
// 3.3 asks for 2048 or more).
const keyBits = 2048

// Issuer is the key server of ACS: the OIDC document, the key set, and the signer of
// tokens. It can rotate its keys and have a [Fault]. It is safe for concurrent use.
//
// An Issuer works without a socket, by [Issuer.Transport]; [Issuer.Start] makes it
// listen.
type Issuer struct {
	addr   string
	name   string // empty: the base URL
	logger *slog.Logger
	server *http.Server
	served chan struct{} // closed when the server's goroutine has ended

	mu           sync.Mutex
	base         string
	signing      signingKey   // the key that tokens are signed with
	earlier      []signingKey // keys still published after a rotation
	extraKeys    []json.RawMessage
	fault        Fault
	faultCleared chan struct{} // closed when the fault changes
	metadata     int
	keys         int
	ssrfHits     int

	foreignKey func() (*rsa.PrivateKey, error) // a key that is never published
}

// IssuerOptions are the settings of an [Issuer]. The zero value works.
type IssuerOptions struct {
	// Addr is the address that Start listens on. Empty means a free port of
	// 127.0.0.1.
	Addr string

	// Issuer is the iss of tokens and of the OIDC document. Empty means the base URL,
	// which Start changes.
	Issuer string

	// Key is the first signing key. Nil means a new one, which takes a tenth of a
	// second.
	Key *rsa.PrivateKey

	// Logger gets errors of the server. Nil discards them.
	Logger *slog.Logger
}

// signingKey is a private key and the name it is published under.
type signingKey struct {
	kid     string
	private *rsa.PrivateKey
}

// NewIssuer makes an issuer with one key. It does not listen.
func NewIssuer(o IssuerOptions) (*Issuer, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	signing, err := newSigningKey(o.Key)
	if err != nil {
		return nil, err
	}
	return &Issuer{
		addr:         o.Addr,
		name:         o.Issuer,
		logger:       o.Logger,
		base:         defaultBase,
		signing:      signing,
		faultCleared: make(chan struct{}),
		foreignKey: sync.OnceValues(func() (*rsa.PrivateKey, error) {
			return rsa.GenerateKey(rand.Reader, keyBits)
		}),
	}, nil
}

// newSigningKey names a key by its JWK thumbprint (RFC 7638), so that the same
// key always has the same kid. A nil key is replaced by a new one.
func newSigningKey(private *rsa.PrivateKey) (signingKey, error) {
	if private == nil {
		var err error
		if private, err = rsa.GenerateKey(rand.Reader, keyBits); err != nil {
			return signingKey{}, fmt.Errorf("make a signing key: %w", err)
		}
	}
	kid, err := thumbprint(&private.PublicKey)
	if err != nil {
		return signingKey{}, err
	}
	return signingKey{kid: kid, private: private}, nil
}

// Start listens on the configured address and serves until Close.
func (i *Issuer) Start() error {
	if i.server != nil {
		return errors.New("the issuer is already started")
	}
	listener, err := net.Listen("tcp", i.addr)
	if err != nil {
		return fmt.Errorf("start the issuer: %w", err)
	}
	i.mu.Lock()
	i.base = "http://" + listener.Addr().String()
	i.mu.Unlock()

	i.server = &http.Server{
		Handler:           i,
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(i.logger.Handler(), slog.LevelWarn),
	}
	i.served = make(chan struct{})
	go func() {
		defer close(i.served)
		if err := i.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			i.logger.Error("the issuer stopped serving", "error", err)
		}
	}()
	return nil
}

// Close stops serving and cuts open connections. Closing an issuer that was
// never started does nothing.
func (i *Issuer) Close() error {
	if i.server == nil {
		return nil
	}
	err := i.server.Close()
	<-i.served
	return err
}

// Name returns the iss of the issuer's tokens.
func (i *Issuer) Name() string {
	if i.name != "" {
		return i.name
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.base
}

// MetadataURL returns the address of the OIDC document.
func (i *Issuer) MetadataURL() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.base + metadataPath
}

// Rotate makes a new key, signs with it from now on, and returns its kid. With keepOld
// the keys before it stay published.
func (i *Issuer) Rotate(keepOld bool) (kid string, err error) {
	next, err := newSigningKey(nil)
	if err != nil {
		return "", err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if keepOld {
		i.earlier = append(i.earlier, i.signing)
	} else {
		i.earlier = nil
	}
	i.signing = next
	return next.kid, nil
}

// Publish adds keys to the key set, before the issuer's own, and replaces those of an
// earlier Publish.
func (i *Issuer) Publish(members ...json.RawMessage) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.extraKeys = slices.Clone(members)
}

// Fetches returns how often the OIDC document and the key set were requested.
func (i *Issuer) Fetches() (metadata, jwks int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.metadata, i.keys
}

// SSRFHits counts requests that a verifier must never make (server-side request
// forgery): to the target of a redirect, to another origin, to an address in a token.
func (i *Issuer) SSRFHits() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.ssrfHits
}

// keySet returns the key set without faults.
func (i *Issuer) keySet() ([]byte, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	members := slices.Clone(i.extraKeys)
	for _, key := range append([]signingKey{i.signing}, i.earlier...) {
		jwk, err := publicJWK(&key.private.PublicKey, key.kid)
		if err != nil {
			return nil, err
		}
		member, err := json.Marshal(jwk.Marshal())
		if err != nil {
			return nil, fmt.Errorf("encode a key: %w", err)
		}
		members = append(members, member)
	}
	return json.Marshal(map[string]any{"keys": members})
}

func publicJWK(public *rsa.PublicKey, kid string) (jwkset.JWK, error) {
	jwk, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{
		ALG: jwkset.AlgRS256,
		KID: kid,
		USE: jwkset.UseSig,
	}})
	if err != nil {
		return jwkset.JWK{}, fmt.Errorf("describe a key: %w", err)
	}
	return jwk, nil
}

// Transport returns a round tripper that calls the issuer for every request, whatever
// its host. Without a socket or goroutine it works in a testing/synctest bubble.
func (i *Issuer) Transport() http.RoundTripper { return transport{i} }
