package consume_test

import (
	"fmt"
	"os"
	"testing"
)

// TestMain is also the process of a replica in the fault suite, and of one whose calls are
// parked.
func TestMain(m *testing.M) {
	if url := os.Getenv(parkedVariable); url != "" {
		runParked(url)
		os.Exit(0)
	}
	if settings := os.Getenv(replicaVariable); settings != "" {
		if err := runReplica(settings); err != nil {
			fmt.Fprintln(os.Stderr, "replica:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
