package faults_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// TestOracleJudgesTogether: events of one call that two senders sent are in
// order as far as one was answered before the other was sent.
func TestOracleJudgesTogether(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		sent, answered time.Duration // of the second, after the first was sent; the first takes 10 ms
		bridge         string
		swapped        bool
		want           int
	}{
		"after, in order":              {20 * time.Millisecond, 30 * time.Millisecond, "bridge", false, 0},
		"after, out of order":          {20 * time.Millisecond, 30 * time.Millisecond, "bridge", true, 1},
		"at the same time":             {5 * time.Millisecond, 30 * time.Millisecond, "bridge", true, 0},
		"after, out of two journals":   {20 * time.Millisecond, 30 * time.Millisecond, "other", true, 0},
		"before the first is answered": {9 * time.Millisecond, 12 * time.Millisecond, "bridge", true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := evidence{claims: trueClaims, canary: trueCanary}
			one := newAuthor(1, 0, mix{together: 2}, trueCanary).next()
			two := newAuthor(1, 1, mix{together: 2}, trueCanary).next()
			one.attempts = []attempt{{sent: at, answered: at.Add(10 * time.Millisecond), status: http.StatusOK, bridge: "bridge", token: "1"}}
			two.attempts = []attempt{{sent: at.Add(test.sent), answered: at.Add(test.answered), status: http.StatusOK, bridge: test.bridge, token: "2"}}
			e.calls = [][]*callback{{one}, {two}}
			order := e.calls
			if test.swapped {
				order = [][]*callback{{two}, {one}}
			}
			for _, call := range order {
				e.store(call[0], 0)
			}
			found := judge(e)
			if len(found) != test.want {
				t.Fatalf("%d violations, want %d: %v", len(found), test.want, found)
			}
			if test.want > 0 && found[0].rule != ruleTogether {
				t.Errorf("found %v, want %q", fmt.Sprint(found[0]), ruleTogether)
			}
		})
	}
}
