package consume_test

import (
	"fmt"
	"os"
	"testing"
)

// TestMain is also the process of a replica in the fault suite.
func TestMain(m *testing.M) {
	if settings := os.Getenv(replicaVariable); settings != "" {
		if err := runReplica(settings); err != nil {
			fmt.Fprintln(os.Stderr, "replica:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
