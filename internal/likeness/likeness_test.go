package likeness_test

import (
	"testing"

	"github.com/acsbridge/acsbridge/internal/likeness"
)

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"lisen", "listen", 1},
		{"kitten", "sitting", 3}, {"ab", "ba", 2}, {"same", "same", 0},
	} {
		if got := likeness.Distance(test.a, test.b); got != test.want {
			t.Errorf("%q, %q: got %d, want %d", test.a, test.b, got, test.want)
		}
		if got := likeness.Distance(test.b, test.a); got != test.want {
			t.Errorf("%q, %q: got %d, want %d", test.b, test.a, got, test.want)
		}
	}
}
