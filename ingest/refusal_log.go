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
	// checkEvery is how often the refusal log works. Each time it checks the signature
	// of at most one token of each kind.
	checkEvery = time.Second
	// checksBeforeLog is how many tokens are checked before a line says that none of
	// them has a good signature, so the first line of a kind is written after so many
	// seconds at the latest.
	checksBeforeLog = 3
	// logEvery is how often a kind of refusal is logged.
	logEvery = time.Minute
	// maxTokens of a kind are kept until they are checked, each of at most
	// maxTokenSize bytes: an eighth of a MiB for each of some thirty kinds. A token of
	// ACS has about 1 KiB.
	maxTokens    = 32
	maxTokenSize = 4 << 10
	// Recent refusals are counted in so many slots of this width.
	recentSlots = 30
	recentWidth = 10 * time.Second
)

// RecentRefusals is the time that [Refusals] counts.
const RecentRefusals = recentSlots * recentWidth

// Refusals are the recent refusals on a route for one reason.
type Refusals struct {
	Route, Reason string
	Count         int
	Text          string // of the last line in the log, empty before the first
}

// refusalKind is what refusals that are logged together have in common. Routes and
// reasons are closed sets, so the number of kinds is bounded.
type refusalKind struct{ route, reason string }

// refusalLog logs that callbacks are refused, and why. A refusal loses an event when
// the configuration is wrong, but most refusals are of junk, which must not fill
// the log. So each kind has a line a minute, and one more when a token with a good
// signature is found after a line about junk.
//
// A timer checks signatures, once a second while there is something to do, so that a
// refused request only costs a counter and the parsing of its token.
type refusalLog struct {
	logger *slog.Logger

	mu    sync.Mutex
	kinds map[refusalKind]*refusalState
	timer *time.Timer // nil while there is nothing to log
}

// refusalState is the state of a kind. The mutex of refusalLog guards it.
type refusalState struct {
	kind   refusalKind
	counts recentCount
	code   int    // of the answer; zero when there was none
	cause  string // of the latest refusal

	// Since the last line:
	unlogged  int             // refusals
	hadTokens bool            // some refusals had a token
	checked   map[uint64]bool // groups of tokens that were checked
	checks    int             // tokens that were checked

	tokens []*refusedToken // to check

	logged     time.Time // when the last line was written
	signed     bool      // it is about a token with a good signature
	loggedText string
}

// refusedToken is a token that may be checked.
type refusedToken struct {
	client        netip.Addr // by edge.LimitKey
	at            time.Time
	authorization string
	cause         string
	issuers       []issuer
	issuer        string // name of the issuer whose key the token names
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

// add counts a refusal. The token is nil when there is none.
func (l *refusalLog) add(kind refusalKind, code int, cause string, token *refusedToken) {
	if token != nil && len(token.authorization) <= maxTokenSize {
		token.authorization = strings.Clone(token.authorization) // not the whole header it is part of
		token.explain()
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
	state.counts.add(time.Now())
	state.code, state.cause = code, cause
	state.unlogged++
	if token != nil {
		token.cause = cause
		state.keep(token)
	}
	if l.timer == nil {
		l.timer = time.AfterFunc(checkEvery, l.work)
	}
}

// keep holds a token until it is checked. When there are too many, a random token is
// dropped of the client and group that have the most, so that junk of one client, or
// equal junk of many clients, does not push out the tokens of others.
func (s *refusalState) keep(token *refusedToken) {
	s.hadTokens = true
	if len(token.authorization) > maxTokenSize {
		return
	}
	if len(s.tokens) == maxTokens {
		clients, groups, most := map[netip.Addr]int{token.client: 1}, map[uint64]int{token.group: 1}, 0
		for _, other := range s.tokens {
			clients[other.client]++
			groups[other.group]++
		}
		weight := func(t *refusedToken) int { return clients[t.client] * groups[t.group] }
		for _, other := range s.tokens {
			most = max(most, weight(other))
		}
		if w := weight(token); w > most || w == most && rand.N(s.unlogged) >= maxTokens {
			return
		}
		at := rand.N(maxTokens)
		for weight(s.tokens[at]) != most {
			at = (at + 1) % maxTokens
		}
		s.tokens = slices.Delete(s.tokens, at, at+1)
	}
	s.tokens = append(s.tokens, token)
}

// work checks tokens and writes the lines that are due.
func (l *refusalLog) work() {
	now := time.Now()
	var lines [][]slog.Attr
	l.mu.Lock()
	l.timer = nil
	for _, state := range l.kinds {
		if line := state.work(now); line != nil {
			lines = append(lines, line)
		}
		if l.timer == nil && (state.unlogged > 0 || len(state.tokens) > 0) {
			l.timer = time.AfterFunc(checkEvery, l.work)
		}
	}
	l.mu.Unlock()
	for _, line := range lines {
		l.logger.LogAttrs(context.Background(), slog.LevelWarn, "callbacks are refused", line...)
	}
}

// work returns the line that is due, nil when none is.
func (s *refusalState) work(now time.Time) []slog.Attr {
	recentlyLogged := !s.logged.IsZero() && now.Sub(s.logged) < logEvery
	if s.unlogged == 0 && len(s.tokens) == 0 || recentlyLogged && s.signed {
		return nil
	}
	if token, claims := s.checkOne(); token != nil {
		line := s.line(now, true, signedText(s.kind, token, claims))
		s.tokens, s.checked = nil, map[uint64]bool{token.group: true} // next time another, if there is one
		return line
	}
	if s.unlogged == 0 || recentlyLogged || len(s.tokens) > 0 && s.checks < checksBeforeLog {
		return nil
	}
	return s.line(now, false, unsignedText(s.kind, s.cause, s.hadTokens))
}

// checkOne checks the signature of one token, and returns the token when it is good.
// It takes one of the largest group that was not checked: with a wrong configuration,
// equal tokens are refused again and again.
func (s *refusalState) checkOne() (*refusedToken, verify.SignedClaims) {
	s.tokens = slices.DeleteFunc(s.tokens, func(t *refusedToken) bool { return !t.explain() })
	if len(s.tokens) == 0 {
		return nil, verify.SignedClaims{}
	}
	groups := make(map[uint64]int)
	for _, t := range s.tokens {
		if !s.checked[t.group] {
			groups[t.group]++
		}
	}
	start, best := rand.N(len(s.tokens)), 0
	for n := range s.tokens {
		at := (start + n) % len(s.tokens)
		if n == 0 || groups[s.tokens[at].group] > groups[s.tokens[best].group] {
			best = at
		}
	}
	token := s.tokens[best]
	s.tokens = slices.Delete(s.tokens, best, best+1)
	if s.checked == nil {
		s.checked = make(map[uint64]bool)
	}
	s.checked[token.group] = true
	s.checks++
	claims, good := token.explanation.Signed()
	if !good {
		return nil, verify.SignedClaims{}
	}
	return token, claims
}

// explain parses the token, until that succeeds. It reports false when none of the
// keys at hand can have signed it.
func (t *refusedToken) explain() bool {
	for _, i := range t.issuers {
		if t.explanation != nil {
			break
		}
		if t.issuer, t.explanation = i.name, i.verifier.Explain([]string{t.authorization}, t.at); t.explanation != nil {
			t.group = t.explanation.Group()
		}
	}
	return t.explanation != nil
}

// line returns what is logged, and begins a new minute.
func (s *refusalState) line(now time.Time, signed bool, text string) []slog.Attr {
	line := []slog.Attr{slog.String("reason", s.kind.reason), slog.String("route", s.kind.route)}
	if s.code != 0 {
		line = append(line, slog.Int("status", s.code))
	}
	// The count is 0 when all were in an earlier line, and one of them is found to be
	// signed only now.
	line = append(line, slog.Int("refused", max(1, s.unlogged)), slog.String("cause", text))
	s.logged, s.signed, s.loggedText = now, signed, text
	s.unlogged, s.checks, s.checked, s.hadTokens = 0, 0, nil, len(s.tokens) > 0
	return line
}

// recent returns the refusals of the last [RecentRefusals].
func (l *refusalLog) recent() (list []Refusals) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, kind := range slices.SortedFunc(maps.Keys(l.kinds), func(a, b refusalKind) int {
		return cmp.Or(cmp.Compare(a.route, b.route), cmp.Compare(a.reason, b.reason))
	}) {
		state := l.kinds[kind]
		if count := state.counts.sum(time.Now()); count > 0 {
			list = append(list, Refusals{kind.route, kind.reason, count, state.loggedText})
		}
	}
	return list
}

// recentCount counts in slots of time. The oldest slot is dropped.
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
