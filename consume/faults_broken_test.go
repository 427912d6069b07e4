//go:build linux && faults

package consume_test

import (
	"testing"
	"time"
)

// TestFaults_broken runs the fault suite on a package that lacks one of its guards. The
// suite must find that:
//
//	fence   saves are not compared, and a lease that has ended does not matter
//	ack     an event is acknowledged before it is saved
//	order   an event that failed is tried again after those that follow it
//	waits   a new owner does not know the waits
func TestFaults_broken(t *testing.T) {
	for _, guard := range []string{"fence", "ack", "order", "waits"} {
		t.Run(guard, func(t *testing.T) {
			w := newFaultWorld(t, 3, guard)
			w.play(6)
			violations := w.finish(15 * time.Second)
			if len(violations) == 0 {
				t.Fatal("the suite has found nothing")
			}
			t.Logf("%d violations; the first one: %s", len(violations), violations[0])
		})
	}
}
