package faults_test

import (
	"maps"
	"sync"

	"github.com/acsbridge/acsbridge/acstest"
)

// answers counts the answers to requests of a fault that the oracle does not check but
// the bridge counts.
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

// probe posts a token with a media type that is not accepted: 415 means that the token
// is good, 401 that it is bad, 503 that there is no verdict. Nothing is stored.
func (w *world) probe(spec acstest.TokenSpec) (status int) {
	w.Helper()
	if spec.Audience == "" {
		spec.Audience = acstest.DemoAudience
	}
	text, err := w.issuer.Sign(spec)
	if err != nil {
		w.Error(err)
		return unanswered
	}
	return w.post(text, "text/plain", nil)
}

// post posts a body with a token. The status is zero without an answer.
func (w *world) post(token, contentType string, body []byte) (status int) {
	w.Helper()
	a, err := post(w.sender.clients[0], w.bridge.target().url, contentType, body, token, nil)
	if err != nil {
		w.Error(err)
	}
	w.others.add(a.Status, 1)
	return a.Status
}
