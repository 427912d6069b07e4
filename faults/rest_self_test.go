package faults_test

import (
	"net/http"
	"testing"

	"github.com/acsbridge/acsbridge/schemas"
)

// TestDifferences: metrics that do not match the evidence, except where the bridge cannot
// know.
func TestDifferences(t *testing.T) {
	call := []*callback{
		{kind: good, events: make([]event, 2), attempts: []attempt{{}, {status: http.StatusOK}}},
		{kind: good, events: make([]event, 1), attempts: []attempt{{status: http.StatusServiceUnavailable}, {status: http.StatusOK}}},
		{kind: forged, events: make([]event, 1), attempts: []attempt{{status: http.StatusUnauthorized}}},
	}
	found := evidence{calls: [][]*callback{call}, stream: []*message{
		{stream: schemas.Stream}, {stream: schemas.Stream}, {stream: schemas.Stream}, {stream: schemas.QuarantineStream},
	}}
	const (
		answers = `acsbridge_requests_total{code="`
		stored  = `acsbridge_published_total{outcome="stored",resource="demo"}`
	)
	figures := func(ok, refused, busy, events float64) map[string]float64 {
		return map[string]float64{
			answers + `200",route="callbacks"}`: ok, answers + `401",route="callbacks"}`: refused,
			answers + `503",route="callbacks"}`: busy, stored: events,
			`acsbridge_published_total{outcome="duplicate",resource="demo"}`: 9,
		}
	}
	for name, test := range map[string]struct {
		figures map[string]float64
		want    int
	}{
		"exact":                      {figures(2, 1, 1, 3), 0},
		"an answer was lost":         {figures(3, 1, 1, 3), 0},
		"more answers than attempts": {figures(4, 1, 1, 3), 1},
		"an answer too few":          {figures(1, 1, 1, 3), 1},
		"a refusal too few":          {figures(2, 0, 1, 3), 1},
		"an event too few":           {figures(2, 1, 1, 2), 1},
		"its own repetitions":        {figures(2, 1, 1, 6), 0},
		"events too many":            {figures(2, 1, 1, 7), 1},
		"none":                       {nil, 4},
	} {
		if got := differences(test.figures, found); len(got) != test.want {
			t.Errorf("%s: %d differences, want %d: %q", name, len(got), test.want, got)
		}
	}
}
