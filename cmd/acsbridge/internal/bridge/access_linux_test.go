package bridge

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/internal/usertest"
)

// TestBridge_unwritableDataDir checks what is said of a data directory that
// belongs to another user, such as one of the host in the place of a volume.
func TestBridge_unwritableDataDir(t *testing.T) {
	s := onLoopback(t, "--resource=contoso="+testGUID)
	s.DataDir = filepath.Dir(usertest.Unreadable(t, ""))
	if err := os.Chmod(s.DataDir, 0o555); err != nil {
		t.Fatal(err)
	}
	usertest.AsOther(t, func() {
		_, err := New(s, "test", slog.New(slog.DiscardHandler))
		want := fmt.Sprintf("the mode of %s is 0555; give it to that user with chown", s.DataDir)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	})
}
