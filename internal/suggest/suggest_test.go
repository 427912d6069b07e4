package suggest_test

import (
	"testing"

	"github.com/acsbridge/acsbridge/internal/suggest"
)

func TestNearest(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"lisen", "listen", 1},
		{"kitten", "sitting", 3}, {"ab", "ba", 2}, {"same", "Same", 0},
	} {
		if name, got := suggest.Nearest(test.a, []string{test.b}); name != test.b || got != test.want {
			t.Errorf("%q, %q: got %q, %d, want %d", test.a, test.b, name, got, test.want)
		}
		if name, got := suggest.Nearest(test.b, []string{"far from everything", test.a}); name != test.a || got != test.want {
			t.Errorf("%q, %q: got %q, %d, want %d", test.b, test.a, name, got, test.want)
		}
	}
	if name, distance := suggest.Nearest("a", nil); name != "" || distance != 0 {
		t.Errorf("without names: %q, %d", name, distance)
	}
}
