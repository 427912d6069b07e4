package ingest

// StopRefilling keeps the buckets that there are from filling again, so that a
// test need not be quicker than they are.
func (h *Handler) StopRefilling() {
	h.refusals.mu.Lock()
	for _, bucket := range h.refusals.young {
		bucket.SetLimit(0)
	}
	h.refusals.mu.Unlock()
	h.quarantine.mu.Lock()
	for _, bucket := range h.quarantine.resources {
		bucket.SetLimit(0)
	}
	h.quarantine.mu.Unlock()
}
