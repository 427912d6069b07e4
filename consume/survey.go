package consume

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// view is who is there and who has which slot, as the bucket says.
type view struct {
	share     int    // slots that this replica should have
	outranked bool   // by a replica with more types
	own       uint64 // revision of this replica's own key
	leases    map[string]leaseView
}

// replicaValue is the value of a replica's key.
type replicaValue struct {
	Started time.Time `json:"started"`
	Types   []string  `json:"types"` // that its handler gets, in their order; none means all
}

type leaseView struct {
	revision uint64 // zero: the bucket has none
	free     bool
	replica  string
}

// survey reads the keys of all replicas and leases, in one request.
func (r *replica) survey(ctx context.Context) (*view, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	v := &view{leases: make(map[string]leaseView)}
	for _, slot := range strings.Split(slots, "") {
		v.leases[slot] = leaseView{free: true}
	}
	types := make(map[string][]string) // of each replica
	err := r.bucket.members(ctx, func(first, second string, m *jetstream.RawStreamMsg) {
		gone := removed(m.Header)
		switch {
		case second == "lease":
			var value leaseValue
			if !gone && json.Unmarshal(m.Data, &value) != nil {
				gone = true
			}
			v.leases[first] = leaseView{m.Sequence, gone, value.Replica}
		case !gone:
			var value replicaValue
			if json.Unmarshal(m.Data, &value) != nil {
				return // no replica wrote it
			}
			types[second] = value.Types
			if second == r.id {
				v.own = m.Sequence
			}
		}
	})
	if err != nil {
		return nil, err
	}
	var replicas []string
	for id, own := range types {
		if !slices.ContainsFunc(slices.Collect(maps.Values(types)), func(other []string) bool { return outranks(other, own) }) {
			replicas = append(replicas, id)
		}
	}
	v.outranked = !slices.Contains(replicas, r.id)
	v.share = share(replicas, r.id)
	return v, nil
}

// outranks reports whether replicas with the types a have the slots, and those with the
// types b stand by: in a rolling update that adds a type, the former version would skip its
// events. The order is total, so that there is always one version that works.
func outranks(a, b []string) bool {
	switch {
	case len(a) == 0 || len(b) == 0: // all types
		return len(a) == 0 && len(b) > 0
	case len(a) != len(b):
		return len(a) > len(b)
	}
	return slices.Compare(a, b) < 0
}

// rank is what a replica knows about its rank.
type rank struct {
	mu        sync.Mutex
	at        time.Time // what was written into the bucket before this time has been read
	outranked bool
	unwanted  map[string]time.Time // types that the handler does not get: when one came first
}

// surveyed notes the rank that a survey has found, in which the newest heartbeat was.
func (r *replica) surveyed(outranked bool) {
	r.rank.mu.Lock()
	defer r.rank.mu.Unlock()
	r.rank.at, r.rank.outranked = r.beatAt, outranked
}

// maySkip reports whether this replica may skip an event of a type that its handler does
// not get. A replica that wants the type says that it is there before it adds the type to
// the consumers: so a survey that has begun after the first such event shows it, and the
// event waits for that, or for the next owner of its slot.
func (r *replica) maySkip(shortType string, now time.Time) bool {
	r.rank.mu.Lock()
	defer r.rank.mu.Unlock()
	first, seen := r.rank.unwanted[shortType]
	if !seen && len(r.rank.unwanted) < maxUnwanted {
		if r.rank.unwanted == nil {
			r.rank.unwanted = make(map[string]time.Time)
		}
		first, r.rank.unwanted[shortType] = now, now
	}
	return !r.rank.outranked && r.rank.at.After(first)
}

// maxUnwanted bounds the types that a replica remembers; ACS has some sixty.
const maxUnwanted = 1000

// share returns how many slots a replica should have among those that are there.
func share(replicas []string, id string) int {
	slices.Sort(replicas)
	rank, found := slices.BinarySearch(replicas, id)
	if !found {
		return 0
	}
	n := len(slots) / len(replicas)
	if rank < len(slots)%len(replicas) {
		n++
	}
	return n
}
