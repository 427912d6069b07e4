package schemas_test

import (
	"os"
	"testing"

	"github.com/acsbridge/acsbridge/schemas"
)

// BenchmarkParse reads a message with all its headers: one event of the usual
// kind, and the largest example.
func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"PlayCompleted", "ParticipantsUpdated"} {
		document, err := os.ReadFile("examples/" + name + ".json")
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(document)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := schemas.Parse(headers, document); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
