package ingest

import (
	"net/netip"
	"strconv"

	"github.com/acsbridge/acsbridge/ingest/edge"
)

// AllInUse leaves no permit for a callback.
func (h *Handler) AllInUse() { h.inFlight = edge.NewInFlight(0, 0) }

// StopRefilling keeps the rate limits met so far from refilling, so that a test need
// not be faster than they are.
func (h *Handler) StopRefilling() {
	h.authFailures.SetRate(0)
	h.quarantine.SetRate(0)
}

// RefusedTokens returns how many tokens of a kind of refusal are held at most, and how
// many signatures were checked since the last line.
func (h *Handler) RefusedTokens() (tokens, checks int) {
	h.refusals.mu.Lock()
	defer h.refusals.mu.Unlock()
	for _, kind := range h.refusals.kinds {
		tokens, checks = max(tokens, len(kind.tokens)), max(checks, kind.checks)
	}
	return tokens, checks
}

// KeptTokens returns which of so many tokens are held when each comes from a client and
// is of a group.
func KeptTokens(many int, of func(n int) (client netip.Addr, group uint64)) (kept []int) {
	var s refusalState
	for n := range many {
		s.unlogged++
		client, group := of(n)
		s.keep(&refusedToken{client: client, group: group, authorization: strconv.Itoa(n)})
	}
	for _, t := range s.tokens {
		n, _ := strconv.Atoi(t.authorization)
		kept = append(kept, n)
	}
	return kept
}
