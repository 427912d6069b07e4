package consume

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// One of two versions with different types works, and it is the one with more of them.
func TestOutranks(t *testing.T) {
	all := []string{}
	order := [][]string{all, {"A", "B", "C"}, {"A", "B"}, {"A", "C"}, {"A"}}
	for i, a := range order {
		for k, b := range order {
			if got, want := outranks(a, b), i < k; got != want {
				t.Errorf("%v outranks %v: %v, want %v", a, b, got, want)
			}
		}
	}
}

func TestWiden(t *testing.T) {
	filter := func(shortType string) string { return "acs.*." + shortType + ".7.*" }
	for _, test := range [][3][]string{
		{{filter("A")}, {filter("A")}, {filter("A")}},
		{{filter("A")}, {filter("A"), filter("B")}, {filter("A"), filter("B")}},
		{{filter("A"), filter("B")}, {filter("B"), filter("C")}, {filter("A"), filter("B"), filter("C")}},
		{{filter("A"), filter("B")}, {filter("*")}, {filter("*")}},
		{{filter("*")}, {filter("A")}, {filter("*")}},
	} {
		if diff := cmp.Diff(test[2], widen(test[0], test[1])); diff != "" {
			t.Errorf("%v and %v: %s", test[0], test[1], diff)
		}
	}
	if want := filters("acs", "7", nil); !slices.Equal(widen(filters("acs", "7", []string{"A"}), want), want) {
		t.Error("a service of all types does not get all")
	}
}

// An event that may be wanted waits until who is there was read after it had come.
func TestReplica_maySkip(t *testing.T) {
	r, now := &replica{}, time.Now()
	r.beatAt = now
	r.surveyed(false)
	if r.maySkip("B", now.Add(1)) {
		t.Error("skipped by an old survey")
	}
	r.beatAt = now.Add(2)
	r.surveyed(true)
	if r.maySkip("B", now.Add(3)) {
		t.Error("skipped by a replica that is outranked")
	}
	r.surveyed(false)
	if !r.maySkip("B", now.Add(4)) {
		t.Error("not skipped, though no replica wants it")
	}
}
