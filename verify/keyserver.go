package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/acsbridge/acsbridge/internal/bom"
)

// Bounds of a fetch. The real documents have a few KiB.
const (
	fetchTimeout   = 5 * time.Second // both documents together
	maxFetchBody   = 512 << 10       // after decompression
	maxFetchHeader = 64 << 10
)

// keyServer is where keys come from: an OIDC document at a pinned address (OIDC
// Discovery 1.0, section 3) that names a key set on the same origin.
//
// Only the pinned origin is trusted. With a redirect or another origin, an attacker
// that can change an answer could choose the keys, or make the bridge send requests
// into its own network.
type keyServer struct {
	client   *http.Client
	metadata *url.URL
	issuers  []string // the document must name one of them
	entra    *Entra   // nil: keys of callback tokens
}

func newKeyServer(c Config, issuers []string) (*keyServer, error) {
	metadata, err := url.Parse(c.MetadataURL)
	if err != nil {
		return nil, fmt.Errorf("oidc-config-url: %w", err)
	}
	return &keyServer{
		client: &http.Client{
			Transport: c.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			},
		},
		metadata: metadata,
		issuers:  issuers,
		entra:    c.Entra,
	}, nil
}

// NewTransport returns the default of [Config.Transport].
func NewTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: fetchTimeout}).DialContext,
		TLSHandshakeTimeout:    fetchTimeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           1,
		IdleConnTimeout:        fetchTimeout, // from one document to the next
		MaxResponseHeaderBytes: maxFetchHeader,
	}
}

// fetch reads the OIDC document and the key set that it names.
func (s *keyServer) fetch(ctx context.Context) (*keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()

	document, err := s.read(ctx, s.metadata)
	if err != nil {
		return nil, fmt.Errorf("fetch the OIDC document: %w", err)
	}
	keysURL, err := s.keysURL(document.body)
	if err != nil {
		return nil, fmt.Errorf("read the OIDC document: %w", err)
	}
	keys, err := s.read(ctx, keysURL)
	if err != nil {
		return nil, fmt.Errorf("fetch the key set: %w", err)
	}
	set, err := readKeySet(keys.body, s.entra)
	if err != nil {
		return nil, fmt.Errorf("read the key set: %w", err)
	}
	set.cached = document.cached || keys.cached
	return set, nil
}

// IssuerError reports that the OIDC document is that of another issuer.
type IssuerError struct {
	Issuer string // of the document
	Want   string // the configured one
}

func (e *IssuerError) Error() string {
	return fmt.Sprintf("its issuer is %.100q, not %q", e.Issuer, e.Want)
}

// StatusError reports an answer of a key server other than 200.
type StatusError struct {
	URL    string
	Status int // a redirect is 3xx: it is not followed
}

func (e *StatusError) Error() string { return fmt.Sprintf("%s answered %d", e.URL, e.Status) }

// NoUsableKeyError reports a key set without a key that a token can be checked with.
type NoUsableKeyError struct {
	Keys int // in the set
}

func (e *NoUsableKeyError) Error() string {
	return fmt.Sprintf("none of its %d keys is usable", e.Keys)
}

// keysURL returns the address of the key set from the OIDC document.
func (s *keyServer) keysURL(document []byte) (*url.URL, error) {
	var d struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(document, &d); err != nil {
		return nil, errors.New("it is not one JSON object")
	}
	if !contains(s.issuers, d.Issuer) {
		return nil, &IssuerError{d.Issuer, s.issuers[0]}
	}
	u, err := url.Parse(d.JWKSURI)
	if err != nil || u.User != nil || origin(u) != origin(s.metadata) {
		return nil, fmt.Errorf("its jwks_uri is not on %s", origin(s.metadata))
	}
	return u, nil
}

// origin returns the scheme, host and port of u (RFC 6454, section 4).
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(u.Hostname(), port)
}

// answer is a document as it was served.
type answer struct {
	body   []byte
	cached bool // older than the request (Age; RFC 9111, section 5.1)
}

// read gets one document, within the bounds.
func (s *keyServer) read(ctx context.Context, u *url.URL) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Accept", "application/json")
	// A cache on the way must ask the server for a rotated key (RFC 9111, section
	// 5.2.1.4).
	request.Header.Set("Cache-Control", "no-cache")
	response, err := s.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return answer{}, &StatusError{u.Redacted(), response.StatusCode}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxFetchBody+1))
	if err != nil {
		return answer{}, err
	}
	if len(body) > maxFetchBody {
		return answer{}, fmt.Errorf("%s answered with more than %d KiB", u.Redacted(), maxFetchBody>>10)
	}
	if body, err = bom.Trim(body); err != nil {
		return answer{}, fmt.Errorf("%s: %w", u.Redacted(), err)
	}
	age, _ := strconv.Atoi(response.Header.Get("Age"))
	return answer{body: body, cached: age > 0}, nil
}
