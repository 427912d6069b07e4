package acstest

import (
	"math"
	"math/bits"
	"time"
)

// A histogram's buckets are at most 1/128 of their value wide, so a quantile
// is at most 0.8 % too high.
const (
	subBits    = 7
	subBuckets = 1 << subBits
	buckets    = (64 - subBits) * subBuckets
)

// histogram counts durations in 57 KiB however many there are: exactly below
// 256 ns, then with each power of two cut into 128 buckets.
type histogram struct {
	counts [buckets]int64
	total  int64
	max    time.Duration
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// quantile returns the smallest bound that q of all durations do not pass.
// Zero when there are none.
func (h *histogram) quantile(q float64) time.Duration {
	rank := int64(math.Ceil(q * float64(h.total)))
	var seen int64
	for i, n := range h.counts {
		if seen += n; n > 0 && seen >= rank {
			return min(upperBound(i), h.max)
		}
	}
	return 0
}

// bucket returns the index of v: its highest eight bits and how far they are
// shifted.
func bucket(v uint64) int {
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// upperBound returns the largest value of a bucket.
func upperBound(i int) time.Duration {
	if i < 2*subBuckets {
		return time.Duration(i)
	}
	shift := i>>subBits - 1
	top := uint64(i - shift<<subBits)
	return time.Duration((top+1)<<shift - 1)
}
