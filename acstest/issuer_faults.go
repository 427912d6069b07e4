package acstest

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
)

// Fault is a fault of the key server. Those of a body are of the key set, if the name
// does not have Metadata.
type Fault int

// The faults.
const (
	FaultNone             Fault = iota
	FaultDown                   // the connection is cut before an answer
	FaultError                  // 500, with a good body
	FaultSlow                   // no answer until the client leaves or the fault ends
	FaultEmptyObject            // {}
	FaultNull                   // null
	FaultNoKeys                 // {"keys":[]}
	FaultTrailing               // the key set, then garbage
	FaultHTML                   // a web page with status 200
	FaultHuge                   // the key set, then 600 KiB of blanks
	FaultHugeHeader             // the key set with 80 KiB of headers
	FaultAged                   // the key set from a cache (Age: 30)
	FaultRedirect               // 302 from the OIDC document
	FaultKeysRedirect           // 302 from the key set
	FaultWrongIssuer            // the OIDC document of another issuer
	FaultForeignKeys            // the OIDC document names a key set on another origin
	FaultHugeMetadata           // the OIDC document, then 600 KiB of blanks
	FaultTrailingMetadata       // the OIDC document, then garbage
)

// ssrfPath starts the addresses that count as [Issuer.SSRFHits]. They answer like the
// others, so that a verifier that follows them then accepts the wrong tokens, too.
const ssrfPath = "/ssrf"

// Sizes above the bounds of a client, 512 KiB and 64 KiB.
const (
	hugeBody   = 600 << 10
	hugeHeader = 80 << 10
)

// SetFault replaces the fault of the issuer.
func (i *Issuer) SetFault(fault Fault) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fault = fault
	close(i.faultCleared)
	i.faultCleared = make(chan struct{})
}

// ServeHTTP serves the OIDC document and the key set.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault := i.count(r.URL.Path)
	switch fault {
	case FaultDown:
		panic(http.ErrAbortHandler)
	case FaultSlow:
		i.hold(r)
	}
	switch path := strings.TrimPrefix(r.URL.Path, ssrfPath); path {
	case metadataPath:
		i.serveMetadata(w, r, fault)
	case keysPath:
		i.serveKeys(w, r, fault)
	default:
		http.NotFound(w, r)
	}
}

// count counts a request and returns the fault.
func (i *Issuer) count(path string) Fault {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch path {
	case metadataPath:
		i.metadata++
	case keysPath:
		i.keys++
	default:
		i.ssrfHits++
		return FaultNone
	}
	return i.fault
}

// hold blocks until the client leaves or the fault changes.
func (i *Issuer) hold(r *http.Request) {
	i.mu.Lock()
	faultCleared := i.faultCleared
	i.mu.Unlock()
	select {
	case <-r.Context().Done():
	case <-faultCleared:
	}
}

func (i *Issuer) serveMetadata(w http.ResponseWriter, r *http.Request, fault Fault) {
	// The key set has the host of the request, so that an issuer with another name (in
	// a container, say) stays on one origin.
	origin, issuer := "http://"+r.Host, i.Name()
	keys := origin + keysPath
	switch fault {
	case FaultRedirect:
		redirect(w, ssrfPath+metadataPath)
		return
	case FaultError:
		w.WriteHeader(http.StatusInternalServerError)
	case FaultWrongIssuer:
		issuer = "https://issuer.example"
	case FaultForeignKeys:
		keys = otherOrigin(origin) + ssrfPath + keysPath
	}
	body, err := json.Marshal(map[string]any{
		"issuer":                                issuer,
		"jwks_uri":                              keys,
		"id_token_signing_alg_values_supported": []string{"RS256"},
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	switch fault {
	case FaultHugeMetadata:
		body = append(body, bytes.Repeat([]byte(" "), hugeBody)...)
	case FaultTrailingMetadata:
		body = append(body, "<!-- -->"...)
	}
	i.write(w, body)
}

func (i *Issuer) serveKeys(w http.ResponseWriter, _ *http.Request, fault Fault) {
	body, err := i.keySet()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	switch fault {
	case FaultError:
		w.WriteHeader(http.StatusInternalServerError)
	case FaultKeysRedirect:
		redirect(w, ssrfPath+keysPath)
		return
	case FaultEmptyObject:
		body = []byte(`{}`)
	case FaultNull:
		body = []byte(`null`)
	case FaultNoKeys:
		body = []byte(`{"keys":[]}`)
	case FaultTrailing:
		body = append(body, "<!-- -->"...)
	case FaultHTML:
		body = []byte("<!doctype html><title>Service unavailable</title>")
	case FaultHuge:
		body = append(body, bytes.Repeat([]byte(" "), hugeBody)...)
	case FaultHugeHeader:
		w.Header().Set("X-Padding", strings.Repeat("x", hugeHeader))
	case FaultAged:
		w.Header().Set("Age", "30")
	}
	i.write(w, body)
}

func (i *Issuer) write(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if _, err := w.Write(body); err != nil {
		i.logger.Debug("a client did not read an answer of the issuer", "error", err)
	}
}

func redirect(w http.ResponseWriter, path string) {
	w.Header().Set("Location", path)
	w.WriteHeader(http.StatusFound)
}

// otherOrigin returns the same server under another loopback name, which is another
// origin (RFC 6454, section 5).
func otherOrigin(origin string) string {
	if strings.Contains(origin, "127.0.0.1") {
		return strings.Replace(origin, "127.0.0.1", "localhost", 1)
	}
	return strings.Replace(origin, "localhost", "127.0.0.1", 1)
}

// errCut is the error of [FaultDown] without a socket.
var errCut = errors.New("connection cut by the issuer")

// transport calls the issuer without a socket.
type transport struct{ issuer *Issuer }

func (t transport) RoundTrip(r *http.Request) (response *http.Response, err error) {
	request := r.Clone(r.Context())
	if request.Host == "" {
		request.Host = request.URL.Host
	}
	answer := httptest.NewRecorder()
	defer func() {
		switch cut := recover(); {
		case cut == http.ErrAbortHandler:
			response, err = nil, errCut
		case cut != nil:
			panic(cut)
		}
	}()
	t.issuer.ServeHTTP(answer, request)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	response = answer.Result()
	response.Request = r
	return response, nil
}
