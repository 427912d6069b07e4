// Package suggest finds the name that was probably meant by one with a typing
// error.
package suggest

import "strings"

// Nearest returns the first of the names with the smallest edit distance to name,
// and that distance. Case does not count. Without names it is "" and 0.
func Nearest(name string, names []string) (nearest string, distance int) {
	name = strings.ToLower(name)
	for i, candidate := range names {
		if d := levenshtein(name, strings.ToLower(candidate)); i == 0 || d < distance {
			nearest, distance = candidate, d
		}
	}
	return nearest, distance
}

// levenshtein counts the bytes to insert, delete or replace to turn a into b. It
// computes one row of the table at a time.
func levenshtein(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j]+1, row[j+1]+1, replace)
		}
	}
	return row[len(b)]
}
