package publish

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/acsbridge/acsbridge/publish/journal"
)

// hand gives a record to the forwarder of the quarantine, which has a journal of
// its own: what waits for the quarantine stream holds up no event. Once it is
// durable there, the flight is settled.
func (s *session) hand(fl flight, q *record) error {
	fl.handed = true
	err := errConflictLimit
	if fl.record == q || s.conflictLimit.allow(q.resource(), len(q.payload), time.Now()) {
		_, err = s.quarantine.journal.Append(s.ctx, encodeAll([]*record{q})...)
	}
	switch {
	case errors.Is(err, journal.ErrFull), errors.Is(err, errConflictLimit):
		fl.record, fl.handed, fl.refused = q, false, reasonQuarantine
	case err != nil:
		return err
	}
	s.answers.Lock()
	defer s.answers.Unlock()
	if !s.ended {
		s.settle(fl)
	}
	return nil
}

// conflicting returns what is kept of a record in the place of which the stream
// has another.
func (s *session) conflicting(r *record) *record {
	s.metrics.conflicts.Inc()
	s.conflicts.Log(s.logger, slog.LevelWarn, "event has the id of another one and goes to quarantine", slog.String("resource", r.resource()))
	return r.quarantined(reasonConflict)
}

// What a resource may put into quarantine as conflicts, as much as malformed
// callbacks (package ingest): a sender with a token could otherwise push everything
// out of the quarantine stream, which drops its oldest messages at 256 MiB. What is
// more goes to the dead-letter file.
const (
	conflictsPerSecond = 10
	conflictBurst      = 100
	// conflictUnit bytes count as one conflict, and a larger event as several.
	conflictUnit = 16 << 10
)

var errConflictLimit = errors.New("the resource has too many conflicts")

// conflictLimit has a limiter for each resource.
type conflictLimit struct {
	mu        sync.Mutex
	resources map[string]*rate.Limiter // as many as are configured at most
}

func (c *conflictLimit) allow(resource string, size int, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	limiter := c.resources[resource]
	if limiter == nil {
		if c.resources == nil {
			c.resources = make(map[string]*rate.Limiter)
		}
		limiter = rate.NewLimiter(conflictsPerSecond, conflictBurst)
		c.resources[resource] = limiter
	}
	return limiter.AllowN(now, 1+size/conflictUnit)
}
