package ingest

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/verify"
)

const (
	// lookEvery is how often the log of refusals does its work: so often at most
	// is one signature of each kind checked for a message.
	lookEvery = time.Second
	// looks is how many tokens are looked at before a line says that none of them
	// has a good signature. The first line of a kind is there after so many
	// seconds at the latest.
	looks = 3
	// warnEvery is how often a kind of refusal is logged.
	warnEvery = time.Minute
	// maxSuspects tokens of a kind are kept until they are looked at, none longer
	// than maxSuspect bytes: an eighth of a MiB for each of some thirty kinds. A
	// token of ACS has about 1 KiB.
	maxSuspects = 32
	maxSuspect  = 4 << 10
	// Recent refusals are counted in so many slots of this width.
	recentSlots = 30
	recentWidth = 10 * time.Second
)

// RecentRefusals is the time that [Refusals] counts.
const RecentRefusals = recentSlots * recentWidth

// Refusals are what was refused lately on a route, for one reason.
type Refusals struct {
	Route, Reason string
	Count         int
	Text          string // of the last line in the log, empty before the first
}

// refusalKind is what refusals have in common that are logged together. Routes and
// reasons are closed sets, so the number of kinds is bounded.
type refusalKind struct{ route, reason string }

// refusalLog says that callbacks are refused, and why. A refusal is a lost event
// when the configuration is wrong, and otherwise the junk of strangers, who must not
// fill the log. So each kind has a line a minute, and one more when a token that the
// issuer has signed is found after a line about junk.
//
// Signatures are checked by a timer, once a second while there is something to do, so
// that a refusal costs its request no more than to be counted and its token to be read.
type refusalLog struct {
	logger *slog.Logger

	mu    sync.Mutex
	kinds map[refusalKind]*refusalState
	timer *time.Timer // nil while there is nothing to log
}

// refusalState is what is known of a kind. The mutex of refusalLog guards it.
type refusalState struct {
	kind   refusalKind
	recent recentCount
	code   int    // of the answer; zero when there was none
	cause  string // of the latest refusal
	unsaid int    // refusals since the last line

	tokens   bool // some came with a token since then
	suspects []*suspect
	looked   map[uint64]bool // groups of tokens that were looked at since the last line
	checks   int             // tokens that were looked at since then

	said   time.Time // when the last line was written
	signed bool      // it is about a token with a good signature
	text   string
}

// suspect is a refused token that may be looked at.
type suspect struct {
	client        netip.Addr // what stands for it: see bucketOf
	at            time.Time
	authorization string
	cause         string
	issuers       []issuer
	by            string // name of the issuer whose key the token names
	explanation   *verify.Explanation
	group         uint64 // of the explanation; 0 without one
}

// issuer may have signed a token.
type issuer struct {
	name     string
	verifier explainer
}

// explainer is a verifier that explains. [verify.Verifier] is one.
type explainer interface {
	Explain(authorization []string, at time.Time) *verify.Explanation
}

// add counts a refusal. The suspect is nil when there is no token.
func (l *refusalLog) add(kind refusalKind, code int, cause string, s *suspect) {
	if s != nil && len(s.authorization) <= maxSuspect {
		s.authorization = strings.Clone(s.authorization) // not the whole header it is part of
		s.explain()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	state := l.kinds[kind]
	if state == nil {
		if l.kinds == nil {
			l.kinds = make(map[refusalKind]*refusalState)
		}
		state = &refusalState{kind: kind}
		l.kinds[kind] = state
	}
	state.recent.add(time.Now())
	state.code, state.cause = code, cause
	state.unsaid++
	if s != nil {
		s.cause = cause
		state.keep(s)
	}
	if l.timer == nil {
		l.timer = time.AfterFunc(lookEvery, l.work)
	}
}

// keep holds a token until it is looked at. When there are too many, one goes of
// the client and the group that have the most, so that junk of one client, or of many
// that is all alike, does not push out the tokens of others; within that, chance
// decides.
func (r *refusalState) keep(s *suspect) {
	r.tokens = true
	if len(s.authorization) > maxSuspect {
		return
	}
	if len(r.suspects) == maxSuspects {
		clients, groups, most := map[netip.Addr]int{s.client: 1}, map[uint64]int{s.group: 1}, 0
		for _, other := range r.suspects {
			clients[other.client]++
			groups[other.group]++
		}
		weight := func(s *suspect) int { return clients[s.client] * groups[s.group] }
		for _, other := range r.suspects {
			most = max(most, weight(other))
		}
		if w := weight(s); w > most || w == most && rand.N(r.unsaid) >= maxSuspects {
			return
		}
		at := rand.N(maxSuspects)
		for weight(r.suspects[at]) != most {
			at = (at + 1) % maxSuspects
		}
		r.suspects = slices.Delete(r.suspects, at, at+1)
	}
	r.suspects = append(r.suspects, s)
}

// work looks at tokens and writes the lines that are due.
func (l *refusalLog) work() {
	now := time.Now()
	var lines [][]slog.Attr
	l.mu.Lock()
	l.timer = nil
	for _, state := range l.kinds {
		if line := state.work(now); line != nil {
			lines = append(lines, line)
		}
		if l.timer == nil && (state.unsaid > 0 || len(state.suspects) > 0) {
			l.timer = time.AfterFunc(lookEvery, l.work)
		}
	}
	l.mu.Unlock()
	for _, line := range lines {
		l.logger.LogAttrs(context.Background(), slog.LevelWarn, "callbacks are refused", line...)
	}
}

// work returns the line that is due, nil when none is.
func (r *refusalState) work(now time.Time) []slog.Attr {
	quiet := !r.said.IsZero() && now.Sub(r.said) < warnEvery
	if r.unsaid == 0 && len(r.suspects) == 0 || quiet && r.signed {
		return nil
	}
	if s, claims := r.look(); s != nil {
		line := r.line(now, true, signedText(r.kind, s, claims))
		r.suspects, r.looked = nil, map[uint64]bool{s.group: true} // next time another, if there is one
		return line
	}
	if r.unsaid == 0 || quiet || len(r.suspects) > 0 && r.checks < looks {
		return nil
	}
	return r.line(now, false, unsignedText(r.kind, r.cause, r.tokens))
}

// look checks the signature of one token, and returns the token when it is good.
// It takes one of the largest group that was not looked at: a wrong configuration
// has the same refused again and again.
func (r *refusalState) look() (*suspect, verify.SignedClaims) {
	r.suspects = slices.DeleteFunc(r.suspects, func(s *suspect) bool { return !s.explain() })
	if len(r.suspects) == 0 {
		return nil, verify.SignedClaims{}
	}
	groups := make(map[uint64]int)
	for _, s := range r.suspects {
		if !r.looked[s.group] {
			groups[s.group]++
		}
	}
	start, best := rand.N(len(r.suspects)), 0
	for n := range r.suspects {
		at := (start + n) % len(r.suspects)
		if n == 0 || groups[r.suspects[at].group] > groups[r.suspects[best].group] {
			best = at
		}
	}
	s := r.suspects[best]
	r.suspects = slices.Delete(r.suspects, best, best+1)
	if r.looked == nil {
		r.looked = make(map[uint64]bool)
	}
	r.looked[s.group] = true
	r.checks++
	claims, good := s.explanation.Signed()
	if !good {
		return nil, verify.SignedClaims{}
	}
	return s, claims
}

// explain reads the token, until that succeeds. It reports false when no key that is
// held can have signed it.
func (s *suspect) explain() bool {
	for _, i := range s.issuers {
		if s.explanation != nil {
			break
		}
		if s.by, s.explanation = i.name, i.verifier.Explain([]string{s.authorization}, s.at); s.explanation != nil {
			s.group = s.explanation.Group()
		}
	}
	return s.explanation != nil
}

// line returns what is logged, and begins a new minute.
func (r *refusalState) line(now time.Time, signed bool, text string) []slog.Attr {
	line := []slog.Attr{slog.String("reason", r.kind.reason), slog.String("route", r.kind.route)}
	if r.code != 0 {
		line = append(line, slog.Int("status", r.code))
	}
	// None is left to count when all were in an earlier line, and only now one of
	// them was found to be signed.
	line = append(line, slog.Int("refused", max(1, r.unsaid)), slog.String("cause", text))
	r.said, r.signed, r.text = now, signed, text
	r.unsaid, r.checks, r.looked, r.tokens = 0, 0, nil, len(r.suspects) > 0
	return line
}

// recently returns what was refused lately.
func (l *refusalLog) recently() (list []Refusals) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, kind := range slices.SortedFunc(maps.Keys(l.kinds), func(a, b refusalKind) int {
		return cmp.Or(cmp.Compare(a.route, b.route), cmp.Compare(a.reason, b.reason))
	}) {
		state := l.kinds[kind]
		if count := state.recent.sum(time.Now()); count > 0 {
			list = append(list, Refusals{kind.route, kind.reason, count, state.text})
		}
	}
	return list
}

// recentCount counts in slots of time, of which the oldest is dropped.
type recentCount struct {
	slots [recentSlots]int
	slot  int64 // the newest, in widths since 1970
}

func (c *recentCount) add(now time.Time) {
	c.drop(now)
	c.slots[c.slot%recentSlots]++
}

func (c *recentCount) sum(now time.Time) (sum int) {
	c.drop(now)
	for _, n := range c.slots {
		sum += n
	}
	return sum
}

// drop empties the slots that are over. A clock that is set back leaves all.
func (c *recentCount) drop(now time.Time) {
	slot := now.UnixNano() / int64(recentWidth)
	for range min(slot-c.slot, recentSlots) {
		c.slot++
		c.slots[c.slot%recentSlots] = 0
	}
	c.slot = max(c.slot, slot)
}
