package publish_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
)

// The cursor of a journal that is gone must not count for the one that took
// its place, not even when the bridge dies before it has forwarded anything.
func TestACursorOfAnotherJournalSkipsNothing(t *testing.T) {
	server := natstest.Start(t)
	dir := t.TempDir()
	b := start(t, server.URL(), publish.Options{Dir: dir})
	b.publish("a", 1, 20)
	b.drained()
	b.stop()
	logs, err := filepath.Glob(filepath.Join(dir, "journal", "*wal*"))
	if err != nil || len(logs) < 2 {
		t.Fatal(logs, err)
	}
	for _, name := range logs {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	link, err := natsconn.Connect(natsconn.Config{URL: server.URL()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	p, err := publish.Open(publish.Options{Link: link, Dir: dir}) // never runs
	if err != nil {
		t.Fatal(err)
	}
	(&bridge{Publisher: p, t: t}).publish("b", 1, 30)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, server.URL(), publish.Options{Dir: dir})
	b.drained()
	checkStream(t, server, map[string]int{"a": 20, "b": 30})
}
