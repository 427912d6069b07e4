package acstest

import (
	"cmp"
	"slices"
	"strings"
)

// byLikeness returns names with those most like name first. Case does not
// count, and neither does order among equals.
func byLikeness(name string, names []string) []string {
	name = strings.ToLower(name)
	sorted := slices.Clone(names)
	slices.SortStableFunc(sorted, func(a, b string) int {
		return cmp.Compare(editDistance(name, strings.ToLower(a)), editDistance(name, strings.ToLower(b)))
	})
	return sorted
}

// editDistance counts the bytes to insert, delete or replace to turn a into b
// (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
