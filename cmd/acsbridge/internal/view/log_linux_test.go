package view_test

import (
	"bufio"
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

// TestNewLogger_journal checks that each line has the level that the journal
// understands, and none elsewhere.
func TestNewLogger_journal(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			service, journal := bridgetest.JournalStream(t)
			log := func(l *slog.Logger) {
				l = l.With("room", "verify").WithGroup("callback")
				l.Debug("one\ntwo", "a", 1)
				l.Info("one\ntwo", "a", 1)
				l.Warn("one\ntwo", "a", 1)
				l.Error("one\ntwo", "a", 1)
			}
			log(view.NewLogger(service, format, "debug"))
			service.Close()
			var got, want []string
			for lines := bufio.NewScanner(journal); lines.Scan(); {
				level, rest, _ := strings.Cut(lines.Text(), ">")
				got = append(got, level+">")
				if !strings.Contains(rest, "one") || !strings.Contains(rest, "callback") || !strings.Contains(rest, "verify") {
					t.Errorf("line %q", lines.Text())
				}
			}
			if want = []string{"<7>", "<6>", "<4>", "<3>"}; !cmp.Equal(got, want) {
				t.Errorf("levels %q, want %q", got, want)
			}

			// Another stream than the one that systemd connected.
			other, err := os.Create(filepath.Join(t.TempDir(), "log"))
			if err != nil {
				t.Fatal(err)
			}
			log(view.NewLogger(other, format, "debug"))
			other.Close()
			if text, err := os.ReadFile(other.Name()); err != nil || bytes.Contains(text, []byte("<")) {
				t.Errorf("levels in a file:\n%s %v", text, err)
			}
		})
	}
}
