package ingest

import (
	"net/netip"
	"strconv"
)

// StopRefilling keeps the buckets that there are from filling again, so that a
// test need not be quicker than they are.
func (h *Handler) StopRefilling() {
	h.refusals.mu.Lock()
	for _, bucket := range h.refusals.young {
		bucket.SetLimit(0)
	}
	h.refusals.mu.Unlock()
	h.quarantine.SetRate(0)
}

// Suspects returns how many tokens of a kind of refusal are held at most, and how
// many signatures were checked since the last line.
func (h *Handler) Suspects() (tokens, checks int) {
	h.refused.mu.Lock()
	defer h.refused.mu.Unlock()
	for _, kind := range h.refused.kinds {
		tokens, checks = max(tokens, len(kind.suspects)), max(checks, kind.checks)
	}
	return tokens, checks
}

// KeptSuspects returns which of so many tokens are held when each comes from a
// client and is of a group.
func KeptSuspects(many int, of func(n int) (client netip.Addr, group uint64)) (kept []int) {
	var r refusalState
	for n := range many {
		r.unsaid++
		client, group := of(n)
		r.keep(&suspect{client: client, group: group, authorization: strconv.Itoa(n)})
	}
	for _, s := range r.suspects {
		n, _ := strconv.Atoi(s.authorization)
		kept = append(kept, n)
	}
	return kept
}
