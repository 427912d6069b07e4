package ingest

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/verify"
)

// maxRecent is how many refusals of each kind are remembered, so that junk of one kind
// does not push out the others: some 200 KiB a kind with the largest tokens.
const maxRecent = 50

// Refused is one refusal, for an operator to look at. It has nothing that the sender
// chose, except what the issuer of its token has signed.
type Refused struct {
	At            time.Time
	Route, Reason string
	Status        int
	Client        netip.Prefix // its /24 of IPv4 or /64 of IPv6; not valid when not known

	// Signed reports that the token has a good signature of Issuer, a name, with these
	// claims. Configured are the audiences that would have been good.
	Signed     bool
	Issuer     string
	Claims     verify.SignedClaims
	Configured []string
}

// Bits of a client's address that are shown.
const (
	shownIPv4 = 24
	shownIPv6 = 64
)

// recentRefusals remembers the newest refusals of each kind. Their tokens are checked
// and forgotten when the list is read.
type recentRefusals struct {
	mu    sync.Mutex
	kinds map[refusalKind][]*recentRefusal // oldest first
}

type recentRefusal struct {
	Refused
	token *refusedToken // nil without one, or once it was checked
}

// add remembers a refusal.
func (r *recentRefusals) add(refused Refused, client netip.Addr, token *refusedToken) {
	entry := &recentRefusal{Refused: refused}
	bits := shownIPv6
	if client.Is4() {
		bits = shownIPv4
	}
	if client.IsValid() {
		entry.Client, _ = client.WithZone("").Prefix(bits)
	}
	if token != nil && len(token.authorization) <= maxTokenSize {
		own := *token // the refusal log changes the other one
		own.authorization = strings.Clone(own.authorization)
		entry.token = &own
	}
	kind := refusalKind{refused.Route, refused.Reason}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kinds == nil {
		r.kinds = make(map[refusalKind][]*recentRefusal)
	}
	list := append(r.kinds[kind], entry)
	if len(list) > maxRecent {
		list = slices.Delete(list, 0, 1)
	}
	r.kinds[kind] = list
}

// list returns what is remembered, newest first.
func (r *recentRefusals) list() (all []Refused) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, list := range r.kinds {
		for _, entry := range list {
			entry.check()
			all = append(all, entry.Refused)
		}
	}
	slices.SortStableFunc(all, func(a, b Refused) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}

// check checks the signature, if the key of the token is at hand.
func (e *recentRefusal) check() {
	if e.token == nil || !e.token.explain() {
		return
	}
	e.Configured = e.token.explanation.ConfiguredAudiences
	if claims, good := e.token.explanation.Signed(); good {
		e.Signed, e.Issuer, e.Claims = true, e.token.issuer, claims
	}
	e.token = nil
}

// RecentRefusals returns the newest refusals, at most 50 for each route and reason,
// newest first.
func (h *Handler) RecentRefusals() []Refused { return h.recentRefusals.list() }
