package console

import (
	"net/http"
	"slices"
	"time"
)

// Refusal is a callback that was refused. It has nothing of a token that is not signed.
type Refusal struct {
	At     time.Time
	Route  string // class of its path: callbacks, eventgrid, other
	Reason string
	Status int
	Client string // network of the client: /24 of IPv4, /64 of IPv6

	// Signed reports a token with a good signature. Issuer, Audiences and Skew are its.
	Signed    bool
	Issuer    string
	Audiences []string // GUIDs
	Foreign   bool     // no audience is one that is configured
	Skew      string   // how its dates differ from this host's clock; empty when they do not
}

// RefusalCount are the refusals of the last minutes for one reason.
type RefusalCount struct {
	Route, Reason string
	Count         int
	Text          string // why, and the remedy
}

// maxRefusals is how many the page lists.
const maxRefusals = 100

type refusalsView struct {
	Counts   []RefusalCount
	Refusals []Refusal
	Foreign  []foreignAudience
}

// foreignAudience is the audience of well-signed tokens that is not configured.
type foreignAudience struct {
	ID    string
	Count int
	Last  time.Time
}

func (c *Console) refusalsPage(*http.Request) (*page, error) {
	if c.Bridge == nil {
		return nil, errNotFound
	}
	list, counts := c.Bridge.Refusals()
	v := &refusalsView{Counts: counts, Refusals: list[:min(maxRefusals, len(list))], Foreign: foreignAudiences(list)}
	return &page{
		Title: "Refusals", Template: "refusals", Content: v, Live: "/live",
		Commands: []string{"acsbridge health --admin-token-file FILE"},
	}, nil
}

// foreignAudiences groups the foreign audiences of well-signed tokens, the most frequent
// first. They may be resources of the operator that are not configured.
func foreignAudiences(list []Refusal) (found []foreignAudience) {
	for _, r := range list {
		if !r.Signed || !r.Foreign {
			continue
		}
		for _, id := range r.Audiences {
			found = addForeign(found, id, r.At)
		}
	}
	slices.SortStableFunc(found, func(a, b foreignAudience) int { return b.Count - a.Count })
	return found
}

func addForeign(found []foreignAudience, id string, at time.Time) []foreignAudience {
	for i := range found {
		if found[i].ID == id {
			found[i].Count++
			return found
		}
	}
	return append(found, foreignAudience{ID: id, Count: 1, Last: at})
}
