package bridge

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/ingest/edge"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/publish"
)

// What "acsbridge check" shares with the watch of a running bridge, and asks it for.

// Expiries returns what is not well with the certificate for callbacks, which is nil for
// plain HTTP, and with the credentials for NATS.
func Expiries(s *config.Settings, link *natsconn.Link, certificate *edge.Certificate) (texts []string) {
	for _, c := range credentials(s, link, certificate) {
		valid, err := c.read()
		for _, found := range c.conditions(valid, err, time.Now()) {
			texts = append(texts, found.text)
		}
	}
	return texts
}

// OtherAddresses returns which records were journaled with other settings, and where
// they go now.
func OtherAddresses(s *config.Settings, counts map[publish.Address]int) (texts []string) {
	for _, found := range otherAddresses(s, counts, "") {
		texts = append(texts, found.text)
	}
	return texts
}

// CheckPath is where the admin listener answers "acsbridge check": POST makes a nonce
// (see [ingest.Handler.Expect]), GET with the nonce returns what came with it.
const CheckPath = "/check"

// CheckAnswer is the answer at [CheckPath], as JSON.
type CheckAnswer struct {
	Nonce    string           `json:"nonce,omitempty"`
	Arrivals []ingest.Arrival `json:"arrivals,omitempty"`
}

func (b *Bridge) arrivals() http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, a CheckAnswer) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a) // a client that has gone asks again
	}
	mux.HandleFunc("POST "+CheckPath, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, CheckAnswer{Nonce: b.handler.Expect()})
	})
	mux.HandleFunc("GET "+CheckPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, CheckAnswer{Arrivals: b.handler.Arrivals(r.FormValue("nonce"))})
	})
	return mux
}
