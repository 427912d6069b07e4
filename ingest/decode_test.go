package ingest_test

import (
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/ingest"
)

// TestDecode_otherEncodings: the error names the encoding that was met, which is
// what tools of Windows write by default.
func TestDecode_otherEncodings(t *testing.T) {
	for body, encoding := range map[string]string{
		"\xff\xfe[\x00]\x00": "UTF-16", "\xfe\xff\x00[\x00]": "UTF-16", "\xff\xfe\x00\x00[\x00\x00\x00": "UTF-32",
	} {
		for _, grid := range []bool{false, true} {
			_, err := ingest.Decode(grid, "application/json", []byte(body))
			if err == nil || !strings.HasPrefix(err.Error(), string(ingest.NotUTF8)+": ") || !strings.Contains(err.Error(), encoding) {
				t.Errorf("%q, Event Grid %v: got %v", body, grid, err)
			}
		}
	}
}
