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

// Paths of the key server, the same as the real one's.
const (
	metadataPath = "/calling/.well-known/acsopenidconfiguration"
	keysPath     = "/calling/keys"
)

// defaultBase is the issuer's base URL until it listens. A loopback host, so
// that a verifier takes it over plain http.
const defaultBase = "http://127.0.0.1"

// keyBits is the size of the keys that the issuer makes (RFC 7518, section
// 3.3 asks for 2048 or more).
const keyBits = 2048

// Issuer plays the ACS key server: the OIDC document, the key set, and the
// service behind them that signs tokens. It can rotate its keys and misbehave
// in the ways of [Fault]. It is safe for concurrent use.
//
// An Issuer works without a socket, by [Issuer.Transport]; [Issuer.Start]
// makes it listen.
type Issuer struct {
	addr   string
	name   string // empty: the base URL
	logger *slog.Logger
	server *http.Server
	served chan struct{} // closed when the server's goroutine has ended

	mu       sync.Mutex
	base     string
	signing  signingKey   // the key that tokens are signed with
	earlier  []signingKey // keys still published after a rotation
	beside   []json.RawMessage
	fault    Fault
	healed   chan struct{} // closed when the fault changes
	metadata int
	keys     int
	lured    int

	stranger func() (*rsa.PrivateKey, error) // a key that is never published
}

// IssuerOptions are the settings of an [Issuer]. The zero value works.
type IssuerOptions struct {
	// Addr is the address that Start listens on. Empty means a free port of
	// 127.0.0.1.
	Addr string

	// Issuer is the iss of tokens and of the OIDC document. Empty means the
	// base URL, which is known for certain only after Start.
	Issuer string

	// Key is the first signing key. Nil means a new one; tests that make many
	// issuers share a key to save time.
	Key *rsa.PrivateKey

	// Logger takes what goes wrong while serving. Nil discards it.
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
		addr:    o.Addr,
		name:    o.Issuer,
		logger:  o.Logger,
		base:    defaultBase,
		signing: signing,
		healed:  make(chan struct{}),
		stranger: sync.OnceValues(func() (*rsa.PrivateKey, error) {
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

// Rotate makes a new key and signs with it from now on. The keys before it
// stay published when keepOld is set and disappear when it is not. It returns
// the new key's kid.
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

// Publish puts members into the key set as they stand, in front of the
// issuer's own keys and in place of what an earlier Publish put there.
func (i *Issuer) Publish(members ...json.RawMessage) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.beside = slices.Clone(members)
}

// Fetches returns how often the OIDC document and the key set were asked for,
// whatever the answer was.
func (i *Issuer) Fetches() (metadata, jwks int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.metadata, i.keys
}

// Lured returns how often something was asked for that only a verifier without
// a guard would follow: the target of a redirect, a key set on another origin,
// or any other address.
func (i *Issuer) Lured() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.lured
}

// keySet returns the honest JWKS document.
func (i *Issuer) keySet() ([]byte, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	members := slices.Clone(i.beside)
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

// publicJWK describes a key as ACS would publish it: for RS256 signatures.
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

// Transport returns a round tripper that hands every request straight to the
// issuer, whatever host it names. It uses no socket and no goroutine, so it
// works inside a testing/synctest bubble, and it honours the request's context.
func (i *Issuer) Transport() http.RoundTripper { return transport{i} }
