package publish_test

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
)

func TestWhatTheStreamHasIsRememberedAndForgottenByTheJournal(t *testing.T) {
	server := natstest.Start(t)
	dir := t.TempDir()
	b := start(t, server.URL(), publish.Options{Dir: dir})
	b.publish("a", 1, 5)
	b.drained()
	b.stop()
	server.Stop()
	b = start(t, server.URL(), publish.Options{Dir: dir})
	if s := b.Status(); s.Waiting != 0 || s.Journal.Records != 1 { // the newest stays
		t.Errorf("%d records wait, the journal has %d", s.Waiting, s.Journal.Records)
	}
}

// What a crash leaves is read from the file.
func TestTheCursorIsSavedWhileTheBridgeRuns(t *testing.T) {
	server := natstest.Start(t)
	dir := t.TempDir()
	b := start(t, server.URL(), publish.Options{Dir: dir})
	b.publish("a", 1, 5)
	natstest.Until(t, func() bool {
		file, err := os.ReadFile(filepath.Join(dir, "journal", "cursor"))
		return err == nil && binary.BigEndian.Uint64(file) == 5
	})
}

func TestAFullJournalTakesEventsAgainOnceTheStreamHasThem(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Journal: journal.Options{MaxBytes: 3500}})
	for n := range 10 {
		natstest.Until(t, func() bool {
			err := b.Publish(context.Background(), claims(t), delivery(), []schemas.Inbound{event("a", n+1)})
			if err != nil && !errors.Is(err, journal.ErrFull) {
				t.Fatal(err)
			}
			return err == nil
		})
	}
	b.drained()
	checkStream(t, server, map[string]int{"a": 10})
}

func TestTheFirstLookAtTheStreamIsToldOnce(t *testing.T) {
	server := natstest.Start(t)
	var told atomic.Int32
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Created: func() { told.Add(1) }})
	b.publish("a", 1, 1)
	b.drained()
	server.Stop()
	b.publish("a", 2, 2) // ends the session
	server.Restart()
	b.drained()
	if n := told.Load(); n != 1 {
		t.Errorf("told %d times", n)
	}
}
