package acstest

import (
	"cmp"
	"slices"
	"strings"

	"github.com/acsbridge/acsbridge/internal/likeness"
)

// byLikeness returns names with those most like name first. Case does not
// count, and neither does order among equals.
func byLikeness(name string, names []string) []string {
	name = strings.ToLower(name)
	sorted := slices.Clone(names)
	slices.SortStableFunc(sorted, func(a, b string) int {
		return cmp.Compare(likeness.Distance(name, strings.ToLower(a)), likeness.Distance(name, strings.ToLower(b)))
	})
	return sorted
}
