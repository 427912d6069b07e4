package consume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/synadia-io/orbit.go/jetstreamext"
)

// view is who is there and who has which slot, as the bucket says.
type view struct {
	share  int    // slots that this replica should have
	own    uint64 // revision of this replica's own key
	leases map[string]leaseView
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
	answer, err := jetstreamext.GetLastMsgsFor(ctx, r.js, r.bucket.stream, []string{r.bucket.prefix + "*.lease", r.bucket.prefix + replicaKey("*")})
	if err != nil {
		return nil, err
	}
	var replicas []string
	for m, err := range answer {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read bucket %s: %w", r.bucket.stream, err)
		}
		first, second, _ := strings.Cut(r.bucket.key(m.Subject), ".")
		gone := removed(m.Header)
		switch {
		case second == "lease":
			var value leaseValue
			if !gone && json.Unmarshal(m.Data, &value) != nil {
				gone = true
			}
			v.leases[first] = leaseView{m.Sequence, gone, value.Replica}
		case !gone:
			replicas = append(replicas, second)
			if second == r.id {
				v.own = m.Sequence
			}
		}
	}
	v.share = share(replicas, r.id)
	return v, nil
}

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
