package faults_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"sync"

	"github.com/acsbridge/acsbridge/acstest"
)

// answers counts the answers to what a fault posts and the oracle does not
// judge: the bridge counts them all.
type answers struct {
	mu sync.Mutex
	by map[int]int // status
}

func (a *answers) add(status, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil {
		a.by = make(map[int]int)
	}
	a.by[status] += n
}

func (a *answers) counts() map[int]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.by)
}

// probe posts a token with a media type that nobody takes: 415 says that the
// token is good, 401 that it is bad, 503 that nobody knows, and nothing is
// stored.
func (w *world) probe(spec acstest.TokenSpec) (status int) {
	w.Helper()
	if spec.Audience == "" {
		spec.Audience = acstest.DemoAudience
	}
	text, err := w.issuer.Sign(spec)
	if err != nil {
		w.Error(err)
		return 0
	}
	return w.post(text, "text/plain", nil)
}

// post posts a body with a token. The status is zero without an answer.
func (w *world) post(token, mediaType string, body []byte) (status int) {
	w.Helper()
	request, err := http.NewRequest(http.MethodPost, w.bridge.target().url, bytes.NewReader(body))
	if err != nil {
		w.Error(err)
		return 0
	}
	request.Header.Set("Content-Type", mediaType)
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := w.sender.clients[0].Do(request)
	if err != nil {
		w.unjudged.add(unanswered, 1)
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body) // what cannot be read costs the connection
	if response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") == "" {
		w.Errorf("an answer 503 without Retry-After")
	}
	w.unjudged.add(response.StatusCode, 1)
	return response.StatusCode
}
